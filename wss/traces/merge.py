"""Joining traces: the requests of several files one after another, or a part of them, labelled with their workloads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from wss.errors import ConfigError, TraceError, did_you_mean
from wss.rng import stream, uniform
from wss.traces.load_history import workload_of
from wss.traces.reader import TraceReader, write_trace
from wss.traces.schema import Label, RequestRouting, TraceMeta

Half = Literal["even", "odd"]  # the first, third, ... request of a workload in a file, or the others


def join(
    out: Path,
    paths: Sequence[Path],
    *,
    only: Collection[str] = (),
    half: Half | None = None,
    seed: int | None = None,
    limit: int | None = None,
) -> int:
    """Write the requests of *paths*, file after file, to *out*; return the number of requests.

    Parameters
    ----------
    only
        Names of the subjects or benchmarks to take; all if empty.
    half
        Take every second request of each workload (benchmark and subject) of a file: one half to place experts by, the
        other to serve.
    seed
        Draws which request of each pair is even. None: the first in every other workload, the second in the rest.
    limit
        Take at most this many requests of each file.

    Raises
    ------
    TraceError
        If a file cannot be read or is of a model of another shape, or nothing is left.
    OutputError
        If *out* cannot be written.
    ConfigError
        If there is a seed but no half to draw.
    """
    if seed is not None and half is None:
        raise ConfigError(
            f"--seed {seed}: draws which half is even, and no half is taken; give --half, or leave it out"
        )
    metas = [_meta(path) for path in paths]
    _check_alike(paths, metas)
    labelled: list[TraceMeta | Label] = [*metas, *(label for meta in metas for label in meta.requests)]
    names = {name for label in labelled for name in (label.benchmark, label.subject)} - {"", "*"}
    unknown = [name for name in only if name not in names]
    if unknown:
        raise TraceError(*(f"--only {name}: is not in these traces; {did_you_mean(name, names)}" for name in unknown))
    workloads: list[Label] = []
    labels: list[Label] = []

    def chosen() -> Iterator[RequestRouting]:
        for path in paths:
            for request, workload in _chosen(path, only, half, seed, limit):
                workloads.append(workload)
                yield request

    def note(written: RequestRouting) -> None:
        labels.append(msgspec.structs.replace(workloads[-1], request=written.request))

    def finish(meta: TraceMeta) -> TraceMeta:
        return replace(
            meta,
            benchmark=_common(label.benchmark for label in workloads),
            subject=_common(label.subject for label in workloads),
            requests=tuple(labels),
        )

    if half is not None and not any(True for path in paths for _ in _chosen(path, only, half, seed, 1)):
        raise TraceError(f"--half {half}: no request is in it; give the other half, or more requests")
    return write_trace(out, _joined(paths, metas, half, seed), chosen(), on_request=note, finish=finish)


def _chosen(
    path: Path, only: Collection[str], half: Half | None, seed: int | None, limit: int | None
) -> Iterator[tuple[RequestRouting, Label]]:
    """Yield the selected requests of one file, with their workloads."""
    met: dict[Label, int] = {}
    taken = 0
    with TraceReader(path) as reader:
        for request in reader.requests():
            workload = workload_of(reader.meta, request.request)
            if only and not {workload.benchmark, workload.subject} & {*only}:
                continue
            place = met[workload] = met.get(workload, len(met) % 2 - 1 if seed is None else -1) + 1
            if half is not None and _is_odd(workload, place, seed) != (half == "odd"):
                continue
            if taken == limit:
                return
            taken += 1
            yield request, workload


def _is_odd(workload: Label, place: int, seed: int | None) -> bool:
    """Whether the request at index *place* of its workload is in the odd half."""
    swapped = False
    if seed is not None:
        swapped = uniform(stream(seed, "join", workload.benchmark, workload.subject, place // 2), 1)[0] < 0.5
    return bool((place % 2 == 1) != swapped)


def _meta(path: Path) -> TraceMeta:
    with TraceReader(path) as reader:
        return reader.meta


def _check_alike(paths: Sequence[Path], metas: Sequence[TraceMeta]) -> None:
    first = metas[0]
    faults = [
        f"{path}: is of {meta.model}, and {paths[0]} of {first.model}; join traces of one model"
        for path, meta in zip(paths, metas, strict=True)
        if any(
            getattr(meta, key) != getattr(first, key)
            for key in ("model", "moe_layers", "num_layers", "num_experts", "zero_experts", "top_k")
        )
    ]
    if faults:
        raise TraceError(*faults)


def _joined(paths: Sequence[Path], metas: Sequence[TraceMeta], half: Half | None, seed: int | None) -> TraceMeta:
    """Return the metadata of the joined trace, except what is known only after writing.

    Synthetic sources come first: a trace that is synthetic in part is synthetic.
    """
    sources = dict.fromkeys(meta.source for meta in sorted(metas, key=lambda meta: not meta.synthetic))
    names = dict.fromkeys(path.name for path in paths)
    part = f", the {half} half of each workload" if half is not None else ""
    part += f", drawn by seed {seed}" if half is not None and seed is not None else ""
    return replace(
        metas[0],
        source="; ".join(sources),
        note=f"joined from {', '.join(names)}{part}",
        requests=(),
    )


def _common(names: Iterator[str]) -> str:
    """Return the name that all share, or ``*``."""
    found = {*names}
    return found.pop() if len(found) == 1 else "*"
