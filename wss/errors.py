"""What a user can have done wrong, as one tree of exceptions.

Every error carries one line a fault: what is wrong, where, and what would be right. The command line prints those
lines and exits with code 2; it never shows a traceback for one of these.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import Any

# How pydantic checks a specification (`__pydantic_config__`): no unknown keys, no conversions, no infinities.
CHECKED = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


class WssError(Exception):
    """Something the user can mend; *faults* holds one line each."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class OldSpellingWarning(FutureWarning):
    """A name is read that is spelt otherwise now; the command line prints it as a note."""


class ConfigError(WssError):
    """The experiment file, or a setting on the command line, does not describe an experiment."""


class TraceError(WssError):
    """A routing trace cannot be read, is damaged, or does not fit the model."""


class CapacityError(WssError):
    """The expert weights do not fit the wafer's HBM."""


class OutputError(WssError):
    """A result cannot be written where it was asked to be."""


def of_sound_fields(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """Decorate a ``__post_init__`` that compares fields: it finds nothing where a field is of a wrong type.

    Python does not check types of fields. `Experiment` does, and names the field; a comparison would fail before, and
    so would a division by a field that is zero.
    """

    @functools.wraps(check)
    def checked(specification: Any) -> None:
        try:
            check(specification)
        except (TypeError, LookupError, AttributeError, ArithmeticError):
            return

    return checked


def did_you_mean(name: object, choices: Iterable[str], *, list_up_to: int = 12) -> str:
    """What would be right instead of *name*: the closest of *choices*, or the whole list when it is short."""
    names = sorted(choices)
    if not names:
        return "there is none to give"
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(names) <= list_up_to:
        return "known: " + ", ".join(names)
    return "known: " + ", ".join(names[:list_up_to]) + ", ..."
