"""Signals: what a part of a policy may see beside the state of its layer run, if it declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


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
    """A view with the signals that a part declared; reading another one raises LookupError.

    Attributes
    ----------
    signals
        Read-only arrays by signal; each is also a field of the view, under the signal's name.
    """

    signals: Mapping[Signal, Any] = field(default_factory=dict)

    def signal(self, signal: Signal) -> Any:
        """Return the array of *signal*."""
        if signal not in self.signals:
            raise LookupError(
                f"the view's {signal.value} was not declared; add Signal.{signal.name} to `signals` of the class"
            )
        return self.signals[signal]
