"""A fast scanner for the paper's JSON in its usual layout: every layer in order, one request per file.

It either reads a whole file or reports that the layout is unusual. Then the ordinary parser reads the file and finds
the error, if any. The scanner accepts nothing that the ordinary parser would refuse.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled


@compiled
def _space(text, at):  # type: ignore[no-untyped-def]
    while at < text.size and (text[at] == 32 or text[at] == 10 or text[at] == 13 or text[at] == 9):
        at += 1
    return at


@compiled
def _expect(text, at, char):  # type: ignore[no-untyped-def]
    """Return the offset after *char* and the space around it, or -1 if something else is there."""
    at = _space(text, at)
    if at >= text.size or text[at] != char:
        return -1
    return _space(text, at + 1)


@compiled
def _integer(text, at):  # type: ignore[no-untyped-def]
    """Return an integer of at most five digits without leading zeros, and the offset after it, or -1."""
    value, first = 0, at
    while at < text.size and 48 <= text[at] <= 57 and at - first < 6:
        value = 10 * value + text[at] - 48
        at += 1
    digits = at - first
    if digits == 0 or digits > 5 or (digits > 1 and text[first] == 48):
        return -1, -1
    return value, at


@compiled
def _tokens(text, at, top_k, num_experts, out, used):  # type: ignore[no-untyped-def]
    """Read a list of tokens into *out* from *used* on; return the offset after it and the number of tokens, or -1."""
    at = _expect(text, at, 91)
    count = 0
    while at >= 0:
        at = _expect(text, at, 91)
        if at < 0:
            return -1, 0
        for k in range(top_k):
            expert, at = _integer(text, at)
            if at < 0 or expert >= num_experts or used + k >= out.size:
                return -1, 0
            for before in range(k):
                if out[used + before] == expert:
                    return -1, 0
            out[used + k] = expert
            at = _expect(text, at, 44 if k + 1 < top_k else 93)
            if at < 0:
                return -1, 0
        used += top_k
        count += 1
        if at < text.size and text[at] == 93:
            return _space(text, at + 1), count
        at = _expect(text, at, 44)
    return -1, 0


@compiled
def scan(text, is_moe, top_k, num_experts, out):  # type: ignore[no-untyped-def]
    """Read a whole file.

    Parameters
    ----------
    text
        The file's bytes, uint8.
    is_moe
        Which layers are MoE layers, [all layers].
    top_k, num_experts
        Of the model.
    out
        Written: expert ids in the order of the file, int16; its size must be at least half the file's bytes.

    Returns
    -------
    tuple
        Number of elements, and of tokens in the first one; elements is -1 if the layout is unusual.
    """
    used, elements, prefill = 0, 0, 0
    at = _expect(text, 0, 91)
    while at >= 0:
        at = _expect(text, at, 123)
        if at < 0:
            return -1, 0
        for layer in range(is_moe.size):
            if at >= text.size or text[at] != 34:
                return -1, 0
            number, at = _integer(text, at + 1)
            if number != layer or at >= text.size or text[at] != 34:
                return -1, 0
            at = _expect(text, at + 1, 58)
            if at < 0:
                return -1, 0
            if is_moe[layer]:
                at, count = _tokens(text, at, top_k, num_experts, out, used)
                if at < 0:
                    return -1, 0
                if elements == 0 and used == 0:
                    prefill = count
                if count != (prefill if elements == 0 else 1):
                    return -1, 0
                used += count * top_k
            else:
                for char in (110, 117, 108, 108):  # null
                    if at >= text.size or text[at] != char:
                        return -1, 0
                    at += 1
                at = _space(text, at)
            at = _expect(text, at, 44 if layer + 1 < is_moe.size else 125)
            if at < 0:
                return -1, 0
        elements += 1
        if at < text.size and text[at] == 93:
            return (elements if _space(text, at + 1) == text.size else -1), prefill
        at = _expect(text, at, 44)
    return -1, 0


def read_usual(raw: bytes, is_moe: np.ndarray, top_k: int, num_experts: int) -> tuple[np.ndarray, int] | None:
    """Return experts int16 [tokens, moe_layers, k] and the number of prefill tokens; None for an unusual layout."""
    text = np.frombuffer(raw, np.uint8)
    out = np.empty(len(text) // 2 + 1, np.int16)
    elements, prefill = scan(text, is_moe, top_k, num_experts, out)
    if elements < 0:
        return None
    layers = int(is_moe.sum())
    first = out[: prefill * layers * top_k].reshape(layers, prefill, top_k).transpose(1, 0, 2)
    rest = out[prefill * layers * top_k :][: (elements - 1) * layers * top_k].reshape(elements - 1, layers, top_k)
    return np.concatenate([first, rest]), int(prefill)
