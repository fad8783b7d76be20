"""The contract of the six parts of a policy: a base class for each, with its one method and its declarations.

A part is a frozen dataclass that derives from its base. Its method is a pure function of its arguments, which are
read-only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from wss.errors import CHECKED
from wss.policies.signals import Signal
from wss.policies.views import LayerView, LoadView, PlacementView, Pool, PredictionView, PrefetchView
from wss.records import BoolArray, FloatArray, IntArray, Plan
from wss.traces.load_history import LoadHistorySpec

How = Literal["blocking", "background"]


class Part(ABC):  # noqa: B024  (its subclasses have one abstract method each)
    """A part of a policy.

    Attributes
    ----------
    signals
        The signals that it reads.
    """

    __pydantic_config__ = CHECKED

    signals: ClassVar[frozenset[Signal]] = frozenset()


class Placement(Part):
    """Places every expert of every layer on at least one die.

    An expert may have several replicas, on different dies or on one. Each replica takes a slot of a die's HBM.
    """

    @property
    def dies_interchangeable(self) -> bool:
        """Whether the dies of its layouts may be renumbered, so that fewer experts move."""
        return False

    @abstractmethod
    def place(self, view: PlacementView) -> IntArray | BoolArray:
        """Return the number of replicas of each expert on each die, [layers, experts, dies].

        The array may be bool if no die holds two replicas of one expert.
        """


class Allocation(Part):
    """Assigns the tokens of one layer run to dies.

    Attributes
    ----------
    local
        Whether each die can derive its own part of the plan, so that no planning time is charged.
    """

    local: ClassVar[bool] = False

    @abstractmethod
    def allocate(self, view: LayerView) -> Plan:
        """Return tasks that cover every token once, each (expert, die) at most once; `copy` is all False."""


class Prediction(Part):
    """Selects the remote experts worth a copy, among those that a die reads now.

    Attributes
    ----------
    half_life
        Steps after which a transition counts half in `Signal.DECAYED_TRANSITIONS`.
    """

    half_life: float = 1.0

    @abstractmethod
    def predict(self, view: PredictionView) -> BoolArray:
        """Return the tasks whose expert is fetched and predicted to be used again by their die, bool [tasks]."""


class Forecasting(Prediction):
    """A prediction that also forecasts use, for caching rules that read `Signal.EXPECTED_TOKENS`."""

    @abstractmethod
    def expected_tokens(self, view: PredictionView) -> FloatArray:
        """Return the predicted use of each expert on each die in the layer's next layer run, [dies, experts]."""


class Caching(Part):
    """Selects copies of one die to evict.

    Attributes
    ----------
    pins_reads
        Whether copies that the current layer run reads are excluded from the pool, so that they are not overwritten
        meanwhile. Only an oracle that serves as a bound may set False.
    """

    pins_reads: ClassVar[bool] = True

    @abstractmethod
    def evict(self, pool: Pool, count: int) -> IntArray:
        """Return the indices in the *pool* of *count* copies to evict, or not to write."""


class Prefetching(Part):
    """Selects the experts of the next layer that a die should have in its LLC."""

    @abstractmethod
    def prefetch(self, view: PrefetchView) -> IntArray:
        """Return experts of the next layer for each die, highest priority first, padded with -1, [dies, any]."""


class Rebalancing(Part):
    """Decides before each decode step whether to place experts again, and by which load.

    Attributes
    ----------
    how
        How weights move: the step waits until all have moved ("blocking"), or they use the HBM and link bandwidth that
        layer runs leave ("background").
    gain
        Share of the largest die's time by which a layer has to improve to be moved; 0: any layer that changes.
    """

    how: How = "blocking"
    gain: float = 0.0

    def load_history(self) -> LoadHistorySpec | None:
        """Return the load history whose loads `rebalance` is given, if any."""
        return None

    @abstractmethod
    def rebalance(self, view: LoadView) -> IntArray | None:
        """Return the load to place by, [layers, experts], or None to leave experts where they are."""
