"""Requests: what is to be computed for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt with one answer.

    Attributes
    ----------
    id
        Its number, counted from 0.
    input_tokens, output_tokens
        Tokens of the prompt, and tokens returned. A step returns a token when it computes the token before, so the last
        output is never computed: a request has input_tokens + output_tokens - 1 tokens to compute.
    multiplicity
        How many equal requests it stands for.
    """

    id: int
    input_tokens: int
    output_tokens: int
    multiplicity: int = 1


def fixed_batch(prefill: Sequence[int], decode: Sequence[int], batch: int) -> list[Request]:
    """Return the requests with these numbers of prefill and decode tokens, [requests] each.

    If there are fewer than *batch*, they are repeated cyclically.
    """
    each, more = divmod(batch, len(prefill)) if batch > len(prefill) else (1, 0)
    return [
        Request(id=i, input_tokens=tokens, output_tokens=steps + 1, multiplicity=each + (i < more))
        for i, (tokens, steps) in enumerate(zip(prefill, decode, strict=True))
    ]
