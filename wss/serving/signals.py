"""Routing signals for a policy's prediction, caching and prefetching, as each declares in `needs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from wss.errors import ConfigError
from wss.policies import Policy
from wss.policies.caching import CACHING_NEEDS
from wss.policies.prediction import PREDICTION_NEEDS
from wss.policies.prefetching import PREFETCHING_NEEDS, followers
from wss.policies.validation import checked_expected, checked_number
from wss.records import BoolArray, FloatArray, IntArray, Plan
from wss.serving.heatmap_counters import FullCounters
from wss.serving.policy_host import PolicyHost
from wss.traces import LayerTokens

_KINDS = {
    "prediction": ("pairs", PREDICTION_NEEDS),
    "caching": ("nothing", CACHING_NEEDS),
    "prefetching": ("tokens", PREFETCHING_NEEDS),
}


def needs_of(policy: Policy, part: str) -> str:
    """Return the signal that *part* of the policy needs.

    Raises
    ------
    ConfigError
        If there is no such signal.
    """
    usual, known = _KINDS[part]
    needs = getattr(getattr(policy, part), "needs", usual)
    if needs not in known:
        raise ConfigError(f"policy {policy.name}: its {part} needs {needs!r}; it should be one of {', '.join(known)}")
    return str(needs)


def asks_for_pairs(policy: Policy) -> bool:
    """Whether the policy's prediction uses transitions between experts of one layer."""
    return needs_of(policy, "prediction") in ("pairs", "prefill", "decayed")


def asks_for_layers(policy: Policy) -> bool:
    """Whether the policy's prefetching uses transitions from one layer to the next."""
    return needs_of(policy, "prefetching") == "layers"


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
    """Signals for one policy, layer run by layer run in the order of time.

    Parameters
    ----------
    policy, ask
        The policy, whose parts declare what they need, and the host that calls them.
    num_layers, num_dies
        Number of layers run, and of dies.
    future
        Builds the oracle's future; called on first use.

    Raises
    ------
    ConfigError
        If a part needs a signal that does not exist.
    """

    def __init__(
        self, policy: Policy, ask: PolicyHost, num_layers: int, num_dies: int, future: Callable[[], DecodeOracle]
    ) -> None:
        self._policy, self._ask, self._num_layers, self._num_dies = policy, ask, num_layers, num_dies
        self._heat_needs, self._caching_needs = needs_of(policy, "prediction"), needs_of(policy, "caching")
        self._prefetching_needs = needs_of(policy, "prefetching")
        self._future_of = future
        if self._heat_needs == "decayed":
            half_life = getattr(policy.prediction, "half_life", 1.0)
            what = f"policy {policy.name}: its prediction's half_life"
            self._half_life = checked_number(half_life, what, above_zero=True)
        self._full = FullCounters()
        self._kept: dict[int, Any] = {}  # by layer: transitions of the prefill, or decayed transitions
        self._before: dict[int, IntArray] = {}  # by layer: all transitions up to the previous step
        if self._caching_needs == "expected" and not callable(getattr(policy.prediction, "expected", None)):
            raise ConfigError(
                f"policy {policy.name}: its caching asks how much is expected of each expert, which its prediction "
                "does not tell; give prediction: token_heatmap, or another with a method 'expected'"
            )

    def notes(self, places: Sequence[int]) -> list[str]:
        """Return notes for the reader; *places* are the indices of the layers run among all MoE layers."""
        name, notes = self._policy.name, []
        parts = [part for part in ("prediction", "caching") if needs_of(self._policy, part) == "next"]
        if parts:
            notes.append(
                f"{name} is an oracle, no policy (its {' and '.join(parts)}): it sees the decode steps to come, "
                "planned as if nobody held copies and experts stayed where they are placed first"
            )
        if self._heat_needs == "prefill" and not any(heat.any() for heat in self._kept.values()):
            notes.append(f"{name}: there is no prefill to predict by, so nothing is predicted")
        notes += self._full.notes(name)
        if self._prefetching_needs == "layers" and any(after - at != 1 for at, after in pairwise(places)):
            notes.append(f"{name} prefetches for the next layer that is run, which is not always the model's next")
        return notes

    def heat(self, layer_run: LayerTokens) -> IntArray | FloatArray:
        """Return the prediction's signal, read-only."""
        shown: IntArray | FloatArray = layer_run.heat
        if self._heat_needs == "next":
            shown = self._oracle.next_step(layer_run)
        elif self._heat_needs == "nothing":
            shown = np.zeros_like(layer_run.heat)
        elif self._heat_needs == "prefill":
            shown = self._of_prefill(layer_run)
        elif self._heat_needs == "decayed":
            shown = self._decayed(layer_run)
        if self._heat_needs in ("pairs", "prefill"):
            self._full.take(layer_run.layer, shown)
        view = shown.view()
        view.flags.writeable = False
        return view

    def foreseen(self, layer_run: LayerTokens, plan: Plan, heat: IntArray | FloatArray) -> FloatArray | None:
        """Return the caching rule's signal for the layer's experts, [dies, experts]; None if it needs none."""
        if self._caching_needs == "nothing":
            return None
        if self._caching_needs == "next":
            return self._oracle.next_use(layer_run)
        question = self._policy.prediction.expected  # type: ignore[attr-defined]
        answer = self._ask("prediction", question, heat, plan, self._num_dies)
        return checked_expected(answer, (self._num_dies, len(layer_run.counts)), self._policy.name)

    def next_layer(self, layer_run: LayerTokens) -> IntArray | FloatArray:
        """Return the prefetching's signal for the next layer's experts, [experts]."""
        if self._prefetching_needs == "tokens" or layer_run.next_heat is None:
            return layer_run.next_seen
        return followers(layer_run.counts, layer_run.next_heat, layer_run.next_seen)

    @cached_property
    def _oracle(self) -> DecodeOracle:
        return self._future_of()

    def _of_prefill(self, layer_run: LayerTokens) -> IntArray:
        """Return the transitions of the prefill so far, or of all of it in decode; zeros without a prefill."""
        if layer_run.step == 0:
            self._kept[layer_run.layer] = layer_run.heat.copy()
        elif layer_run.layer not in self._kept:
            self._kept[layer_run.layer] = np.zeros_like(layer_run.heat)
        pairs: IntArray = self._kept[layer_run.layer]
        return pairs

    def _decayed(self, layer_run: LayerTokens) -> FloatArray:
        """Return the transitions so far; those of n steps ago are weighted by 2^(-n / half-life)."""
        before, kept = self._before.get(layer_run.layer), self._kept.get(layer_run.layer)
        if before is None:
            self._before[layer_run.layer] = layer_run.heat.copy()
            self._kept[layer_run.layer] = layer_run.heat.astype(np.float64)
        else:
            kept *= 0.5 ** (1.0 / self._half_life)
            kept += layer_run.heat - before
            before[:] = layer_run.heat
        decayed: FloatArray = self._kept[layer_run.layer]
        return decayed
