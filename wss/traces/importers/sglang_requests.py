"""Separation of requests in the forward passes of a serving system, which have positions but no request ids.

* extend: each length is a prompt, or a chunk of one that continues where a prompt has ended so far;
* decode: a token belongs to the running request whose last position is one less, in order of start; a token whose
  predecessor was not recorded starts a request;
* mixed: prompts first, then decode tokens, each of length 1;
* verify (speculative decoding): each request has the same number of tokens, one sampled and the rest drafts. The next
  pass of a request starts at the first rejected draft: that token and those after it are left out. The number of
  tokens per request is found by trial; if no number fits, or more than one does, the recording is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import numpy as np

from wss.errors import TraceError
from wss.records import IntArray

EXTEND, DECODE, MIXED, IDLE, VERIFY, DRAFT = 1, 2, 3, 4, 5, 6  # forward_mode, the same in all versions
MODES = {EXTEND: "extend", DECODE: "decode", MIXED: "mixed", IDLE: "idle", VERIFY: "verify", DRAFT: "draft"}
GLUED = "chunks taken for the continuation of the prompt that ends where they begin"
GUESSED = "decode tokens given to one of several requests at the same position"
REJECTED = "draft tokens left out, as a later pass begins where they stood"
UNVERIFIED = "draft tokens of last passes kept, not known to be accepted"


class Pass(NamedTuple):
    """One forward pass."""

    number: int  # its index among the records
    mode: int  # of `MODES`
    position: IntArray  # of each token, [tokens]
    lengths: IntArray | None  # tokens of each request, if the mode has them
    experts: IntArray  # [tokens, all layers, 8]


class Request:
    """The tokens of a request as they are read."""

    def __init__(self) -> None:
        self.position: list[int] = []
        self.experts: list[IntArray] = []
        self.num_prefill = 0
        self.verified = -1  # the first position of its last verify pass; -1 if no draft is open

    @property
    def in_prompt(self) -> bool:
        """Whether it has only prefill so far."""
        return self.num_prefill == len(self.position)

    @property
    def num_open(self) -> int:
        """Number of its tokens that are drafts not yet accepted by a later pass."""
        return sum(place > self.verified for place in self.position) if self.verified >= 0 else 0

    def goes_on(self, place: int) -> bool:
        """Whether its next token may be at position *place*."""
        return place == self.position[-1] + 1 or (self.verified >= 0 and self.verified < place <= self.position[-1])

    def add(self, position: Sequence[int], experts: IntArray) -> None:
        """Append tokens, *experts* [tokens, layers, k]."""
        self.position.extend(position)
        self.experts.extend(experts)

    def cut(self, place: int) -> int:
        """Drop the tokens from position *place* on, and return their number."""
        keep = sum(at < place for at in self.position)
        dropped = len(self.position) - keep
        del self.position[keep:], self.experts[keep:]
        return dropped


class _MisfitError(Exception):
    """A verify pass does not fit the running requests."""


def tell_apart(passes: Sequence[Pass]) -> tuple[list[Request], Counter[str]]:
    """Return the requests of *passes* in order of start, and the number of times of each remark.

    Raises
    ------
    TraceError
        If the tokens of verify passes cannot be assigned to requests; the message has no file name.
    """
    sizes = [len(one.position) for one in passes if one.mode == VERIFY]
    if not sizes:
        return _Run(passes, 0).done()
    common = gcd(*sizes)
    fits = []
    for width in range(1, common + 1):
        if common % width == 0:
            try:
                fits.append(_Run(passes, width).done())
            except _MisfitError:
                continue
    if len(fits) != 1:
        why = (
            "more than one number of draft tokens fits" if fits else "its verify passes go on from no recorded request"
        )
        raise TraceError(
            f"{why}, as after a draft tree or a start while requests ran; record without speculative decoding, or with "
            "one draft token after another and before the first request"
        )
    return fits[0]


class _Run:
    """The passes assigned to requests, with *width* tokens of each request in a verify pass."""

    def __init__(self, passes: Sequence[Pass], width: int) -> None:
        self._requests: list[Request] = []
        self._running: list[Request] = []
        self._remarks: Counter[str] = Counter()
        for one in passes:
            if one.mode in (EXTEND, MIXED):
                self._extend(one, decodes=one.mode == MIXED)
            elif one.mode in (DECODE, VERIFY):
                self._go_on(one, width if one.mode == VERIFY else 1)

    def done(self) -> tuple[list[Request], Counter[str]]:
        """Return requests and remarks."""
        remarks = self._remarks.copy()
        remarks[UNVERIFIED] += sum(request.num_open for request in self._requests)
        return self._requests, +remarks

    def _begin(self) -> Request:
        request = Request()
        self._requests.append(request)
        return request

    def _extend(self, one: Pass, *, decodes: bool) -> None:
        """Add prompts and, if *decodes*, the decode tokens after them: others end, unless their prompt goes on."""
        assert one.lengths is not None
        end = np.cumsum(one.lengths)
        before = list(self._running)  # a request can be extended only once per pass
        decoding = []
        for place, (first, last) in enumerate(zip((end - one.lengths).tolist(), end.tolist(), strict=True)):
            if first == last:
                continue
            positions, experts = one.position[first:last].tolist(), one.experts[first:last]
            if decodes and place > 0 and last - first == 1 and (request := self._next(before, positions[0])):
                before.remove(request)
                self._append(request, positions, experts)
                request.verified = -1
                decoding.append(request)
                continue
            # a later chunk of a prompt continues the request at that position that has only prefill
            request = next((r for r in before if r.in_prompt and r.position[-1] + 1 == positions[0]), None)
            if request is not None:
                self._remarks[GLUED] += 1
                before.remove(request)
            else:
                request = self._begin()
                self._running.append(request)
            request.add(positions, experts)
            request.num_prefill = len(request.position)
        if decodes:
            self._running[:] = [r for r in self._running if r in decoding or r.in_prompt]

    def _go_on(self, one: Pass, width: int) -> None:
        """Add *width* tokens to each running request in the pass."""
        free, taken = list(self._running), []
        for first in range(0, len(one.position), width):
            positions = one.position[first : first + width].tolist()
            if positions != list(range(positions[0], positions[0] + width)):
                raise _MisfitError
            request = self._next(free, positions[0])
            if request is not None:
                free.remove(request)
            elif one.mode == VERIFY:
                raise _MisfitError
            else:
                request = self._begin()
            self._append(request, positions, one.experts[first : first + width])
            request.verified = positions[0] if one.mode == VERIFY else -1
            taken.append(request)
        self._running[:] = taken + [r for r in self._running if r not in taken and r.in_prompt]

    def _next(self, free: Sequence[Request], place: int) -> Request | None:
        """Return the first of *free* whose next token may be at position *place*."""
        fitting = [request for request in free if request.goes_on(place)]
        self._remarks[GUESSED] += len(fitting) > 1
        return fitting[0] if fitting else None

    def _append(self, request: Request, positions: list[int], experts: IntArray) -> None:
        self._remarks[REJECTED] += request.cut(positions[0])
        request.add(positions, experts)
