"""The contract of schedulers: the ones here keep it, one of twenty lines runs, and each rule is noticed when broken."""

from dataclasses import replace

import numpy as np
import pytest
from kit import ROOT

from wss.config import load
from wss.execution import run
from wss.records import Batch
from wss.serving.scheduler import SCHEDULERS, Schedule, SlotRefill
from wss.testing import ContractError, check_scheduler
from wss.workload.request import fixed_batch


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_every_scheduler_keeps_the_contract(name):
    check_scheduler(SCHEDULERS[name])


class LongestFirst:
    """As many of the longest requests as there are seats, token by token; then the next ones."""

    def __init__(self, requests, seats):
        self.left = sorted(requests, key=lambda r: -r.output_tokens)
        self.seats, self.done, self.step = seats, {request.id: 0 for request in requests}, -1

    def schedule(self):
        self.left = [r for r in self.left if self.done[r.id] < r.input_tokens + r.output_tokens - 1]
        taken = np.cumsum([r.multiplicity for r in self.left]) <= self.seats
        now = [r for r, fits in zip(self.left, taken, strict=True) if fits]
        context, prompt = (
            np.array(c, np.int64) for c in ([self.done[r.id] for r in now], [r.input_tokens for r in now])
        )
        self.step += 1
        who = np.array([r.id for r in now], np.int64)
        times = np.array([r.multiplicity for r in now], np.int64)
        slots = {"request": who, "context": context, "new_tokens": context * 0 + 1, "multiplicity": times}
        return Batch(step=self.step, is_prefill=context < prompt, **slots) if now else None

    def complete(self, batch):
        self.done |= dict(zip(batch.request.tolist(), (batch.context + batch.new_tokens).tolist(), strict=True))


def test_a_scheduler_of_ones_own_runs(monkeypatch):
    check_scheduler(LongestFirst)
    monkeypatch.setitem(SCHEDULERS, "static", LongestFirst)
    small = ["batch=8", "steps=3", "layers=[3]", "policies=[ep]", "baseline=ep"]
    own = run(load(ROOT / "configs" / "deepseek_v3.yaml", small)).to_dict()["runs"][0]
    monkeypatch.undo()
    usual = run(load(ROOT / "configs" / "deepseek_v3.yaml", small)).to_dict()["runs"][0]
    assert own["decode_time_s"] != usual["decode_time_s"]
    assert own["unique_requests"] == usual["unique_requests"] == 8


class Broken(SlotRefill):
    """Slot refill with one mistake, made in the second step."""

    mistake = staticmethod(lambda batch: batch)

    def schedule(self):
        batch = super().schedule()
        return batch if batch is None or batch.step != 1 else self.mistake(batch)


def with_seats(mistake):
    return type("Mine", (Broken,), {"mistake": staticmethod(mistake)})


MISTAKES = {
    "steps count up": lambda b: replace(b, step=0),
    "give each as many": lambda b: replace(b, request=b.request[:0]),
    "give one or more, each once": lambda b: replace(b, request=b.request * 0 + b.request[0]),
    "is not one of the requests": lambda b: replace(b, request=b.request + 1000),
    "goes on after": lambda b: replace(b, context=b.context + 1),
    "there are": lambda b: replace(b, new_tokens=b.new_tokens + 90),
    "is_prefill of request": lambda b: replace(b, is_prefill=~b.is_prefill),
    "each waits for the one before": lambda b: replace(b, new_tokens=b.new_tokens + 1),
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_mistake_is_named(said):
    with pytest.raises(ContractError, match=said):
        check_scheduler(with_seats(MISTAKES[said]))


def test_more_sequences_than_seats_are_named():
    with pytest.raises(ContractError, match="holds 4 sequences; there are 2 seats"):
        check_scheduler(lambda requests, seats: SlotRefill(requests, seats * 2))


def test_a_request_that_starves_is_named():
    with pytest.raises(ContractError, match="0 of 8 tokens of request 3 are computed at the end"):
        check_scheduler(lambda requests, seats: SlotRefill(requests[: seats + 1], seats))


def test_tokens_computed_twice_are_named():
    class Endless(SlotRefill):
        def complete(self, batch):
            self._computed[batch.request] = batch.context  # computes the same again

    with pytest.raises(ContractError, match="goes on after 0 tokens, not after"):
        check_scheduler(Endless)


def test_a_scheduler_that_depends_on_what_ran_before_is_named():
    order = iter([1, 1] * 3 + [1, -1] * 50)

    def build(requests, seats):
        return SlotRefill(requests[:: next(order)], seats)

    with pytest.raises(ContractError, match="the same requests give other steps"):
        check_scheduler(build)


def test_static_waits_for_the_whole_batch_and_slot_refill_does_not():
    """Two seats; requests of 1, 3 and 2 decode tokens; the third computes its own prompt only if it waited."""
    requests = fixed_batch([2, 2, 2], [1, 3, 2], 2)
    assert Schedule("static", requests, 2, 99).tokens == {0: 4, 1: 2, 2: 1, 3: 1, 4: 2, 5: 1, 6: 1}
    refilled = Schedule("slot_refill", requests, 2, 99)
    assert refilled.tokens == {0: 4, 1: 2, 2: 2, 3: 2}
    assert refilled.computed.tolist() == [3, 5, 4]
    assert [batch.request.tolist() for batch in refilled.batches()] == [[0, 1], [0, 1], [1, 2], [1, 2]]
