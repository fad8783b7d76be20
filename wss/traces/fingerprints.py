"""Fingerprints of requests, to detect the same request in two recordings, even if one recording is longer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from wss.compiling import compiled
from wss.traces.schema import RequestRouting

OFFSET, PRIME = np.uint64(14695981039346656037), np.uint64(1099511628211)  # FNV-1a


@compiled
def _chain(experts, hashes):  # type: ignore[no-untyped-def]
    """Set *hashes* [rows] to the hash of all *experts* [rows, width] up to and including each row."""
    value = OFFSET
    for t in range(experts.shape[0]):
        for expert in experts[t]:
            value = (value ^ np.uint64(expert)) * PRIME
            value ^= value >> np.uint64(32)
        hashes[t] = value


def _hashes(request: RequestRouting) -> npt.NDArray[np.uint64]:
    rows, layers, top_k = request.experts.shape
    experts: npt.NDArray[Any] = request.experts.reshape(rows, layers * top_k)
    hashes = np.empty(len(experts), np.uint64)
    _chain(experts, hashes)
    return hashes


class Fingerprints:
    """A set of requests; ``request in fingerprints`` is whether a recording is of one of them.

    Two recordings are of one request if they have the same experts, or if one continues the other after at least
    *least* tokens. Very short recordings may share a beginning by chance.
    """

    def __init__(self, requests: Iterable[RequestRouting], least: int) -> None:
        hashes = [_hashes(request) for request in requests]
        self._least = least
        self._ends = {int(own[-1]) for own in hashes if own.size}
        self._beginnings = np.unique(np.concatenate([np.empty(0, np.uint64), *(own[least - 1 :] for own in hashes)]))

    def __contains__(self, request: RequestRouting) -> bool:
        """Whether *request* is one of them."""
        hashes = _hashes(request)
        if hashes.size == 0:
            return False
        if int(hashes[-1]) in self._ends or not self._ends.isdisjoint(hashes[self._least - 1 :].tolist()):
            return True
        at = np.searchsorted(self._beginnings, hashes[-1])
        return bool(hashes.size >= self._least and at < self._beginnings.size and self._beginnings[at] == hashes[-1])
