"""What an importer gives: files in order, what the trace will be, and how one file is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.models import ModelShape
from wss.traces.schema import LARGEST_NUMBER, RequestRouting, TraceMeta

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What the user says of files that do not say it themselves; None where nothing was said.

    Attributes
    ----------
    model
        Which model routed.
    num_experts, top_k, moe_layers
        Its shape, for a model without a preset.
    """

    model: ModelShape | None = None
    num_experts: int | None = None
    top_k: int | None = None
    moe_layers: tuple[int, ...] | None = None

    @property
    def experts(self) -> int | None:
        """Experts of a layer that the router chooses among, if known."""
        return self.num_experts or (self.model.num_choices if self.model else None)


class Read(NamedTuple):
    """What one file gave: its requests, and remarks such as "last decode tokens dropped, being cut off"."""

    requests: list[RequestRouting]
    remarks: list[str]
    benchmark: str = ""
    subject: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files of a recorded trace, in the order they are read.

    Attributes
    ----------
    files, meta
        The files, and the metadata known before reading them all.
    read
        Reads one file; may be sent to another process. Raises TraceError, which names the file.
    remarks
        How often each remark was made in the last reading.
    """

    files: tuple[Path, ...]
    meta: TraceMeta
    read: Callable[[Path], Read]
    remarks: Counter[str] = field(default_factory=Counter)

    def requests(self, on_file: Callable[[Path], None] | None = None) -> Iterator[RequestRouting]:
        """Yield the requests, one file after another; *on_file* is told of each file that has been read."""
        self.remarks.clear()
        for path in self.files:
            read = self.read(path)
            self.remarks.update(read.remarks)
            yield from read.requests
            if on_file is not None:
                on_file(path)

    def finish(self, meta: TraceMeta) -> TraceMeta:
        """Return *meta* with the remarks, which are known once all files are read."""
        said = "".join(f"; {count} {remark}" for remark, count in sorted(self.remarks.items()))
        return replace(meta, note=meta.note + said)


def found_files(path: Path, endings: tuple[str, ...], what: str) -> tuple[Path, ...]:
    """Return *path*, or the files below it that end so, by folder and then by number, else name.

    Raises
    ------
    TraceError
        If there is none.
    """
    if not path.exists():
        raise TraceError(f"{path}: there is no such file or folder; give {what}")
    if path.is_file():
        return (path,)
    files = [file for file in visible(path) if file.suffix in endings]
    if not files:
        raise TraceError(f"{path}: holds no {what}; give a folder with files that end in {' or '.join(endings)}")
    return tuple(sorted(files, key=lambda file: (file.parent, _number(file), file.name)))


def visible(folder: Path) -> list[Path]:
    """Return the files below *folder*, but for hidden ones and those in hidden folders, such as parts of an import."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def first_good(files: tuple[Path, ...], look: Callable[[Path], T]) -> T:
    """Return what *look* finds in the first file that is not bad: the others are dealt with as they are read.

    Raises
    ------
    TraceError
        That of the first file, if all are bad.
    """
    first: TraceError | None = None
    for file in files:
        try:
            return look(file)
        except TraceError as error:
            first = first or error
    assert first is not None
    raise first


def _number(file: Path) -> int:
    digits = "".join(c for c in file.stem if c.isascii() and c.isdigit())
    return int(digits[-18:]) if digits else -1


def file_number(path: Path) -> int:
    """Return the number in a file's name, as that of its request; 0 if there is none (writers make numbers unique)."""
    return max(0, _number(path)) % (LARGEST_NUMBER + 1)


def meta_of(
    hints: Hints,
    *,
    layers: tuple[int, ...],
    num_layers: int,
    num_experts: int,
    top_k: int,
    source: str,
    note: str,
    path: Path,
) -> TraceMeta:
    """Return metadata of a source that says little of itself, checked against what the user says of the model.

    Raises
    ------
    TraceError
        If the model has another shape.
    """
    for option, said, found in (("--top-k", hints.top_k, top_k), ("--experts", hints.num_experts, num_experts)):
        if said is not None and said != found:
            raise TraceError(f"{path}: {option} {said} was given; the files have {found}")
    if hints.moe_layers is not None:
        if len(hints.moe_layers) != len(layers):
            what = f"has {len(layers)} MoE layers; --moe-layers names {len(hints.moe_layers)}"
            raise TraceError(f"{path}: {what}; give as many")
        layers, num_layers = hints.moe_layers, max(num_layers, hints.moe_layers[-1] + 1)
    model = hints.model
    if model is not None:
        ours, theirs = (len(layers), top_k), (len(model.moe_layers), model.top_k)
        if ours != theirs or num_experts > model.num_choices:
            raise TraceError(
                f"{path}: has {ours[0]} MoE layers, top-{ours[1]} of {num_experts} experts; {model.name} has "
                f"{theirs[0]}, top-{theirs[1]} of {model.num_choices}; give the --model that routed"
            )
        layers, num_layers, num_experts = model.moe_layers, model.num_layers, model.num_choices
    return TraceMeta(
        model=model.name if model else "unknown",
        benchmark="*",
        subject="*",
        moe_layers=layers,
        num_layers=num_layers,
        num_experts=num_experts,
        top_k=top_k,
        num_requests=1,
        source=source,
        note=note,
    )


def routing_of(
    number: int, num_prefill: int, experts: npt.NDArray[np.int64], position: npt.NDArray[np.int64] | None = None
) -> RequestRouting:
    """Return a request of *experts* [tokens, layers, k]; ids beyond int16 become -1, which `fault_of` refuses."""
    place = np.arange(len(experts)) if position is None else position
    small = np.where((experts < 0) | (experts > np.iinfo(np.int16).max), -1, experts).astype(np.int16)
    return RequestRouting(request=number, position=place.astype(np.int32), num_prefill=num_prefill, experts=small)
