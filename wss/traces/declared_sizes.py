"""Sizes that a placement or a file of loads declares, under the names that serving engines use, at any depth.

Spelling does not matter: ``ep_size``, ``ep-size`` and ``epSize`` are the same name. Sizes of a draft model are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

RANKS = (
    *("ep", "epsize", "moeepsize", "epworldsize", "numepranks", "eprankcount", "expertparallelsize"),
    *("moeexpertparallelsize", "expertmodelparallelsize", "ranks", "numranks", "nranks", "worldsize"),
    *("gpus", "numgpus", "ngpus", "devices", "numdevices"),
)
PARTS = ("tp", "tpsize", "tensorparallelsize", "dp", "dpsize", "dataparallelsize")  # each divides the ranks
EXPERTS = (
    *("experts", "numexperts", "nexperts", "numexpertsperlayer", "numlogicalexperts", "nlogicalexperts"),
    *("nroutedexperts", "numroutedexperts"),
)
SLOTS = (
    *("slots", "numslots", "nslots", "numslotsperlayer", "numphysicalslots", "numphysicalexperts", "nphysicalexperts"),
    "globalnumexperts",
)
LOCAL = (
    *("numlocalphysicalexperts", "numlocalslots", "numslotsperrank", "slotsperrank", "numexpertsperrank"),
    *("expertsperrank", "numslotspergpu", "slotspergpu", "numexpertspergpu", "expertspergpu"),
)
REDUNDANT = ("epnumredundantexperts", "numredundantexperts", "redundantexperts", "numredundantslots")
LAYERS = ("layers", "numlayers", "nlayers", "numhiddenlayers")
MOE_LAYERS = ("moelayers", "nummoelayers", "nmoelayers", "moelayercount")

_WORDS = {"ep", "tp", "dp", "ranks", "gpus", "devices", "experts", "slots", "layers", "moelayers"}  # ambiguous names
_ASIDE = ("draft", "spec", "initialglobalassignments")
_DEEPEST = 6


def said(value: Any, names: tuple[str, ...], above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the sizes that *value* declares under *names*: the path of the key, and its number, or its value as it is.

    *above* is the path of the key of *value*. None and tables are not sizes. A string of digits is a number.
    """
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return
    for key, own in value.items():
        name = "".join(c for c in str(key).lower() if c.isalnum())
        if isinstance(own, Mapping) and not name.startswith(_ASIDE):
            yield from said(own, names, f"{above}{key}.", depth + 1)
        elif name in names and (size := _size(own)) is not None and not (name in _WORDS and _is_no_number(size)):
            yield f"{above}{key}", size


def check(value: Any, names: tuple[str, ...], right: set[int] | range, what: str) -> None:
    """Check that every size *value* declares under *names* is in *right*.

    Raises
    ------
    ValueError
        If one is not; the message ends with the actual size, *what*.
    """
    for key, number in said(value, names):
        if _is_no_number(number) or number not in right:
            raise ValueError(f"says {key}: {number!r:.60}, and {what}")


def _size(own: Any) -> Any:
    """Return the declared size; None for an empty value or a table."""
    if isinstance(own, np.ndarray | np.generic):
        own = own.item() if own.size == 1 else None
    if isinstance(own, Mapping | list | tuple):
        return None
    return int(own) if isinstance(own, str) and own.isascii() and own.isdigit() and len(own) < 10 else own


def _is_no_number(size: Any) -> bool:
    return isinstance(size, bool) or not isinstance(size, int | float)
