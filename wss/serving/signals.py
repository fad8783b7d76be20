"""Routing signals for a policy's prediction, caching and prefetching, as each declares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from wss.errors import ConfigError
from wss.policies import Forecasting, Policy, PredictionView, PrefetchView, Signal
from wss.policies.signals import FUTURE
from wss.policies.validation import sealed, validate_number
from wss.records import BoolArray, FloatArray, IntArray, Plan
from wss.serving.heatmap_counters import FullCounters
from wss.serving.policy_host import PolicyHost
from wss.traces import LayerTokens

TRANSITIONS = frozenset({Signal.TRANSITIONS, Signal.PREFILL_TRANSITIONS, Signal.DECAYED_TRANSITIONS})


def reads_transitions(policy: Policy) -> bool:
    """Whether the policy's prediction reads transitions between experts of one layer."""
    return bool(policy.prediction.signals & TRANSITIONS)


def reads_layer_transitions(policy: Policy) -> bool:
    """Whether the policy's prefetching reads transitions from one layer to the next."""
    return Signal.LAYER_TRANSITIONS in policy.prefetching.signals


class DecodeOracle:
    """Experts that each die computes in future decode steps; only for oracles.

    Plans are those of the allocation without copies. They are exact for allocations that ignore holders (in turn, home,
    chunked), and approximate for the others.

    Parameters
    ----------
    layer_runs
        All layer runs of the run.
    planned
        Plans a layer run without copies.
    num_layers, num_dies
        Number of layers run, and of dies.
    """

    def __init__(
        self, layer_runs: list[LayerTokens], planned: Callable[[LayerTokens], Plan], num_layers: int, num_dies: int
    ) -> None:
        steps, num_experts = max(layer_run.step for layer_run in layer_runs), len(layer_runs[0].counts)
        used: BoolArray = np.zeros((steps + 2, num_layers, num_dies, num_experts), np.bool_)
        for layer_run in layer_runs:
            if layer_run.step > 0:
                plan = planned(layer_run)
                used[layer_run.step, layer_run.layer, plan.die, plan.expert] = True
        self._used, self._num_layers = used, num_layers
        self._never = steps + 1
        self._next = np.full(used.shape, self._never, np.int32)  # the next step after this one that uses the expert
        for step in range(steps, -1, -1):
            self._next[step] = np.where(used[step + 1], step + 1, self._next[step + 1])

    def next_step(self, layer_run: LayerTokens) -> IntArray:
        """Return which experts of the layer each die computes in the next step, [dies, experts], 0 or 1."""
        computes: IntArray = self._used[layer_run.step + 1, layer_run.layer].astype(np.int64)
        return computes

    def next_use(self, layer_run: LayerTokens) -> FloatArray:
        """Return the serial number of the next layer run in which each die computes each expert, [dies, experts].

        Infinite if there is none.
        """
        step = self._next[layer_run.step, layer_run.layer]
        number: FloatArray = np.where(step == self._never, np.inf, step * float(self._num_layers) + layer_run.layer)
        return number


class SignalProvider:
    """Views with the signals that the parts of one policy declare, layer run by layer run in the order of time.

    Parameters
    ----------
    policy, host
        The policy, whose parts declare what they read, and the host that calls them.
    num_layers, num_dies
        Number of layers run, and of dies.
    future
        Builds the oracle's future; called on first use.

    Raises
    ------
    ConfigError
        If the caching rule reads what the prediction does not forecast, or a half-life is not valid.
    """

    def __init__(
        self, policy: Policy, host: PolicyHost, num_layers: int, num_dies: int, future: Callable[[], DecodeOracle]
    ) -> None:
        self._policy, self._host, self._num_layers, self._num_dies = policy, host, num_layers, num_dies
        self._future = future
        prediction = policy.prediction
        if Signal.DECAYED_TRANSITIONS in prediction.signals:
            what = f"policy {policy.name}: its prediction's half_life"
            self._half_life = validate_number(prediction.half_life, what, above_zero=True)
        self._full = FullCounters()
        self._prefill: dict[int, IntArray] = {}  # by layer: transitions of the prefill
        self._decayed: dict[int, FloatArray] = {}  # by layer: decayed transitions
        self._before: dict[int, IntArray] = {}  # by layer: all transitions up to the previous step
        if Signal.EXPECTED_TOKENS in policy.caching.signals and not isinstance(prediction, Forecasting):
            raise ConfigError(
                f"policy {policy.name}: its caching reads the expected tokens of each expert, which its prediction "
                "does not forecast; give prediction: token_heatmap, or another that forecasts"
            )

    def notes(self, indices: Sequence[int]) -> list[str]:
        """Return notes for the reader; *indices* are those of the layers run among all MoE layers."""
        policy, notes = self._policy, []
        oracles = {"prediction": policy.prediction.signals & FUTURE, "caching": policy.caching.signals & FUTURE}
        parts = [part for part, future in oracles.items() if future]
        if parts:
            notes.append(
                f"{policy.name} is an oracle, not a real policy (its {' and '.join(parts)}): it uses "
                "future decode steps, planned as if no die held copies and experts stayed where they are placed first"
            )
        by_prefill = Signal.PREFILL_TRANSITIONS in policy.prediction.signals
        if by_prefill and not any(counts.any() for counts in self._prefill.values()):
            notes.append(f"{policy.name}: there is no prefill to predict by, so nothing is predicted")
        notes += self._full.notes(policy.name)
        if reads_layer_transitions(policy) and any(after - at != 1 for at, after in pairwise(indices)):
            notes.append(
                f"{policy.name} prefetches for the next layer that is run, which is not always the model's next"
            )
        return notes

    def prediction_view(self, layer_run: LayerTokens, plan: Plan) -> PredictionView:
        """Return what the prediction is shown of *layer_run* and its *plan*."""
        values = {signal: _read_only(self._value(signal, layer_run)) for signal in self._policy.prediction.signals}
        for signal in values.keys() & {Signal.TRANSITIONS, Signal.PREFILL_TRANSITIONS}:
            self._full.take(layer_run.layer, values[signal])
        return PredictionView(signals=values, plan=plan, num_experts=len(layer_run.counts), num_dies=self._num_dies)

    def caching_signals(self, layer_run: LayerTokens, view: PredictionView) -> dict[Signal, FloatArray]:
        """Return the caching rule's signals for the layer's experts, [dies, experts] each."""
        values: dict[Signal, FloatArray] = {}
        if Signal.NEXT_USE in self._policy.caching.signals:
            values[Signal.NEXT_USE] = self._oracle.next_use(layer_run)
        if Signal.EXPECTED_TOKENS in self._policy.caching.signals:
            values[Signal.EXPECTED_TOKENS] = self._host.expected_tokens(view)
        return values

    def prefetch_view(self, layer_run: LayerTokens, holders: BoolArray, slots: int) -> PrefetchView:
        """Return what the prefetching is shown after *layer_run*; *holders* are those of the next layer."""
        values = {signal: _read_only(self._value(signal, layer_run)) for signal in self._policy.prefetching.signals}
        return PrefetchView(signals=values, counts=sealed(layer_run.counts), holders=sealed(holders), slots=slots)

    def _value(self, signal: Signal, layer_run: LayerTokens) -> IntArray | FloatArray:
        """Return the array of *signal* at the start of *layer_run*."""
        if signal is Signal.NEXT_STEP:
            return self._oracle.next_step(layer_run)
        if signal is Signal.PREFILL_TRANSITIONS:
            return self._of_prefill(layer_run)
        if signal is Signal.DECAYED_TRANSITIONS:
            return self._with_decay(layer_run)
        if signal is Signal.POPULARITY:
            return layer_run.next_load
        if signal is Signal.LAYER_TRANSITIONS:
            assert layer_run.layer_transitions is not None  # the routing source counts them for such a policy
            return layer_run.layer_transitions
        return layer_run.transitions

    @cached_property
    def _oracle(self) -> DecodeOracle:
        return self._future()

    def _of_prefill(self, layer_run: LayerTokens) -> IntArray:
        """Return the transitions of the prefill so far, or of all of it in decode; zeros without a prefill."""
        if layer_run.step == 0:
            self._prefill[layer_run.layer] = layer_run.transitions.copy()
        return self._prefill.setdefault(layer_run.layer, np.zeros_like(layer_run.transitions))

    def _with_decay(self, layer_run: LayerTokens) -> FloatArray:
        """Return the transitions so far; those of n steps ago are weighted by 2^(-n / half-life)."""
        before, decayed = self._before.get(layer_run.layer), self._decayed.get(layer_run.layer)
        if before is None or decayed is None:
            self._before[layer_run.layer] = layer_run.transitions.copy()
            self._decayed[layer_run.layer] = layer_run.transitions.astype(np.float64)
        else:
            decayed *= 0.5 ** (1.0 / self._half_life)
            decayed += layer_run.transitions - before
            before[:] = layer_run.transitions
        return self._decayed[layer_run.layer]


def _read_only(array: IntArray | FloatArray) -> IntArray | FloatArray:
    """Return a read-only view of *array*, which may be large."""
    view = array.view()
    view.flags.writeable = False
    return view
