"""Named random streams, the same on every machine.

A stream is a 64-bit key. The n-th number of a stream is a hash of (key, n), so any part of a random structure can be
generated without the parts before it, in any order and by any number of workers. The hash is SplitMix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). It uses integers only, so it is bit-identical
everywhere; numpy's `Generator` methods do not promise this between versions.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def stream(seed: int, *names: object) -> np.uint64:
    """Return the key of the stream called *names* under *seed*."""
    text = "\x1f".join(str(name) for name in (seed, *names))
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def mix(key: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return well-mixed 64-bit numbers for an array of keys, by SplitMix64's finaliser."""
    z = (key ^ (key >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


def uniform(key: np.uint64 | npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.float64]:
    """Return the first *count* numbers of a stream or of several, uniform in [0, 1), [..., count] for keys [...]."""
    with np.errstate(over="ignore"):
        counters = np.asarray(key)[..., None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
        return (mix(counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(key: np.uint64 | npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int64]:
    """Return a random permutation of range(count) for each key, [..., count] for keys [...]."""
    return np.argsort(uniform(key, count), axis=-1, kind="stable")
