"""The settings of an experiment as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypedDict

from wss.config import Experiment
from wss.config.overrides import Setting, python_settings
from wss.engine.specs import AllToAllSpec, NetworkSpec
from wss.errors import ConfigError
from wss.hardware import FaultSpec, SystemSpec
from wss.models import ModelShape, Precision
from wss.policies import Policy
from wss.traces.source import TraceFile
from wss.traces.synthetic.spec import SynthSpec

Written = Mapping[str, Any]  # an object written out as in a configuration, such as {"preset": "dojo", "mesh": [6, 4]}
ExperimentSource = str | PathLike[str] | Written | Experiment
MoreSettings = Written | Sequence[str]


class Settings(TypedDict, total=False):
    """The settings, by the keys of a configuration.

    A value has the form of a configuration: text, such as ``"20 us"`` or the name of a preset, numbers, lists and
    mappings. A factor such as ``"2x"`` multiplies the value that it replaces. An object, such as a `Policy`, may be
    given in place of the name of a preset or a mapping.
    """

    model: str | PathLike[str] | Written | ModelShape
    wafer: str | Written | SystemSpec
    trace: Written | SynthSpec | TraceFile
    precision: str | Written | Precision
    batch: int | str
    steps: int | str
    layers: Sequence[int] | str | Written
    network: str | Written | NetworkSpec
    gemm: str
    layer_overhead: str
    engine: str
    physics: str
    window: int | str
    policies: Sequence[str | Written | Policy]
    baseline: str
    seed: int
    replications: int
    faults: Written | FaultSpec | None
    dispatch: str | Written | AllToAllSpec | None
    planning: str


def all_settings(keywords: Mapping[str, Any], settings: MoreSettings) -> list[Setting]:
    """Return the changes by keyword, then *settings*, which may be of parts. Raises ConfigError if one is none."""
    return [*python_settings(keywords), *python_settings(settings)]


def path_of(value: Any, what: str) -> Path:
    """Return *value*, text or a path, as a path; *what* is its name in messages. Raises ConfigError for others."""
    if isinstance(value, str | PathLike) and isinstance(fspath(value), str):
        return Path(value)
    raise ConfigError(f"{what}: {value!r:.60} is not right; give a path")


def count_of(value: Any, what: str) -> int:
    """Return *value*, a number of at least 1; *what* is its name in messages. Raises ConfigError for others."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise ConfigError(f"{what}: {value!r:.60} is not right; give a whole number from 1 to 1024")
