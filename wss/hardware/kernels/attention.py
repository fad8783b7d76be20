"""What decode and prefill attention have in common: the heads, and the sums over the sequences of a call.

The times of attention depend on a batch only through sums over its sequences, and on its longest sequence. So a batch
of unequal lengths costs no more to predict than one of equal lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wss.errors import ConfigError
from wss.hardware.kernels.sizes import sizes
from wss.records import FloatArray

ACTIVATION_BYTES = 2.0  # an element of the queries and of the result


@dataclass(frozen=True, eq=False)
class Heads:
    """Attention heads on one die, each an array [calls] or a single number.

    Attributes
    ----------
    query, kv
        Number of query heads and of KV heads. MLA in absorbed form has one KV head.
    dim_k, dim_v
        Elements of a key and of a value.
    shared
        Whether the values are part of the keys in the cache, as in MLA's absorbed form.
    """

    query: FloatArray
    kv: FloatArray
    dim_k: FloatArray
    dim_v: FloatArray
    shared: bool = False

    @property
    def group(self) -> FloatArray:
        """Query heads per KV head."""
        return self.query / self.kv

    @property
    def dims(self) -> FloatArray:
        """Elements of a key and a value together."""
        return self.dim_k + self.dim_v

    @property
    def cached(self) -> FloatArray:
        """Elements in the KV cache of one token."""
        return self.kv * (self.dim_k if self.shared else self.dims)


def gqa(query: npt.ArrayLike, kv: npt.ArrayLike, dim: npt.ArrayLike = 128) -> Heads:
    """Return grouped-query heads; *dim* elements a head. Raises ConfigError if *kv* does not divide *query*."""
    query, kv, dim = sizes(query_heads=query, kv_heads=kv, dim=dim)
    _check_heads(query, kv, dim)
    return Heads(query, kv, dim, dim)


def mla_absorbed(query: npt.ArrayLike, kv_lora: npt.ArrayLike = 512, rope: npt.ArrayLike = 64) -> Heads:
    """Return MLA heads in the absorbed form of decode: all *query* heads read one compressed KV head."""
    query, kv_lora, rope = sizes(query_heads=query, kv_lora=kv_lora, rope=rope)
    _check_heads(query, np.ones_like(query), kv_lora)
    return Heads(query, np.ones_like(query), kv_lora + rope, kv_lora, shared=True)


def mla_expanded(query: npt.ArrayLike, nope: npt.ArrayLike = 128, rope: npt.ArrayLike = 64, v: float = 128) -> Heads:
    """Return MLA heads in the expanded form of prefill: each query head has its own keys and values."""
    query, nope, rope, dim_v = sizes(query_heads=query, nope=nope, rope=rope, v=v)
    _check_heads(query, query, nope)
    return Heads(query, query, nope + rope, dim_v)


def _check_heads(query: FloatArray, kv: FloatArray, dim: FloatArray) -> None:
    for name, array in (("query_heads", query), ("kv_heads", kv), ("dim", dim)):
        if not (array >= 1).all():
            raise ConfigError(f"{name}: {array.min():g} is not right; give a whole number from 1")
    uneven = np.flatnonzero(query % kv)
    if len(uneven):
        h, g = query.ravel()[uneven[0]], kv.ravel()[uneven[0]]
        raise ConfigError(f"kv_heads: {g:g} does not divide {h:g} query heads; give a divisor of {h:g}")


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sums over the sequences of each call, arrays [calls]. A sequence has q new tokens behind k computed ones.

    Attributes
    ----------
    count
        Number of sequences.
    new
        New tokens: sum of q.
    context
        Tokens whose keys and values are read: sum of k + q.
    pairs
        Pairs of a new token and a token that it attends to, itself included: sum of q·(k + (q + 1)/2).
    longest
        Tokens of the longest sequence: the largest k + q.
    """

    count: FloatArray
    new: FloatArray
    context: FloatArray
    pairs: FloatArray
    longest: FloatArray


def equal(count: npt.ArrayLike, new: npt.ArrayLike = 1, before: npt.ArrayLike = 0) -> Sequences:
    """Return calls with *count* sequences each, all with *new* tokens behind *before* computed ones, [calls]."""
    count, new, before = sizes(count=count, new=new, before=before)
    pairs = count * new * (before + (new + 1) / 2)
    longest = np.where(count > 0, before + new, 0.0)
    return Sequences(count, count * new, count * (before + new), pairs, longest)


def of_lengths(new: npt.ArrayLike, before: npt.ArrayLike = 0) -> Sequences:
    """Return one call, arrays of shape [], of sequences with *new* tokens behind *before* computed ones, [sequences].

    A sequence without new tokens takes no part.
    """
    new, before = (np.atleast_1d(array) for array in sizes(new=new, before=before))
    before = np.where(new > 0, before, 0.0)
    total = before + new
    count, pairs = np.count_nonzero(new), (new * (before + (new + 1) / 2)).sum()
    sums = (count, new.sum(), total.sum(), pairs, total.max(initial=0.0))
    return Sequences(*(np.asarray(value, np.float64) for value in sums))
