"""Schedulers: which tokens of which requests a step computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from wss.errors import ConfigError
from wss.records import Batch, BoolArray, IntArray
from wss.workload.fixed_batch import FixedBatch
from wss.workload.request import Request


class Scheduler(Protocol):
    """Schedules the requests that it is built with, step by step.

    `wss.testing.check_scheduler` states the rules: each request runs in order and to its end, none starves, no step
    holds more sequences than there are seats, and the same requests give the same steps.
    """

    def schedule(self) -> Batch | None:
        """Return the next step; None if no request has anything left to compute."""
        ...

    def complete(self, batch: Batch) -> None:
        """End the step *batch*: its requests that have ended leave."""
        ...


class SlotRefill:
    """Seats are filled at the start, and refilled in order: at once, or when all are free.

    Prompts come first: while a running request has prompt tokens left, a step computes only these, whole. Then a step
    computes one token of each running request.

    Parameters
    ----------
    requests
        The requests, ascending by number.
    max_num_seqs
        Number of seats: sequences that may run at once. A request with one output token ends with its prompt and needs
        none.
    refill
        True (`slot_refill`): a free seat is refilled at once, by a request whose prompt was computed elsewhere. False
        (`static`): the next requests start, prompts included, when all seats are free.
    """

    def __init__(self, requests: Sequence[Request], max_num_seqs: int, *, refill: bool = True) -> None:
        self._number = np.array([request.id for request in requests], np.int64)
        self._input = np.array([request.input_tokens for request in requests], np.int64)
        self._end = self._input + [request.output_tokens - 1 for request in requests]
        self._multiplicity = np.array([request.multiplicity for request in requests], np.int64)
        self._computed = np.zeros_like(self._input)
        self._seats, self._refill = max_num_seqs, refill
        self._running: IntArray = np.zeros(0, np.int64)  # indices, ascending
        self._waiting = 0  # index of the first request that has not started
        self._step = -1  # of the last batch

    def schedule(self) -> Batch | None:
        """Return the next step; None at the end."""
        self._admit()
        running = self._running
        if not running.size:
            return None
        is_prefill: BoolArray = self._computed[running] < self._input[running]
        if is_prefill.any():
            running = running[is_prefill]
        context = self._computed[running]
        new = np.maximum(self._input[running] - context, 1)
        self._step = max(self._step + 1, int(not is_prefill.any()))
        self._computed[running] += new
        return Batch(
            step=self._step,
            request=self._number[running],
            context=context,
            new_tokens=new,
            is_prefill=context < self._input[running],
            multiplicity=self._multiplicity[running],
        )

    def complete(self, batch: Batch) -> None:
        """Take the requests that have ended from their seats."""
        self._running = self._running[self._computed[self._running] < self._end[self._running]]

    def _admit(self) -> None:
        """Give free seats to waiting requests."""
        if self._waiting == len(self._input) or (self._running.size and not self._refill):
            return
        free = self._seats - int(self._multiplicity[self._running].sum())
        elsewhere = self._refill and self._step >= 0
        started = self._waiting
        while self._waiting < len(self._input):
            i = self._waiting
            if free < self._multiplicity[i]:
                break
            free -= self._multiplicity[i] * int(self._end[i] > self._input[i])
            if elsewhere:
                self._computed[i] = self._input[i]
            self._waiting += 1
        new = np.arange(started, self._waiting)
        self._running = np.concatenate([self._running, new[self._computed[new] < self._end[new]]])


SCHEDULERS: dict[str, Callable[[Sequence[Request], int], Scheduler]] = {
    "static": partial(SlotRefill, refill=False),
    "slot_refill": SlotRefill,
}


def schedule_of(batch: FixedBatch) -> Schedule:
    """Return the schedule of a fixed batch.

    Raises
    ------
    ConfigError
        If it ends before the last step.
    """
    schedule = Schedule(batch.scheduler, batch.requests, batch.size, batch.steps)
    if schedule.steps < batch.steps:
        raise ConfigError(
            f"steps: {batch.steps} are more than the decode steps of {batch.path}; give at most {schedule.steps}"
        )
    return schedule


class Schedule:
    """The first steps of a scheduler whose batches do not depend on time.

    Parameters
    ----------
    kind
        The scheduler, of `SCHEDULERS`.
    requests, max_num_seqs
        What it is built with.
    steps
        The last step at most; step 0 is the prefill.

    Attributes
    ----------
    steps
        The last step.
    tokens
        Tokens of each step, by its number.
    computed
        How many tokens of each request are computed at the end, from the first token of its prompt on, [requests].
    """

    def __init__(self, kind: str, requests: Sequence[Request], max_num_seqs: int, steps: int) -> None:
        self._build = partial(SCHEDULERS[kind], requests, max_num_seqs)
        self._last = steps
        self.tokens: dict[int, int] = {}
        self.computed: IntArray = np.zeros(len(requests), np.int64)
        for batch in self.batches():
            self.tokens[batch.step] = int((batch.new_tokens * batch.multiplicity).sum())
            self.computed[batch.request] = batch.context + batch.new_tokens
        self.steps = max(self.tokens, default=0)

    def batches(self) -> Iterator[Batch]:
        """Yield the steps in order."""
        scheduler = self._build()
        while (batch := scheduler.schedule()) is not None and batch.step <= self._last:
            yield batch
            scheduler.complete(batch)

    @property
    def has_prefill(self) -> bool:
        """Whether the prefill is run: whether there is a step 0."""
        return 0 in self.tokens

    @property
    def decode_tokens(self) -> int:
        """Tokens of all steps but the prefill."""
        return sum(count for step, count in self.tokens.items() if step > 0)

    @property
    def num_requests(self) -> int:
        """Number of requests that are run."""
        return int(np.count_nonzero(self.computed))
