"""What a kind of table is: its columns, its families, its models, and which parameters apply to which rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from wss.hardware.kernels import Device
from wss.records import FloatArray
from wss.traces.columns import LONGEST, Columns, Layout, Number

TIME_US = Number(1e-6, LONGEST, whole=False)
FLAGS = ("impossible", "untuned", "l2_warm")  # columns that say what is wrong with a measurement
FITTED_ON = "hopper"  # the generation of the GPU whose measurements parameters are fitted to, unless a rule says

BLACKWELL = "blackwell"


def note_of(parameters: str, blackwell: str, device: Device) -> str | None:
    """Return a note if *parameters* are used on a *device* of another generation than that of their measurements.

    *blackwell* is the name of the set that is meant for Blackwell, if any.
    """
    meant = BLACKWELL if parameters == blackwell and blackwell else FITTED_ON
    if meant == FITTED_ON == device.generation:
        return None
    generation = "a wafer" if device.generation == "die" else device.generation.capitalize()
    if meant == device.generation:
        return f"{device.name}: {parameters} is meant for it; not validated on {generation}"
    how = "is meant for" if meant == BLACKWELL else "was fitted on"
    return (
        f"{device.name}: {parameters} {how} {meant.capitalize()} and is scaled by peaks; not validated on {generation}"
    )


@dataclass(frozen=True)
class Rule:
    """Which *parameters* apply to which rows.

    Attributes
    ----------
    parameters
        Name of a set of parameters.
    words
        Patterns by text column, such as ``*fp8*``; a row matches one of them in each column, in lower case.
    generation
        The generation of the device; "": any.
    stand_in
        The parameters are those of another framework or kernel, for want of better ones.
    """

    parameters: str
    words: Mapping[str, Sequence[str]]
    generation: str = ""
    stand_in: bool = False

    def fits(self, values: Mapping[str, str], generation: str) -> bool:
        """Whether the rule is for rows of these *values*, by text column, on a device of this *generation*."""
        return self.generation in ("", generation) and all(
            any(fnmatchcase(values[name].lower(), word) for word in words) for name, words in self.words.items()
        )


@dataclass(frozen=True)
class Kind:
    """One kind of table.

    Attributes
    ----------
    name
        As in the packs, such as "gemm".
    layout
        Its columns.
    family
        Text columns; rows that agree in all of them are a family.
    chosen_by
        Text columns that *rules* read.
    rules
        The first that fits gives a row's parameters; without one, there is no model of the row.
    seconds
        Returns the times of rows, [rows], on a device with the parameters of that name; NaN where there is no model.
        It may raise ConfigError if there is none for any row.
    derived
        Returns the columns with text columns that *family* and *rules* read and the file does not have.
    shape
        Columns of a shape, for the fastest kernel of each shape; none if there is no such figure.
    least_s
        If given, the least time of rows on a device, [rows]; what was measured in less is impossible.
    repeats
        If given, only the fastest of the rows that agree in these columns counts.
    kernels
        If given, every kernel in a file of this kind contains one of these words.
    """

    name: str
    layout: Layout
    family: tuple[str, ...]
    chosen_by: tuple[str, ...]
    rules: Sequence[Rule]
    seconds: Callable[[Columns, Device, str], FloatArray]
    derived: Callable[[Columns], Columns] = field(default=lambda columns: columns)
    shape: tuple[str, ...] = ()
    least_s: Callable[[Columns, Device], FloatArray] | None = None
    repeats: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    def rule_of(self, values: Mapping[str, str], generation: str) -> Rule | None:
        """Return the rule for rows of these *values* of `chosen_by` on a device of this *generation*."""
        return next((rule for rule in self.rules if rule.fits(values, generation)), None)
