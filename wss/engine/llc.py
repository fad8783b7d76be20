"""The last-level caches (LLCs): whole experts, least recently used evicted first, one cache per die before its HBM.

The cache is on the memory side. Every task's read of an expert from a die's HBM, local or remote, looks up that die's
LLC; migrations and prefetches do not. On a miss, the expert is stored there *write* seconds after the read has ended.
Optionally, a copy that a die keeps of a remote expert is also stored in the die's own LLC. An expert larger than the
cache is never stored: its end would evict its beginning before the next read. A prefetched expert stays until it has
been read once, or until the layer run it was prefetched for has ended.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wss.compiling import borrowing
from wss.engine.network.fluid import TIE
from wss.hardware.specs import LlcSpec
from wss.records import BoolArray, FloatArray, IntArray

MOST_EXPERTS = 1 << 20  # per layer, as keys are integers
EMPTY = -1  # the key of an empty slot
PREFETCHED = 2  # the pin of an expert that is prefetched in this layer run; 1 in the next, 0 of all others


class Caches(NamedTuple):
    """The contents of all LLCs, [dies, slots] each: the least recently used first, empty slots last.

    Attributes
    ----------
    key
        layer * `MOST_EXPERTS` + expert; `EMPTY` for none.
    ready
        From when it can be read, s of the layer run's clock.
    pin
        Number of layer runs, including this one, in which it is not evicted before it has been read.
    """

    key: IntArray
    ready: FloatArray
    pin: IntArray


@borrowing
def look_up(caches, die, key, now):  # type: ignore[no-untyped-def]
    """Whether *key* can be read from the LLC of *die* at *now*; if so it becomes the most recently used, unpinned."""
    keys, ready, pin = caches.key[die], caches.ready[die], caches.pin[die]
    for i in range(keys.size):
        if keys[i] == key and ready[i] <= now * (1.0 + TIE):
            since = ready[i]
            last = _close_gap(caches, die, i)
            keys[last], ready[last], pin[last] = key, since, 0
            return True
    return False


@borrowing
def store(caches, die, key, since, pin):  # type: ignore[no-untyped-def]
    """Store *key* in the LLC of *die*, readable from *since*, unless it is there or all slots are pinned.

    If all slots are used, the least recently used that is not pinned is evicted.
    """
    keys = caches.key[die]
    slot = -1
    for i in range(keys.size):
        if keys[i] == key:
            return
        if keys[i] == EMPTY:
            slot = i
            break
    if slot < 0:
        for i in range(keys.size):
            if caches.pin[die, i] == 0:
                slot = _close_gap(caches, die, i)
                break
    if slot >= 0:
        keys[slot], caches.ready[die, slot], caches.pin[die, slot] = key, since, pin


@borrowing
def pin_if_cached(caches, die, key):  # type: ignore[no-untyped-def]
    """Whether *key* is in the LLC of *die*; if so it is pinned as if it were prefetched now."""
    for i in range(caches.key.shape[1]):
        if caches.key[die, i] == key:
            caches.pin[die, i] = PREFETCHED
            return True
    return False


@borrowing
def _close_gap(caches, die, slot):  # type: ignore[no-untyped-def]
    """Move the experts after *slot* down by one; return the last slot that was used, which is free now."""
    keys, ready, pin = caches.key[die], caches.ready[die], caches.pin[die]
    while slot + 1 < keys.size and keys[slot + 1] != EMPTY:
        keys[slot], ready[slot], pin[slot] = keys[slot + 1], ready[slot + 1], pin[slot + 1]
        slot += 1
    return slot


class Llcs:
    """The LLCs of all dies, which outlive a layer run.

    Parameters
    ----------
    spec
        Their size and latencies.
    num_dies
        Number of dies.
    expert_bytes
        Bytes of one expert.
    copies
        Whether a copy of a remote expert is stored in the LLC of the die that keeps it, as it is written to its HBM.
    experts
        Number of experts of all layers, an upper bound on the slots of a cache; None if unknown.
    """

    def __init__(
        self, spec: LlcSpec, num_dies: int, expert_bytes: float, *, copies: bool = False, experts: int | None = None
    ) -> None:
        self.spec, self.copies, self.num_dies = spec, copies, num_dies
        fitting = int(spec.size // expert_bytes)
        self.slots = fitting if experts is None else min(fitting, experts)
        shape = (num_dies, self.slots)
        self.caches = Caches(np.full(shape, EMPTY, np.int64), np.zeros(shape), np.zeros(shape, np.int64))

    def begin(self, *, flushed: bool) -> None:
        """Start a layer run at time 0: all contents can be read.

        If *flushed*, layers that are not simulated have used the caches in between; only prefetched experts are left.
        """
        key, ready, pin = self.caches
        if flushed:
            gone = pin < PREFETCHED
            key[gone], pin[gone] = EMPTY, 0
            if not gone.all():
                order = np.argsort(gone, axis=1, kind="stable")  # empty slots last
                for each in (key, pin):
                    each[:] = np.take_along_axis(each, order, axis=1)
        ready[:] = 0.0
        np.maximum(pin - 1, 0, out=pin)

    def cached(self, layer: int, num_experts: int) -> BoolArray:
        """Return which experts of *layer* are in any of the caches, [experts]."""
        key = self.caches.key
        cached = np.zeros(num_experts, np.bool_)
        cached[key[key // MOST_EXPERTS == layer] % MOST_EXPERTS] = True
        return cached

    def content(self, die: int) -> list[tuple[int, int]]:
        """Return layer and expert of what the LLC of *die* holds, the least recently used first."""
        return [divmod(key, MOST_EXPERTS) for key in self.caches.key[die].tolist() if key != EMPTY]


def keys_of(layer: int, experts: IntArray) -> IntArray:
    """Return the keys of *experts* of *layer*, [experts]."""
    return layer * MOST_EXPERTS + experts
