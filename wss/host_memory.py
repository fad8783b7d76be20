"""Whether there is memory for what is to be made, reckoned before any of it is taken."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from wss.errors import CapacityError

_GROUP = Path("/sys/fs/cgroup/memory.max")  # of the container, where there is one


def memory() -> int:
    """Return the bytes of memory that this process may have at most."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(max(0, soft - _taken()))
    with suppress(OSError, ValueError):
        limits.append(int(_GROUP.read_text()))
    return min(limits)


def _taken() -> int:
    """Return the bytes of addresses that this process has already; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def check_room(what: str, parts: Mapping[str, float]) -> None:
    """Check that there is memory for the *parts* of *what*, each named with its bytes.

    Raises
    ------
    CapacityError
        If not; the largest part is named, as it is the one to make smaller.
    """
    total, there = sum(parts.values()), memory()
    if total > there:
        largest = max(parts, key=parts.__getitem__)
        raise CapacityError(
            f"{what}: would take about {total / 1e9:.3g} GB of memory, and this machine has {there / 1e9:.3g} GB; "
            f"most of it is {largest}: give less of that"
        )
