"""Signals: statistics of routing that a part of a policy may read if it declares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

Array = TypeVar("Array")


class Signal(Enum):
    """A signal, under the name of its field in a view. Parts declare those that they read; only these are counted."""

    PREFILL_LOAD = "prefill_load"
    COACTIVATION = "coactivation"
    DECODE_LOAD = "decode_load"
    TRANSITIONS = "transitions"
    PREFILL_TRANSITIONS = "prefill_transitions"
    DECAYED_TRANSITIONS = "decayed_transitions"
    NEXT_STEP = "next_step"
    EXPECTED_TOKENS = "expected_tokens"
    NEXT_USE = "next_use"
    POPULARITY = "popularity"
    LAYER_TRANSITIONS = "layer_transitions"


FUTURE = frozenset({Signal.DECODE_LOAD, Signal.NEXT_STEP, Signal.NEXT_USE})  # a part that sees these is an oracle


@dataclass(frozen=True, eq=False, kw_only=True)
class SignalView:
    """A view with *signals*, read-only arrays by signal: those that a part declared."""

    signals: Mapping[Signal, Any] = field(default_factory=dict)


class SignalField(Generic[Array]):
    """A field of a view with the array of *signal*; reading one that was not declared raises LookupError."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    def __get__(self, view: SignalView, owner: type) -> Array:
        name, signal = self._signal.value, self._signal
        if signal not in view.signals:
            raise LookupError(f"the view's {name} was not declared; add Signal.{signal.name} to `signals` of the class")
        array: Array = view.signals[signal]
        return array
