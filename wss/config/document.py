"""YAML as plain values, with the line and column of each, and without YAML's surprises.

Plain scalars follow a short list of rules: ``null``, ``true`` and ``false``, integers, numbers (including ``1e9``), and
text for everything else: ``on``, ``no``, ``12:30:45`` and dates stay as written. Duplicate keys, tags and merge keys
are refused.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from wss.errors import ConfigError
from wss.reading import read_plain

Place = tuple[str | int, ...]

_MAX_NODES = 100_000
_MAX_BYTES = 1_000_000
_INT = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


@dataclass
class Document:
    """Values, their source locations, and the errors found so far.

    Attributes
    ----------
    name
        The document's name in messages.
    value
        The values: dict, list, str, int, float, bool or None.
    where
        ``file:line:column`` of each path in *value*, such as ``("wafer", "link")``.
    called
        Other names of paths in settings: a policy's name instead of its index.
    typed
        Paths in *value* that were given on the command line, or in Python, and not in the file.
    code_folders
        Extra folders for classes that the file names; None if it may name none.
    faults
        The errors, one line each.
    """

    name: str
    value: Any = None
    where: dict[Place, str] = field(default_factory=dict)
    called: dict[Place, str] = field(default_factory=dict)
    typed: set[Place] = field(default_factory=set)
    code_folders: tuple[str, ...] | None = None
    faults: list[str] = field(default_factory=list)
    faulty: set[Place] = field(default_factory=set)

    def copy(self) -> Document:
        """Return an independent copy."""
        return replace(
            self,
            value=copy.deepcopy(self.value),
            where=dict(self.where),
            called=dict(self.called),
            typed=set(self.typed),
            faults=list(self.faults),
            faulty=set(self.faulty),
        )

    def fault(self, place: Place, what: str) -> None:
        """Add an error at *place*: what is wrong; what would be right."""
        at = place
        while at and at not in self.where:
            at = at[:-1]
        steps = place
        for known, name in self.called.items():
            if place[: len(known)] == known:
                steps = (name, *place[len(known) :])
        path = ".".join(map(str, steps))
        prefix = f"{self.where.get(at, self.name)}: "
        self.faults.append(prefix + (f"{path}: " if path else "") + " ".join(what.split()))
        self.faulty.add(place)

    def raise_faults(self) -> None:
        """Raise all errors at once, if there are any, in the order of the file."""
        if self.faults:
            raise ConfigError(*dict.fromkeys(self.faults))


def read(path: Path) -> Document:
    """Read the YAML file *path*.

    Raises ConfigError if it cannot be read or is not YAML; other errors are collected in the document.
    """
    right = "give the path of a YAML file"
    return parse(read_utf8(path, _MAX_BYTES, right, "a readable YAML file"), str(path))


def read_utf8(path: Path, most: int, right: str, readable: str) -> str:
    """Return the text of a file of at most *most* bytes; raise ConfigError with what is *right* if it cannot."""
    try:
        return read_plain(path, most).decode()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; {right}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give {readable}") from None


def parse(text: str, name: str) -> Document:
    """Parse YAML *text*; *name* is its name in messages. Raises ConfigError if it is not YAML."""
    try:
        root = yaml.compose(text, Loader=_Composer)
        document = Document(name)
        _Reader(document).read(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        what = error.problem or error.context or "is not YAML"
        raise ConfigError(
            f"{at}: not YAML: {' '.join(what.split())}; fix the syntax at or before this position"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}; save plain text as UTF-8") from None
    except _TooManyError:
        raise ConfigError(f"{name}: more than {_MAX_NODES} values; an experiment needs a few dozen") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply or within itself; an experiment needs five levels") from None
    return document


class _TooManyError(Exception):
    """A document has more values than allowed."""


class _Composer(yaml.BaseLoader):
    """Composes at most the allowed number of nodes; larger documents would take half a minute."""

    _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next node; raise `_TooManyError` beyond the limit."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _TooManyError
        return super().compose_node(parent, index)


class _Reader:
    """Turns nodes into values and records their locations."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def read(self, node: yaml.Node | None, place: Place) -> None:
        self._document.value = self._value(node, place)

    def _value(self, node: yaml.Node | None, place: Place) -> Any:
        if node is None:
            return None
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _TooManyError
        self._note(node, place)
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            self._document.fault(place, f"tag '{node.tag}' is not used here; write the plain value")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*place, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if not node.value.isascii() and any("\ud800" <= c <= "\udfff" for c in node.value):
            self._document.fault(place, "holds half a surrogate pair, which is not a character; write whole characters")
            return None
        return node.value if node.style else scalar(node.value)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.fault(place, "a key is a list or a mapping; write a plain word")
                continue
            key = key_node.value
            if key in result:
                self._note(key_node, (*place, key))
                self._document.fault((*place, key), "is given twice; keep one")
                continue
            result[key] = self._value(value_node, (*place, key))
            self._note(key_node, (*place, key))
        return result

    def _note(self, node: yaml.Node, place: Place) -> None:
        mark = node.start_mark
        self._document.where[place] = f"{self._document.name}:{mark.line + 1}:{mark.column + 1}"


def scalar(text: str) -> Any:
    """Return the value of a plain scalar."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
