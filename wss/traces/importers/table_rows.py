"""Rows of routing in text files: gpt-oss fingerprints (JSON), tables (CSV) and route logs (JSON lines).

A row is (request, position, layer, experts). Columns and keys have several names, see `NAMES`. In a table without token
positions, the tokens of a request are in row order, layer by layer. Files of another kind are reported as such.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from wss.reading import ENDLESS, MOST_BYTES, open_plain, read_plain
from wss.traces.schema import LARGEST_NUMBER

Row = tuple[Any, Any, Any, Any]  # request, position, layer, experts

NAMES = {
    "request": (
        *("reqid", "requestid", "request", "problemid", "promptid", "batchnumber", "sampleid", "sampleidx"),
        *("seqid", "seqidx", "sequenceid", "conversationid", "promptidx", "requestidx", "rid"),
    ),
    "position": ("tokenidx", "tokenindex", "tokenpos", "tokenposition", "position", "pos", "tokenid"),
    "layer": ("layer", "layerid", "layeridx", "layerindex"),
    "experts": (
        *("topkids", "topkindices", "topkexperts", "expertids", "experts", "expertindices", "selectedexperts"),
        *("activatedexpertids", "activatedexperts", "routedexperts", "expert", "expertid"),
    ),
    "set": ("dataset", "benchmark", "subject"),
    "phase": ("phase", "stage"),
}
PREFILL, DECODE = ("prefill", "prompt", "context"), ("decode", "generation", "generate")  # names of a phase
Phases = dict[tuple[Any, Any], bool]  # request and position -> whether it is prefill, if the row has a phase
TOLD = {"request": "req_id", "position": "token_idx", "layer": "layer", "experts": "topk_ids"}  # in vLLM's loggers
ARRIVALS = {
    *("contexttokens", "generatedtokens", "inputlength", "outputlength", "requesttokens", "responsetokens", "hashids"),
    *("inputtokens", "outputtokens", "promptlen", "prompttokens", "totaltokens", "arrivaltime", "arrivedat"),
}
PLACES = {"k", "kidx", "topkidx", "slot", "slotidx", "choice"}  # names of an expert's slot among those of its token
COUNTS = {"count", "counts", "logicalcount", "tokens", "numtokens", "tokencount", "load", "loads"}
WARM_UP = 1000
WARMED = "rows of a warm-up at the beginning dropped"
LOOKS_WARM = "rows at the beginning are equal, as of a warm-up, and kept; --drop-warmup leaves them out"
NOT_WARM = f"--drop-warmup: fewer than {WARM_UP} equal rows at the beginning, so nothing is dropped"
_JSON = msgspec.json.Decoder()


class BadFileError(Exception):
    """An error in a file, without the file's name."""


def plain(name: str) -> str:
    """Return *name* in lower case without separators."""
    return "".join(c for c in name.lower() if c.isalnum())


def roles_of(names: Sequence[str]) -> dict[str, str]:
    """Return the column name of each role in `NAMES`."""
    plainly = {plain(name): name for name in reversed(names)}
    found = {role: [plainly[alias] for alias in aliases if alias in plainly] for role, aliases in NAMES.items()}
    return {role: hits[0] for role, hits in found.items() if hits}


def shown(names: Sequence[str]) -> str:
    """Return the first few *names*, each shortened, as text."""
    first = ", ".join(f"'{name[:40]}'" for name in names[:6])
    return first + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def other_kind(names: Sequence[str]) -> str | None:
    """Return what a file with *names* is, if it is known not to be routing."""
    plainly = {plain(name) for name in names}
    roles = roles_of(names)
    if len(plainly & ARRIVALS) >= 2 and "experts" not in roles:
        return (
            f"is a trace of requests ({', '.join(names)[:120]}): it says when they come and how long they are, not "
            "which experts their tokens use; give recorded routing"
        )
    wide = [name for name in plainly if name.startswith("expert") and name[6:].isdigit()]
    if "layer" in roles and ((plainly & COUNTS and "experts" in roles) or wide) and "position" not in roles:
        return "is a table of expert loads, which names no token; `wss trace stats` reads it"
    return None


def check(request: Any, position: Any, layer: Any, experts: Any) -> None:
    """Raise `BadFileError` if a row is invalid."""
    for what, value in (("position", position), ("layer", layer)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
            raise BadFileError(
                f"request {request}: {what} {value!r} is not right; it should be a whole number, 0 or more"
            )
    if not isinstance(request, int | str):
        raise BadFileError(f"request {request!r} is not right; it should be a number or a name")
    if not isinstance(experts, list) or not experts or not all(type(e) is int and abs(e) < 2**31 for e in experts):
        given = repr(experts)[:60]
        raise BadFileError(
            f"request {request}, position {position}, layer {layer}: experts {given}; give a list of ids"
        )


def tell(phases: Phases, request: Any, position: Any, phase: Any) -> None:
    """Add a row's *phase* to *phases*; raise `BadFileError` if it is unknown or differs from that of other layers."""
    if phase is None:
        return
    name = phase.strip().lower() if isinstance(phase, str) else phase
    if name not in (*PREFILL, *DECODE):
        raise BadFileError(f"request {request}, position {position}: phase {phase!r} is none; give prefill or decode")
    if phases.setdefault((request, position), name in PREFILL) != (name in PREFILL):
        raise BadFileError(f"request {request}, position {position}: is of two phases; give all its layers one")


class TokenIds:
    """Token ids used as positions, checked to increase one by one, which ids of a vocabulary do not."""

    def __init__(self) -> None:
        self._last: dict[tuple[Any, Any], int] = {}

    def take(self, row: Row) -> Row:
        """Return *row* if its position follows that of the previous row of the same request and layer."""
        request, position, layer, _ = row
        last = self._last.get((request, layer))
        if last is not None and position != last + 1:
            raise BadFileError(
                f"request {request}, layer {layer}: token_id {position} comes after {last}, so it may be of a "
                "vocabulary; give the position as token_idx"
            )
        self._last[request, layer] = position
        return row


def fingerprints(path: Path) -> Iterator[Row]:
    """Yield the rows of gpt-oss fingerprints."""
    content = _JSON.decode(read_plain(path))
    for number, item in enumerate(content if isinstance(content, list) else [content]):
        data = item.get("router_data") if isinstance(item, dict) else None
        if not isinstance(data, list):
            raise BadFileError('has no list "router_data"; give a fingerprint file')
        for tokens in data:
            for token, layers in _items(tokens, "router_data"):
                for layer, chosen in _items(layers, token):
                    if not isinstance(chosen, dict) or "selected_experts" not in chosen:
                        raise BadFileError(f"{token}, {layer}: has no selected_experts")
                    yield number, _tail(token, "token_"), _tail(layer, "layer_"), chosen["selected_experts"]


def _items(value: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise BadFileError(f"{where}: {str(value)[:40]!r} is not right; it should be a mapping")
    return list(value.items())


def _tail(name: str, start: str) -> int:
    digits = name.removeprefix(start)
    if not (name.startswith(start) and digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise BadFileError(f"{name[:40]!r} is not right; it should be {start} and a number")
    return int(digits)


def delimiter(head: str) -> str:
    """Return the separator of the columns in the header *head*: a comma, semicolon or tab."""
    return max(",;\t", key=head.count)


def csv_rows(path: Path, top_k: int | None, phases: Phases) -> Iterator[Row]:
    """Yield the rows of a table, and add their *phases*; a table with one expert per row needs *top_k*."""
    text = read_plain(path, MOST_BYTES).decode("utf-8-sig")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter(text.partition("\n")[0]))
    names = [name.strip() for name in reader.fieldnames or ()]
    if len(set(names)) != len(names):
        raise BadFileError(f"has columns {shown(names)}; each should be there once")
    reader.fieldnames = names
    roles = roles_of(names)
    if known := other_kind(names):
        raise BadFileError(known)
    if missing := [role for role in ("layer", "experts") if role not in roles]:
        should = "such as Layer ID, Batch Number, Token, Activated Expert IDs"
        raise BadFileError(f"has columns {shown(names)} and none for {' and '.join(missing)}; they should be {should}")
    count: dict[tuple[int, int], int] = {}
    ids = TokenIds() if plain(roles.get("position", "")) == "tokenid" else None
    single = _Single(top_k, next((name for name in names if plain(name) in PLACES), None))
    for row in reader:
        line = reader.line_num
        if any(not isinstance(row[name], str) for name in names) or None in row:
            raise BadFileError(f"line {line}: has not {len(names)} cells")
        layer = _cell(row, roles["layer"], line)
        request = _cell(row, roles["request"], line) if "request" in roles else 0
        told = _cell(row, roles["position"], line) if "position" in roles else None
        experts = _ids(row[roles["experts"]], line)
        if (
            isinstance(experts, int)
            and (experts := single.of_token((request, told, layer), experts, row, line)) is None
        ):
            continue
        if told is None:
            told = count[request, layer] = count.get((request, layer), -1) + 1
        if "phase" in roles:
            tell(phases, request, told, row[roles["phase"]])
        found: Row = (request, told, layer, experts)
        yield found if ids is None else ids.take(found)
    single.finish()


class _Single:
    """Combines the rows of a token, in tables with one expert per row.

    The column *place*, if any, has the slot of an expert; it separates rows of one token from those of several.
    """

    def __init__(self, top_k: int | None, place: str | None) -> None:
        self._top_k, self._place = top_k, place
        self._open: dict[tuple[int, int | None, int], list[tuple[int, str]]] = {}

    def of_token(
        self, key: tuple[int, int | None, int], expert: int, row: dict[str, str], line: int
    ) -> list[int] | None:
        """Add an expert of the token *key* (request, position, layer); return all of them after the last."""
        if self._top_k is None:
            raise BadFileError(f"line {line}: has one expert a row; give --top-k, how many a token has")
        rows = self._open.setdefault(key, [])
        place = row[self._place].strip() if self._place is not None else str(len(rows))
        if place in [earlier for _, earlier in rows]:
            raise BadFileError(
                f"line {line}: {self._place} {place} comes twice in the rows taken for one token; give token_idx, the "
                "number of each row's token"
            )
        rows.append((expert, place))
        return [e for e, _ in self._open.pop(key)] if len(rows) == self._top_k else None

    def finish(self) -> None:
        """Refuse a token with too few experts."""
        if self._open:
            request, position, layer = next(iter(self._open))
            where = f"request {request}, " + ("" if position is None else f"position {position}, ") + f"layer {layer}"
            raise BadFileError(f"{where}: its rows are no multiple of --top-k {self._top_k}")


def _cell(row: dict[str, Any], name: str, line: int) -> int:
    cell = row[name].strip()
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise BadFileError(f"line {line}: {name} {cell!r} is not a whole number")
    return int(cell)


def _ids(cell: str, line: int) -> Any:
    """Return the ids of a cell: one, a JSON list, or numbers separated by spaces, commas, semicolons or bars."""
    if cell.strip().startswith("["):
        return _JSON.decode(cell)
    pieces = cell.translate(dict.fromkeys(map(ord, ",;|"), " ")).split()
    if not pieces or not all(p.removeprefix("-").isascii() and p.removeprefix("-").isdigit() for p in pieces):
        raise BadFileError(f"line {line}: experts {cell[:40]!r} are no list of ids")
    ids = [int(piece) for piece in pieces]
    return ids if len(ids) > 1 else ids[0]


def jsonl_rows(path: Path, remarks: list[str], phases: Phases, *, drop_warmup: bool) -> Iterator[Row]:
    """Yield the rows of a route log, without those of a warm-up at its beginning if *drop_warmup*; add *phases*."""
    first: dict[Any, Any] = {}  # experts by layer
    held: list[Row] | None = []
    for row in _log(path, phases):
        if held is None:
            yield row
        elif first.setdefault(row[2], row[3]) == row[3]:
            held.append(row)
        else:
            yield from _begin(held, remarks, drop_warmup)
            held = None
            yield row
    yield from _begin(held, remarks, drop_warmup) if held else ()


def _begin(held: list[Row], remarks: list[str], drop_warmup: bool) -> list[Row]:
    """Return which of the equal rows *held* at the beginning are kept."""
    is_warm = len(held) >= WARM_UP
    if is_warm:
        remarks.extend([WARMED if drop_warmup else LOOKS_WARM] * len(held))
    return [] if drop_warmup and is_warm else held


def _log(path: Path, phases: Phases) -> Iterator[Row]:
    """Yield the route rows of a log; its other lines are ignored."""
    skipped: list[str] | None = None
    found = False
    sets: set[Any] = set()
    ids = TokenIds()
    with open_plain(path, ENDLESS) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                item = _JSON.decode(line)
            except msgspec.DecodeError as error:
                raise BadFileError(f"line {number}: {error}; give one JSON object a line") from None
            if not isinstance(item, dict):
                raise BadFileError(f"line {number}: is no JSON object")
            roles = roles_of(list(item))
            is_route = item.get("type") == "route"
            missing = [told for role, told in TOLD.items() if role not in roles]
            if is_route and missing:
                raise BadFileError(f"line {number}: has no {', '.join(missing)}")
            if not is_route and ("type" in item or len(missing) == len(TOLD) or "experts" not in roles):
                skipped = skipped if skipped is not None and len(roles_of(skipped)) >= len(roles) else list(item)
                continue
            if missing:
                have = ", ".join(map(str, item))[:120]
                raise BadFileError(f"line {number}: has {have}, and no {', '.join(missing)}; a route has all four")
            found = True
            request = item[roles["request"]]
            if "set" in roles:
                sets.add(item[roles["set"]])
                if len(sets) > 1:
                    raise BadFileError(f"line {number}: is of a second {roles['set']}; give a file for each")
            row = (request, item[roles["position"]], item[roles["layer"]], item[roles["experts"]])
            check(*row)
            if "phase" in roles:
                tell(phases, request, row[1], item[roles["phase"]])
            yield ids.take(row) if plain(roles["position"]) == "tokenid" else row
    if not found and skipped is not None:
        lacks = ", ".join(told for role, told in TOLD.items() if role not in roles_of(skipped))
        lines = f"holds lines of {', '.join(skipped)[:120]}"
        raise BadFileError(other_kind(skipped) or f"{lines}, which are no routes{f' (no {lacks})' if lacks else ''}")
