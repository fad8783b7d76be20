"""The result of an importer: files in order, the trace's metadata, and a function that reads one file."""

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
from wss.models.router import Score
from wss.traces.importers.filler import LEFT_OUT, without_filler
from wss.traces.schema import LARGEST_NUMBER, RequestRouting, TraceMeta, fault_of

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RouterHints:
    """The user's options on the router whose logits were recorded; None if not given."""

    score: Score | None = None  # this, groups and topk_groups as in `wss.models.router.Router`
    groups: int | None = None
    topk_groups: int | None = None
    bias: Path | None = None  # a file with the correction bias, [MoE layers, experts]
    lengths: tuple[int, ...] | None = None  # tokens of each sequence of the batch, without padding

    def named(self) -> list[str]:
        """Return the options that were given."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]


@dataclass(frozen=True, kw_only=True)
class Hints:
    """The user's options on what files do not contain; None if not given."""

    model: ModelShape | None = None  # the model that routed; the next four are of one without a preset
    num_experts: int | None = None
    top_k: int | None = None
    moe_layers: tuple[int, ...] | None = None
    zero_experts: int | None = None
    router: RouterHints = field(default_factory=RouterHints)
    drop_warmup: bool = False  # leave out equal rows at the beginning of a route log

    @property
    def experts(self) -> int | None:
        """Routed experts per layer that have weights, if known."""
        return self.num_experts or (self.model.num_experts if self.model else None)

    @property
    def zero(self) -> int:
        """Zero-computation experts per layer."""
        return self.zero_experts or (self.model.zero_experts if self.model else 0)

    @property
    def named_layers(self) -> tuple[tuple[int, ...], str] | None:
        """The MoE layers that the user gives, and by which option; None if not given."""
        if self.moe_layers is not None:
            return self.moe_layers, "--moe-layers"
        return (self.model.moe_layers, self.model.name) if self.model is not None else None


class Read(NamedTuple):
    """The content of one file."""

    requests: list[RequestRouting]  # as recorded; `Source.take` removes filler and checks them
    remarks: list[str]  # on a row, token or request, once for each: "last decode tokens dropped, being cut off"
    benchmark: str = ""
    subject: str = ""
    left_out: tuple[str, ...] = ()  # the tokens left out, a line per request


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files of a recorded trace, in reading order."""

    files: tuple[Path, ...]
    meta: TraceMeta  # as far as it is known before reading them all
    # Reads one file as it was recorded; may be sent to another process. Raises TraceError, which names the file.
    read: Callable[[Path], Read]
    settings: str = ""  # everything besides *meta* that affects the result, as text
    warnings: tuple[str, ...] = ()  # about how the source is read
    remarks: Counter[str] = field(default_factory=Counter)  # how often each was made in the last reading

    def take(self, path: Path) -> Read:
        """Read one file, without filler, each request checked.

        Raises
        ------
        TraceError
            If the file is bad, or one of its requests is not valid or nothing but filler.
        """
        read = self.read(path)
        requests, remarks, left_out = [], list(read.remarks), list(read.left_out)
        for given in read.requests:
            routing, fault = without_filler(given, self.meta)
            if fault is None and (fault := fault_of(routing, self.meta)):
                fault += _advice(routing, self.meta)
            if fault:
                raise TraceError(f"{path}: {fault}")
            if lost := len(given.position) - len(routing.position):
                remarks.extend([LEFT_OUT] * lost)
                left_out.append(f"{path}: request {given.request}: {lost} {LEFT_OUT}")
            requests.append(routing)
        return read._replace(requests=requests, remarks=remarks, left_out=tuple(left_out))

    def requests(self) -> Iterator[RequestRouting]:
        """Yield the requests, one file after another."""
        self.remarks.clear()
        for path in self.files:
            read = self.take(path)
            self.remarks.update(read.remarks)
            yield from read.requests

    def finish(self, meta: TraceMeta) -> TraceMeta:
        """Return *meta* with the remarks, which are complete after all files are read."""
        said = "".join(f"; {count} {remark}" for remark, count in sorted(self.remarks.items()))
        return replace(meta, note=meta.note + said)


def _advice(routing: RequestRouting, meta: TraceMeta) -> str:
    """Return a hint at what ids beyond the model's may be."""
    most = int(routing.experts.max(initial=0))
    if most < meta.num_choices or meta.zero_experts or meta.model != "unknown":
        return ""
    return f"; if ids from {meta.num_experts} on are experts without weights, say how many with --zero-experts"


def found_files(path: Path, endings: tuple[str, ...], what: str) -> tuple[Path, ...]:
    """Return *path*, or the files below it with these endings, by folder and then by number, else by name.

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
    """Return the files below *folder*, except hidden ones and those in hidden folders, such as parts of an import."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def first_good(files: tuple[Path, ...], look: Callable[[Path], T]) -> T:
    """Return the result of *look* for the first file that is not bad; bad files are handled when they are read.

    Raises
    ------
    TraceError
        The error of the first file, if all are bad.
    """
    faults = []
    for file in files:
        try:
            return look(file)
        except TraceError as error:
            faults.append(error)
    raise faults[0]


def _number(file: Path) -> int:
    digits = "".join(c for c in file.stem if c.isascii() and c.isdigit())
    return int(digits[-18:]) if digits else -1


def file_number(path: Path) -> int:
    """Return the number in a file's name as the request number; 0 if there is none (writers make numbers unique)."""
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
    """Return metadata of a source that has little of its own, checked against the user's model.

    Raises
    ------
    TraceError
        If the model has another shape.
    """
    for option, said, found in (("--top-k", hints.top_k, top_k), ("--experts", hints.num_experts, num_experts)):
        if said is not None and said != found:
            raise TraceError(f"{path}: {option} {said} was given; the files have {found}")
    if hints.moe_layers is not None:
        if hints.model is not None and hints.moe_layers != hints.model.moe_layers:
            raise TraceError(f"{path}: --moe-layers are not those of {hints.model.name}; give one of the two")
        if len(hints.moe_layers) != len(layers):
            what = f"has {len(layers)} MoE layers; --moe-layers names {len(hints.moe_layers)}"
            raise TraceError(f"{path}: {what}; give as many")
        layers, num_layers = hints.moe_layers, max(num_layers, hints.moe_layers[-1] + 1)
    model = hints.model
    if model is not None and hints.zero_experts not in (None, model.zero_experts):
        raise TraceError(f"{path}: --zero-experts {hints.zero_experts} is not what {model.name} has; leave it out")
    if model is not None:
        ours, theirs = (len(layers), top_k), (len(model.moe_layers), model.top_k)
        if ours != theirs or num_experts > model.num_experts:
            raise TraceError(
                f"{path}: has {ours[0]} MoE layers, top-{ours[1]} of {num_experts} experts; {model.name} has "
                f"{theirs[0]}, top-{theirs[1]} of {model.num_experts}; give the --model that routed"
            )
        layers, num_layers, num_experts = model.moe_layers, model.num_layers, model.num_experts
    return TraceMeta(
        model=model.name if model else "unknown",
        moe_layers=layers,
        num_layers=num_layers,
        num_experts=num_experts,
        top_k=top_k,
        num_requests=1,
        source=source,
        note=note,
        zero_experts=hints.zero,
    )


def moe_rows(hints: Hints, axis: int) -> tuple[tuple[int, ...] | None, str]:
    """Return which of *axis* recorded layers are MoE layers, and who says so; None unless all layers are recorded."""
    if hints.named_layers is not None:
        layers, by = hints.named_layers
        whole = hints.model.num_layers == axis if hints.moe_layers is None and hints.model else layers[-1] < axis
        if whole and len(layers) < axis:
            return layers, by
    return None, ""


def routing_of(
    number: int, num_prefill: int, experts: npt.NDArray[np.int64], position: npt.NDArray[np.int64] | None = None
) -> RequestRouting:
    """Return a request of *experts* [tokens, layers, k]; ids beyond int16 become -1, an invalid id."""
    place = np.arange(len(experts)) if position is None else position
    small = np.where((experts < 0) | (experts > np.iinfo(np.int16).max), -1, experts).astype(np.int16)
    return RequestRouting(request=number, position=place.astype(np.int32), num_prefill=num_prefill, experts=small)
