"""Check of the host's memory before large arrays are allocated."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from wss.errors import CapacityError

_GROUP = Path("/sys/fs/cgroup/memory.max")  # memory limit of the container, if there is one


def memory() -> int:
    """Return the largest number of bytes that this process may use."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(max(0, soft - _taken()))
    with suppress(OSError, ValueError):
        limits.append(int(_GROUP.read_text()))
    return min(limits)


def _taken() -> int:
    """Return the size in bytes of this process' address space; 0 if the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def check_room(what: str, parts: Mapping[str, float]) -> None:
    """Check that the *parts* of *what*, given by name in bytes, fit in memory together.

    Raises CapacityError if not; the message names the largest part, as that is the one to reduce.
    """
    total, there = sum(parts.values()), memory()
    if total > there:
        largest = max(parts, key=parts.__getitem__)
        raise CapacityError(
            f"{what}: would take about {total / 1e9:.3g} GB of memory, and this machine has {there / 1e9:.3g} GB; "
            f"most of it is {largest}: give less of that"
        )
