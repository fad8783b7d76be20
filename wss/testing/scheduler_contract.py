"""The rules that every scheduler keeps, whatever its order.

A request is computed in order and to its end, from its first token, or from the first one after its prompt if that is
computed elsewhere. None starves. No step holds more sequences than there are seats. The same requests give the same
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from wss.records import Batch, BoolArray, IntArray
from wss.serving.scheduler import Scheduler
from wss.testing.trial import ContractError
from wss.workload.request import Request, fixed_batch

BuildScheduler = Callable[[Sequence[Request], int], Scheduler]
MOST_STEPS = 10_000

# Seats, and the tokens of the prompt and to return of each request.
_CASES: tuple[tuple[int, list[int], list[int]], ...] = (
    (1, [4], [3]),
    (4, [3, 1, 2, 5], [2, 7, 1, 4]),
    (2, [3, 1, 2, 5, 1, 1, 9], [2, 7, 1, 4, 4, 1, 3]),
    (3, [2] * 40, [5] * 40),
    (8, [0, 3, 0], [4, 1, 2]),  # repeated to fill the seats; some without a prompt
    (16, [300, 1, 40, 7] * 8, [1, 90, 12, 33] * 8),
)


def check_scheduler(build: BuildScheduler) -> None:
    """Check the scheduler that *build* makes of requests and a number of seats.

    Raises
    ------
    ContractError
        If it breaks a rule.
    """
    for seats, prompts, outputs in _CASES:
        requests = fixed_batch(prompts, [tokens - 1 for tokens in outputs], seats)
        where = f"{len(requests)} requests, {seats} seats"
        steps = _steps(build(requests, seats), requests, seats, where)
        again = _steps(build(requests, seats), requests, seats, where)
        if [_plain(batch) for batch in steps] != [_plain(batch) for batch in again]:
            raise ContractError(f"{where}: the same requests give other steps; a scheduler may depend on nothing else")


def _steps(scheduler: Scheduler, requests: Sequence[Request], seats: int, where: str) -> list[Batch]:
    """Return all steps of *scheduler*, checked one by one and together."""
    done: dict[int, int] = {}
    steps: list[Batch] = []
    while (batch := scheduler.schedule()) is not None:
        at = f"{where}, step {batch.step}"
        if len(steps) == MOST_STEPS:
            raise ContractError(f"{at}: is step number {MOST_STEPS}, and there is no end; return None at the end")
        if steps and batch.step <= steps[-1].step:
            raise ContractError(f"{at}: follows step {steps[-1].step}; steps count up")
        _check_slots(batch, requests, done, at)
        _check_seats(batch, requests, seats, at)
        steps.append(batch)
        scheduler.complete(batch)
    for request in requests:
        computed, end = done.get(request.id, 0), _end(request)
        if computed != end and (computed > 0 or end > request.input_tokens):
            what = f"{computed} of {end} tokens of request {request.id} are computed at the end"
            raise ContractError(f"{where}: {what}; every request has to end")
    return steps


def _check_slots(batch: Batch, requests: Sequence[Request], done: dict[int, int], at: str) -> None:
    """Check each request of a step, and count its tokens in *done*."""
    by_id = {request.id: request for request in requests}
    columns = [column.tolist() for column in _columns(batch)]
    if len(set(map(len, columns))) > 1:
        raise ContractError(f"{at}: its arrays have {[len(column) for column in columns]} slots; give each as many")
    slots, numbers = list(zip(*columns, strict=True)), columns[0]
    if not slots or len(set(numbers)) < len(numbers):
        raise ContractError(f"{at}: its requests are {numbers}; give one or more, each once")
    for number, context, new, is_prefill, multiplicity in slots:
        request = by_id.get(number)
        if request is None or multiplicity != request.multiplicity:
            raise ContractError(f"{at}: request {number} times {multiplicity} is not one of the requests")
        starts = {done[number]} if number in done else {0, request.input_tokens}
        if context not in starts:
            raise ContractError(f"{at}: request {number} goes on after {context} tokens, not after {sorted(starts)}")
        end = request.input_tokens if context < request.input_tokens else _end(request)
        if new < 1 or context + new > end:
            raise ContractError(f"{at}: computes {new} tokens of request {number} after {context}; there are {end}")
        if is_prefill != (context < request.input_tokens):
            raise ContractError(f"{at}: is_prefill of request {number} is {is_prefill} after {context} tokens")
        if not is_prefill and new != 1:
            raise ContractError(
                f"{at}: computes {new} output tokens of request {number}; each waits for the one before"
            )
        done[number] = context + new


def _check_seats(batch: Batch, requests: Sequence[Request], seats: int, at: str) -> None:
    """Check that the sequences of a step fit the seats; a request that its prompt ends needs none."""
    seated = [request.id for request in requests if _end(request) > request.input_tokens]
    taken = int(batch.multiplicity[np.isin(batch.request, seated)].sum())
    if taken > seats:
        raise ContractError(f"{at}: holds {taken} sequences; there are {seats} seats")


def _end(request: Request) -> int:
    """Return how many tokens of *request* are to be computed."""
    return request.input_tokens + request.output_tokens - 1


def _columns(batch: Batch) -> tuple[IntArray | BoolArray, ...]:
    return batch.request, batch.context, batch.new_tokens, batch.is_prefill, batch.multiplicity


def _plain(batch: Batch) -> list[object]:
    return [batch.step, *(column.tolist() for column in _columns(batch))]
