"""User errors, as one tree of exceptions.

An error has one line per fault: where it is, what is wrong, and how to fix it. The command line prints these lines and
exits with code 2; it never shows a traceback for them.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import Any

# The pydantic configuration of a specification (`__pydantic_config__`): no unknown keys, conversions or infinities.
CHECKED = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
SHORTEST = 4  # letters with which a name is recognised by its beginning


class WssError(Exception):
    """An error the user can fix; *faults* holds one line each."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class OldSpellingWarning(FutureWarning):
    """An outdated spelling of a name was read; the command line prints this as a note."""


class ConfigError(WssError):
    """The experiment file, or a setting on the command line, does not describe an experiment."""


class UnknownNameError(ConfigError, KeyError):
    """There is no preset, policy or figure of that name; in Python also a KeyError."""

    __str__ = Exception.__str__  # KeyError's quotes the message


class TraceError(WssError):
    """A routing trace cannot be read, is damaged, or does not match the model."""


class KernelError(WssError):
    """A file of measured kernels cannot be read, is damaged, or does not fit the kernel models."""


class CapacityError(WssError):
    """Experts, copies and buffers do not fit the wafer's HBM, or a simulation does not fit this machine's memory."""


class OutputError(WssError):
    """A result cannot be written to the requested place."""


def of_sound_fields(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """Decorate a ``__post_init__`` that compares fields: it reports nothing if a field has a wrong type.

    Python does not check the types of fields. `Experiment` does, and names the field. Without this decorator, the
    comparison would raise first, and so would a division by a field that is zero.
    """

    @functools.wraps(check)
    def checked(specification: Any) -> None:
        try:
            check(specification)
        except (TypeError, LookupError, AttributeError, ArithmeticError):
            return

    return checked


def _in_order(names: Iterable[str]) -> list[str]:
    """Return *names* sorted: by value if all are numbers."""
    names = sorted(names)
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def did_you_mean(name: object, choices: Iterable[str], *, list_up_to: int = 12) -> str:
    """Return a suggestion instead of *name*: a choice that begins with it, the closest, or all of them."""
    names = _in_order(choices)
    if not names:
        return "there are no choices"
    begun = [known for known in names if len(str(name)) >= SHORTEST and known.startswith(str(name))]
    begun.sort(key=len)
    close = begun or difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(names) <= list_up_to:
        return "known: " + ", ".join(names)
    return "known: " + ", ".join(names[:list_up_to]) + ", ..."
