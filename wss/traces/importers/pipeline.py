"""Import of a folder of recorded routing: in parallel, in bounded memory, and resumable after it was killed.

Files are read in blocks, each by one process, which writes the block to a part (a trace file of its own) in a folder
beside the result. Then the parts are joined in order. Parts are written atomically, so a restarted import reuses the
existing ones. The result does not depend on the number of processes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from wss.ending import last_words
from wss.errors import OutputError, TraceError
from wss.files import only_one, part_in, remove_left, write_whole
from wss.processes import process_pool
from wss.reading import read_plain
from wss.traces.importers.common import Common
from wss.traces.importers.edges import Cut, Edges, fills_of
from wss.traces.importers.filler import LEFT_OUT
from wss.traces.importers.source import Source
from wss.traces.reader import TraceReader
from wss.traces.schema import Label, RequestRouting, TraceMeta
from wss.traces.writer import write_trace

BLOCK_BYTES = 32 * 2**20  # bytes of files that one process reads at a time
SMALL_BYTES = 64 * 2**20  # imports up to this size run in this process only
MOST_FAULTS = 20
SKIPPED = "bad files skipped"


class _Report(msgspec.Struct):
    """Data on a part besides its routing."""

    stamps: list[tuple[int, int]]
    numbers: list[int] = []
    labels: list[tuple[str, str]] = []
    remarks: dict[str, int] = {}
    faults: list[str] = []
    left_out: list[str] = []
    common: Common = msgspec.field(default_factory=Common)
    edges: Edges = msgspec.field(default_factory=Edges)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The outcome of an import."""

    requests: int  # number written
    skipped: tuple[str, ...]  # errors of the skipped files
    resumed: int  # number of files that an earlier import had read
    left_out: tuple[str, ...]  # tokens left out, a line per request
    warnings: tuple[str, ...]  # about data that was kept


def import_source(
    out: Path,
    source: Source,
    *,
    workers: int = 1,
    skip_bad: bool = False,
    on_files: Callable[[int], None] | None = None,
) -> Imported:
    """Write *source* to *out*, with *workers* processes; *on_files* is called with the number of files done.

    With *skip_bad*, unreadable files are skipped and their errors returned.

    Raises
    ------
    TraceError
        If a file is bad: a line for each of the first ones, and their number; data read so far is kept for the next
        attempt. Or if the whole trace is not routing (see `importers.common`).
    OutputError
        If something cannot be written, or another process is importing the same source.
    """
    blocks = _blocks(source.files)
    try:
        with _parts_folder(out, source) as folder:
            parts = [folder / f"{number:05d}.parquet" for number in range(len(blocks))]
            return _import(out, source, blocks, parts, workers, skip_bad, on_files)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}); give --out where you may write") from error


@contextmanager
def _parts_folder(out: Path, source: Source) -> Iterator[Path]:
    """Yield the folder of the parts; for a large *source*, one that remains until the import has finished."""
    if sum(map(_size, source.files)) <= SMALL_BYTES:
        with part_in(out.parent, is_folder=True) as folder:
            yield folder
        return
    start = f".{out.name}.parts-"
    folder = out.with_name(start + _key(source))
    folder.mkdir(exist_ok=True)
    with only_one(folder, str(out)):
        remove_left(out.parent, start)  # abandoned parts of other imports
        last_words("interrupted; the same command resumes")
        try:
            yield folder
        finally:
            last_words(None)


def _import(
    out: Path,
    source: Source,
    blocks: list[list[Path]],
    parts: list[Path],
    workers: int,
    skip_bad: bool,
    on_files: Callable[[int], None] | None,
) -> Imported:
    """Read the missing parts, then join all."""
    todo = [i for i, part in enumerate(parts) if not _is_done(part, blocks[i])]
    done = resumed = sum(len(block) for i, block in enumerate(blocks) if i not in todo)
    if on_files is not None and done:
        on_files(done)
    size = sum(_size(file) for i in todo for file in blocks[i])
    for i in _read_all([(source, blocks[i], parts[i]) for i in todo], workers if size > SMALL_BYTES else 1):
        done += len(blocks[todo[i]])
        if on_files is not None:
            on_files(done)
    reports = [msgspec.json.decode(read_plain(_report_path(part)), type=_Report) for part in parts]
    faults = [fault for report in reports for fault in report.faults]
    if faults and not skip_bad:
        for part, report in zip(parts, reports, strict=True):
            if report.faults:  # the files may be fixed before the next attempt
                _report_path(part).unlink()
        more = f"; {len(faults)} of {len(source.files)} files are bad, --skip-bad leaves them out"
        shown = faults[:MOST_FAULTS]
        raise TraceError(*shown[:-1], shown[-1] + more)
    source.remarks.clear()
    for report in reports:
        source.remarks.update(report.remarks)
    if faults:
        source.remarks[SKIPPED] = len(faults)
    if not any(report.numbers for report in reports):
        raise TraceError(f"{source.files[0].parent}: no file can be read; {faults[0]}")
    count, warnings, left_out = _write(out, source, parts, reports)
    shutil.rmtree(parts[0].parent, ignore_errors=True)
    left_out = (*(line for report in reports for line in report.left_out), *left_out)
    return Imported(requests=count, skipped=tuple(faults), resumed=resumed, left_out=left_out, warnings=warnings)


def _write(
    out: Path, source: Source, parts: list[Path], reports: list[_Report]
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Join the parts; return the number of requests, warnings, and what was left out."""
    where = str(source.files[0] if len(source.files) == 1 else source.files[0].parent)
    full = [(part, report.numbers) for part, report in zip(parts, reports, strict=True) if report.numbers]
    common, edges = Common(), Edges()
    for report in reports:
        common.merge(report.common)
        edges.merge(report.edges)
    cut = Cut(fills_of(edges, _joined(full), source.meta), where)
    if cut.fills:  # what all tokens have in common is to be counted without them
        common = Common()
        for request in cut.apply(_joined(full)):
            common.add(request, source.meta)
    if fault := common.fault(source.meta):
        raise TraceError(f"{where}: {fault}")
    found = tuple(common.warnings(source.meta))
    cut = Cut(cut.fills, where)
    labels = [label for report in reports for label in report.labels]
    several = len(set(labels)) > 1
    written: list[Label] = []

    def on_request(request: RequestRouting) -> None:
        if several:
            written.append(Label(request.request, *labels[len(written)]))

    def finish(meta: TraceMeta) -> TraceMeta:
        source.remarks.update({LEFT_OUT: cut.tokens} if cut.tokens else {})
        done = source.finish(meta)
        said = [*found, *([_zero(common, meta)] if meta.zero_experts else [])]
        return replace(done, requests=tuple(written), note="; ".join([done.note, *said]))

    count = write_trace(out, source.meta, cut.apply(_joined(full)), on_request=on_request, finish=finish)
    return count, (*source.warnings, *found), tuple(cut.left_out)


def _zero(common: Common, meta: TraceMeta) -> str:
    """Return a remark on how many choices cost nothing."""
    share = common.zero_choices / (common.tokens * len(meta.moe_layers) * meta.top_k)
    return f"{share:.1%} of the choices are of the {meta.zero_experts} experts a layer without weights: no work"


def _blocks(files: tuple[Path, ...]) -> list[list[Path]]:
    """Group files in order, up to about `BLOCK_BYTES` each."""
    blocks: list[list[Path]] = [[]]
    filled = 0
    for file in files:
        size = _size(file)
        if blocks[-1] and filled + size > BLOCK_BYTES:
            blocks.append([])
            filled = 0
        blocks[-1].append(file)
        filled += size
    return blocks


def _stamp(file: Path) -> tuple[int, int]:
    """Return size and time of *file*; zeros if there is no such file."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _size(file: Path) -> int:
    return _stamp(file)[0]


def _key(source: Source) -> str:
    """Return a key for the input of an import, so that parts of other files or of another model are not reused."""
    digest = hashlib.sha256(msgspec.json.encode(source.meta.to_keys()))
    digest.update(source.settings.encode())
    for file in source.files:
        digest.update(f"{file}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _stamps(files: list[Path]) -> list[tuple[int, int]]:
    """Return the stamp of each file, and of the JSON file beside it."""
    return [_stamp(one) for file in files for one in (file, file.with_suffix(".json"))]


def _is_done(part: Path, files: list[Path]) -> bool:
    """Whether an earlier import has read *files*, in their current state, into *part*."""
    try:
        report = msgspec.json.decode(read_plain(_report_path(part)), type=_Report)
        if report.numbers:
            TraceReader(part).close()
    except (OSError, msgspec.DecodeError, TraceError):
        return False
    return report.stamps == _stamps(files)


def _report_path(part: Path) -> Path:
    return part.with_suffix(".json")


def _read_all(tasks: list[tuple[Source, list[Path], Path]], workers: int) -> Iterator[int]:
    """Run every task, and yield its index when it is done."""
    if workers <= 1 or len(tasks) <= 1:
        for place, (source, block, part) in enumerate(tasks):
            _read_block(source, block, part)
            yield place
        return
    pool = process_pool(min(workers, len(tasks)))
    try:
        futures: dict[Future[None], int] = {
            pool.submit(_read_block, source, block, part): place for place, (source, block, part) in enumerate(tasks)
        }
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool as error:
        raise OutputError("an importing process was killed; run the same command again to resume") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_block(source: Source, files: list[Path], part: Path) -> None:
    """Read *files* into the trace file *part*, and write a report beside it; bad files are reported, not raised."""
    report = _Report(_stamps(files))
    remarks: Counter[str] = Counter()
    requests: list[RequestRouting] = []
    for file in files:
        try:
            found = source.take(file)
        except TraceError as error:
            report.faults += error.faults[:1]
            continue
        remarks.update(found.remarks)
        requests += found.requests
        report.left_out += found.left_out
        report.labels += [(found.benchmark, found.subject)] * len(found.requests)
    for request in requests:
        report.common.add(request, source.meta)
        report.edges.add(request, source.meta)
    if requests:
        # numbers may be duplicate until the parts are joined
        write_trace(part, source.meta, (replace(request, request=i) for i, request in enumerate(requests)))
    report.numbers = [request.request for request in requests]
    report.remarks = dict(remarks)
    content = msgspec.json.encode(report)
    write_whole(_report_path(part), lambda temporary: temporary.write_bytes(content), "make room and run again")


def _joined(parts: list[tuple[Path, list[int]]]) -> Iterator[RequestRouting]:
    """Yield the requests of all parts under their own numbers."""
    for part, numbers in parts:
        with TraceReader(part) as reader:
            for request, number in zip(reader.requests(), numbers, strict=True):
                yield replace(request, request=number)
