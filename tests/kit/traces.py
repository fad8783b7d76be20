"""Small traces: metadata, requests, and damaged bytes."""

import random

import numpy as np

from wss.traces import RequestRouting, TraceMeta


def meta_of(num_experts=5, top_k=1, layers=(0, 1), subject="s"):
    return TraceMeta(
        model="m", benchmark="b", subject=subject, moe_layers=layers, num_layers=max(layers) + 1,
        num_experts=num_experts, top_k=top_k, num_requests=1, source="by hand", note="",
    )  # fmt: skip


def request_of(number, num_prefill, rows, position=None):
    """*rows* is [tokens][layers][k]."""
    experts = np.array(rows, np.int16)
    place = np.arange(len(experts)) if position is None else np.array(position)
    return RequestRouting(request=number, position=place.astype(np.int32), num_prefill=num_prefill, experts=experts)


def routing(meta: TraceMeta, request: int, prefill: int, decode: int, seed: int = 0) -> RequestRouting:
    """A valid request of *meta* with random experts."""
    tokens = prefill + decode
    order = np.random.default_rng([seed, request]).random((tokens, len(meta.moe_layers), meta.num_experts))
    return RequestRouting(
        request=request,
        position=np.arange(tokens, dtype=np.int32),
        num_prefill=prefill,
        experts=np.argsort(order, axis=2)[:, :, : meta.top_k].astype(np.int16),
    )


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """Return *raw* with one of: bytes changed, cut off, doubled, or a piece removed."""
    data = bytearray(raw)
    how = rng.randrange(5)
    at = rng.randrange(len(data))
    if how == 0:
        return bytes(data[:at])
    if how == 1:
        del data[at : at + rng.randrange(1, 40)]
    elif how == 2:
        data[at:at] = data[at : at + rng.randrange(1, 40)]
    else:
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.choice(b'0123456789-[]{}",:. en\n\x00\xff')
    return bytes(data)
