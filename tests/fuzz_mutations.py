"""Mutations of the fuzzer: of structure, of values and units, of arrays, and of bytes.

A content is a tree of mappings, lists, plain values and arrays; `fuzz_seeds` writes it as a file. Sizes are either tiny
or beyond all bounds: what lies between would be long runs that nobody has asked the fuzzer for.
"""

from __future__ import annotations

import copy
import io
import re
import warnings
import zipfile
from random import Random
from typing import Any

import numpy as np

DEEP = "@@DEEP@@"  # stands for a value nested deeper than Python's writers go

NUMBERS = [
    *(0, -1, 1, 2, 3, 7, 0.0, -0.0, 0.5, -0.5, 1.5, 1e-320, 1e-9, -1e308, 1e308, 1.7976931348623157e308),
    *(float("nan"), float("inf"), float("-inf"), 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30),
    *(10**9, 10**12, 10**400, 32767, 32768, -32769, 100, 127, 128),
]
WORDS = [
    *("", " ", "..", "/", "a/../b", "=cmd()", "@SUM(1)", "null", "~", "nan", "inf", "-inf", "true", "yes", "all"),
    *("\u00e9", "\u202e\u2066", "\U0001f600", "\u0000", "\ud800", "x" * 140_000, "9" * 5000, "1e400", "0x10"),
    *("none", "1_000", "\n", "a\nb: c"),
    *("<script>", "|x|", "`x`", "%s", "{0}", "os:system", "-", "--force", "(0,0)->(1,0)", "CON", "a" * 300),
]
UNITS = [
    *("5 parsecs", "1e400 GB", "3 GiB/s", "3 s", "1 b", "1e30 TB/s", "-1 GB", "0 B", "nan s", "inf GB", "1e-300 s"),
    *("5", "1 GB ", "1  GB", "GB", "1e308 PB", "1 TB/s", "1e-14 s", "999 s", "1e18 B", "0.001 B", "1 B/s"),
]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [{}], {"": None}, "text", 1, 1.5, [1, 2], {"a": 1}, {"kind": "x"}]
DTYPES = ["int8", "int16", "int64", "uint64", "float16", "float32", "float64", "bool", "complex64", "U3", "M8[s]"]
DTYPES += [">i4", "S2"]


def mutate_tree(rng: Random, tree: Any, strangers: list[Any]) -> Any:
    """Return a copy of *tree*, changed in one place; *strangers* are parts of other files that may be put in."""
    tree = copy.deepcopy(tree)
    places = [*_places(tree)]
    if not places or rng.random() < 0.02:
        return rng.choice([*OTHERS, rng.choice(strangers)])
    parent, key = rng.choice(places)
    value = parent[key]
    if isinstance(value, np.ndarray) and rng.random() < 0.8:
        parent[key] = mutate_array(rng, value)
        return tree
    act = rng.choice([_replace, _replace, _replace, _structure, _structure, _rename])
    act(rng, parent, key, strangers)
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every place in *tree*: what holds it, and its key; of long lists the first and the last few."""
    found: list[tuple[Any, Any]] = []
    queue = [tree]
    while queue:
        node = queue.pop()
        keys: list[Any] = []
        if isinstance(node, dict):
            keys = list(node)
        elif isinstance(node, list):
            keys = [*range(len(node))] if len(node) <= 12 else [*range(8), *range(len(node) - 4, len(node))]
        found += [(node, key) for key in keys]
        queue += [node[key] for key in keys]
    return found


def _replace(rng: Random, parent: Any, key: Any, strangers: list[Any]) -> None:
    """Put another value in place."""
    value = parent[key]
    if isinstance(value, str) and re.match(r"[\d.]+ \w", value) and rng.random() < 0.7:
        parent[key] = rng.choice(UNITS)
    elif isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.7:
        near = [value + 1, value - 1, -value, value * 2, value / 2, str(value)] if abs(value) < 1e6 else [1]
        parent[key] = rng.choice([*near, *NUMBERS, *NUMBERS])
    else:
        parent[key] = copy.deepcopy(rng.choice([rng.choice(NUMBERS), rng.choice(WORDS), rng.choice(OTHERS)]))
    if rng.random() < 0.1:
        parent[key] = rng.choice(UNITS)
    if rng.random() < 0.1:
        parent[key] = copy.deepcopy(rng.choice(strangers))


def _structure(rng: Random, parent: Any, key: Any, strangers: list[Any]) -> None:
    """Delete, double, swap or nest what stands at *key*, or make it deep or long."""
    value, act = parent[key], rng.randrange(8)
    if act == 0:
        del parent[key]
    elif act == 1:
        parent[key] = rng.choice([[value], {"a": value}, [value, value], {str(key): value}])
    elif act == 2:
        parent[key] = DEEP
    elif act == 3:
        parent[key] = [copy.copy(value) for _ in range(rng.choice([100, 3000]))]
    elif act == 4 and isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(rng.choice([value, *OTHERS])))
    elif act == 4:
        parent[rng.choice([f"{key}s", f"{key}_", str(key).upper(), rng.choice(WORDS)])] = copy.deepcopy(value)
    elif act == 5:
        other = rng.choice([*parent] if isinstance(parent, dict) else [*range(len(parent))])
        parent[key], parent[other] = parent[other], parent[key]
    elif act == 6 and isinstance(value, list | dict) and value:
        parent[key] = value[next(iter(value))] if isinstance(value, dict) else value[0]
    else:
        parent[key] = copy.deepcopy(rng.choice(strangers))


def _rename(rng: Random, parent: Any, key: Any, strangers: list[Any]) -> None:
    """Give *key* another name; in a list, turn the list round."""
    if isinstance(parent, list):
        parent.reverse()
        return
    name = str(key)
    other = rng.choice([name[:-1], name + "x", name.swapcase(), f" {name}", f"{name}.x", rng.choice(WORDS), "1", "-1"])
    parent[other] = parent.pop(key)


def mutate_array(rng: Random, array: np.ndarray) -> np.ndarray:
    """Return *array* of another type or shape, or with another number somewhere."""
    act = rng.randrange(7)
    if act == 0:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            return array.astype(rng.choice(DTYPES))
    if act == 1:
        return array.reshape(-1)
    if act == 2:
        return array.T if array.ndim > 1 else array[None]
    if act == 3:
        return array[: rng.choice([0, 1, len(array) - 1])] if array.ndim else array[None]
    if act == 4:
        return array[..., : rng.choice([0, 1, 2])] if array.ndim else array[None]
    if act == 5:
        return rng.choice([array[None], np.array(0), np.zeros((0, 3)), np.stack([array, array]), array[..., None]])
    changed = array.copy() if array.dtype.kind in "iuf" and array.size else np.ones((2, 2))
    if changed.dtype.kind == "f":
        changed = changed.astype(np.float64)
        changed.flat[rng.randrange(changed.size)] = rng.choice([np.nan, np.inf, -np.inf, -1.0, 1e300, 0.5])
    else:
        limits = np.iinfo(changed.dtype)
        changed.flat[rng.randrange(changed.size)] = rng.choice([0, 1, limits.min, limits.max, limits.max // 2, 127])
    return changed


def mutate_bytes(rng: Random, data: bytes) -> bytes:
    """Return *data* cut, flipped, filled in or turned to another encoding; in zip archives a member, made whole."""
    if data[:2] == b"PK" and rng.random() < 0.7:
        return _member(rng, data)
    if b"'shape': (" in data[:200] and rng.random() < 0.5:
        return _header(rng, data)
    place = rng.randrange(len(data) + 1)
    end = min(len(data), place + rng.choice([1, 1, 4, 40, 400]))
    act = rng.randrange(12)
    if act == 0:
        return data[:place]
    if act == 1:
        return data[:place] + bytes([(data[place:] or b"0")[0] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
    if act == 2:
        mark = rng.choice([b"\0", b"\xff", b"\n", b'"', b"[", b"{", b"- ", b"&a *a", b"\x1b"])
        return data[:place] + mark + data[place:]
    if act == 3:
        return data[:place] + data[end:]
    if act == 4:
        return data[:end] + data[place:]
    if act == 5:
        return data[:place] + rng.randbytes(end - place) + data[end:]
    if act == 6:
        return rng.choice([b"", b"\0", b"\n", b"{}", b"[]", b"null", b"\xef\xbb\xbf", b"PAR1", b"PK\3\4", b"\x93NUMPY"])
    if act == 7:
        return rng.choice([b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data + b"\0", data + data])
    if act == 8:
        return data.decode("latin-1").encode("utf-16")
    if act == 9:
        return re.sub(rb"\d+", lambda match: rng.choice([match[0]] * 8 + [b"9" * 20, b"9" * 5000]), data, count=30)
    if act == 10:
        lines = data.splitlines(keepends=True)
        rng.shuffle(lines)
        return b"".join(lines)
    return data.replace(b",", rng.choice([b";", b"\t", b",,"]), rng.choice([1, -1]))


def _member(rng: Random, data: bytes) -> bytes:
    """Change one member of a zip archive, or its name, and write the archive anew, so that only the member is wrong."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):  # mutated before
        return data[: rng.randrange(len(data))]
    if not members:
        return data
    name = rng.choice(sorted(members))
    if rng.random() < 0.8:
        members[name] = mutate_bytes(rng, members[name])
    else:
        other = rng.choice([f"{name}x", name.replace(".npy", ""), "a.npy", "../x.npy", "archive/data.pkl"])
        members[other] = members.pop(name)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _header(rng: Random, data: bytes) -> bytes:
    """Let the header of an array claim another shape or type; its length stays."""
    shape = rng.choice([b"(1000000000, 8)", b"(10000000000000,)", b"(-1,)", b"()", b"(2, 0)", b"(1.5,)", b"(9,)", b"x"])
    kind = rng.choice([b"'|O'", b"'<f8'", b"'<U9'", b"'|S900000'", b"[('a', '<i8')]", b"'<c16'"])
    end = data.find(b"\n", 10)
    if end < 0:  # mutated before
        return data[:10]
    head = data[10:end].rstrip()
    if rng.random() < 0.6:
        head = re.sub(rb"'shape': \([^)]*\)", b"'shape': " + shape, head)
    else:
        head = re.sub(rb"'descr': [^,]*", b"'descr': " + kind, head)
    return data[:10] + head.ljust(end - 10) + data[end:]
