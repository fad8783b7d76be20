"""The last-level caches (LLCs): whole experts, least recently used evicted first, one cache per die before its HBM.

The cache is on the memory side. Every read of an expert from a die's HBM, local or remote, looks up that die's LLC. On
a miss, the expert is stored there *write* seconds after the read has ended. Optionally, a copy that a die keeps of a
remote expert is also stored in the die's own LLC. An expert larger than the cache is never stored: its end would evict
its beginning before the next read. A prefetched expert stays until it has been read once, or until the layer run it was
prefetched for has ended.
"""

from __future__ import annotations

import numpy as np

from wss.hardware.specs import LlcSpec
from wss.records import BoolArray, FloatArray, IntArray

Key = tuple[int, int]  # layer, expert
MOST_EXPERTS = 1 << 20  # per layer, if keys are whole numbers
EMPTY = -1  # the key of an empty place in an LLC


class Llc:
    """One die's cache. Sizes in bytes, times in seconds of the layer run's clock."""

    def __init__(self, size: float) -> None:
        self._size = size
        self._ready: dict[Key, float] = {}  # from when it can be read; in order of use, the oldest first
        self._bytes: dict[Key, float] = {}
        self._kept: dict[Key, int] = {}  # prefetched and not yet read: layer runs until it may be evicted

    @property
    def used(self) -> float:
        """Bytes of all cached experts."""
        return sum(self._bytes.values())

    def content(self) -> dict[Key, float]:
        """Return the cached experts, the oldest first, and from when each can be read."""
        return self._ready

    def fill(self, content: dict[Key, float], nbytes: float) -> None:
        """Replace the contents by *content*."""
        self._ready, self._bytes = content, dict.fromkeys(content, nbytes)

    def begin(self, flushed: bool) -> None:
        """Start a layer run at time zero: all contents can be read; if *flushed*, only prefetched experts are kept."""
        stay = {key for key, layer_runs in self._kept.items() if layer_runs > 0} if flushed else self._ready
        self._ready = {key: 0.0 for key in self._ready if key in stay}
        self._bytes = {key: self._bytes[key] for key in self._ready}
        self._kept = {key: layer_runs - 1 for key, layer_runs in self._kept.items() if layer_runs > 0}

    def look_up(self, key: Key, now: float) -> bool:
        """Whether *key* can be read at *now*; if so it becomes the most recently used."""
        ready = self._ready.get(key)
        if ready is None or ready > now:
            return False
        del self._ready[key]
        self._ready[key] = ready
        self._kept.pop(key, None)
        return True

    def keep(self, key: Key) -> bool:
        """Whether *key* is cached already; if so it is marked as a prefetch."""
        if key not in self._ready:
            return False
        self._kept[key] = 1
        return True

    def store(self, key: Key, nbytes: float, ready: float, *, keep: bool = False) -> bool:
        """Store *key*, readable from *ready*, as a prefetch if *keep*; evict others. False if it does not fit."""
        if key in self._ready:
            return True
        goes: list[Key] = []
        free = self._size - self.used
        for old in self._ready:
            if free >= nbytes:
                break
            if old not in self._kept:
                goes.append(old)
                free += self._bytes[old]
        if free < nbytes:
            return False
        for old in goes:
            del self._ready[old], self._bytes[old]
        self._ready[key], self._bytes[key] = ready, nbytes
        if keep:
            self._kept[key] = 1
        return True


class Llcs:
    """The LLCs of all dies, which outlive a layer run.

    Parameters
    ----------
    spec
        Their size and latencies.
    num_dies
        Number of dies.
    copies
        Whether a copy of a remote expert is stored in the LLC of the die that keeps it, as it is written to its HBM.
    experts
        Number of experts of all layers, an upper bound on the places of a cache; None if unknown.
    """

    def __init__(self, spec: LlcSpec, num_dies: int, *, copies: bool = False, experts: int | None = None) -> None:
        self.spec = spec
        self._experts = experts
        self.copies = copies
        self.num_dies = num_dies
        self._llcs = [Llc(spec.size) for _ in range(num_dies)]
        self._arrays: tuple[IntArray, FloatArray, float] | None = None  # if set, these replace the contents of _llcs

    def __getitem__(self, die: int) -> Llc:
        """Return the cache of *die*."""
        if self._arrays is not None:
            self._unpack(*self._arrays)
        return self._llcs[die]

    def begin(self, *, flushed: bool) -> None:
        """Start a layer run; *flushed*: layers that are not simulated have used the caches in between."""
        if self._arrays is None:
            for llc in self._llcs:
                llc.begin(flushed)
            return
        keys, ready, _ = self._arrays
        ready[:] = 0.0
        if flushed:
            keys[:] = EMPTY

    def lying(self, layer: int, num_experts: int) -> BoolArray:
        """Return which experts of *layer* are in any of the caches, [experts]."""
        if self._arrays is not None:
            held = self._arrays[0][self._arrays[0] // MOST_EXPERTS == layer] % MOST_EXPERTS
        else:
            here = [expert for llc in self._llcs for of, expert in llc.content() if of == layer]
            held = np.array(here, np.int64)
        lying = np.zeros(num_experts, np.bool_)
        lying[held] = True
        return lying

    @staticmethod
    def keys(layer: int, experts: IntArray) -> IntArray:
        """Return the keys of *experts* of *layer* as whole numbers, [experts]."""
        return layer * MOST_EXPERTS + experts

    def places(self, nbytes: float) -> int:
        """Return the maximum number of experts of *nbytes* in a cache."""
        room = int(self.spec.size // nbytes)
        return room if self._experts is None else min(room, self._experts)

    def as_arrays(self, places: int) -> tuple[IntArray, FloatArray]:
        """Return the contents: keys, oldest first, padded with `EMPTY`, and from when readable, [dies, places] each."""
        if self._arrays is not None and self._arrays[0].shape[1] == places:
            return self._arrays[:2]
        keys, ready = np.full((self.num_dies, places), EMPTY, np.int64), np.zeros((self.num_dies, places))
        for die in range(self.num_dies):
            for i, ((layer, expert), since) in enumerate(self[die].content().items()):
                keys[die, i], ready[die, i] = layer * MOST_EXPERTS + expert, since
        return keys, ready

    def from_arrays(self, keys: IntArray, ready: FloatArray, nbytes: float) -> None:
        """Replace the contents by arrays as in `as_arrays`; every entry has *nbytes*, and none is a prefetch."""
        self._arrays = (keys, ready, nbytes)

    def _unpack(self, keys: IntArray, ready: FloatArray, nbytes: float) -> None:
        """Write the contents of the arrays to the cache of each die."""
        self._arrays = None
        for llc, row, since in zip(self._llcs, keys.tolist(), ready.tolist(), strict=True):
            llc.fill(
                {divmod(key, MOST_EXPERTS): at for key, at in zip(row, since, strict=True) if key != EMPTY}, nbytes
            )
