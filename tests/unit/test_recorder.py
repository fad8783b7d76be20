"""The recorder of an executor: any object with three methods; the ledger is one, and checks what it takes."""

from dataclasses import replace

import numpy as np
import pytest
from kit.runs import THREE_DIES

from wss.execution import run
from wss.execution.routing import build_routing_history, open_stream
from wss.execution.runner import build_ledger
from wss.hardware import build
from wss.policies import POLICIES
from wss.policies.rebalancing import Every
from wss.records import LayerRecord, MoveRecord
from wss.serving.moe_layer import MoeLayerExecutor


class Kept:
    """A recorder that keeps all that it takes."""

    def __init__(self):
        self.policy, self.rebalances, self.taken = "mine", None, []

    def layer_run(self, record):
        self.taken.append(record)

    migration = layer_run


def recorded(**changes):
    """An experiment with one policy, and what a recorder takes of it."""
    policy = replace(THREE_DIES.policies[1], **changes)
    experiment = replace(THREE_DIES, policies=(policy,), baseline=policy.name)
    wafer, recorder = build(experiment.wafer), Kept()
    executor = MoeLayerExecutor(experiment.setup, wafer, policy, build_routing_history(experiment), recorder)
    for layer_run in open_stream(experiment, [policy])[1].layer_runs():
        executor.run(layer_run)
    return experiment, wafer, recorder


def test_a_ledger_that_takes_the_records_has_the_rows_of_a_run():
    experiment, wafer, recorder = recorded()
    ledger = build_ledger(experiment, wafer, experiment.policies[0].name)
    for record in recorder.taken:
        ledger.layer_run(record)
    assert ledger.rows == run(experiment).ledgers[0].rows
    assert len(ledger.rows) == 2 * 4


@pytest.mark.parametrize("how", ["blocking", "background"])
def test_migrations_are_recorded(how):
    _, _, recorder = recorded(placement=POLICIES["eplb"].placement, rebalancing=Every(steps=1, how=how))
    moves = [record for record in recorder.taken if isinstance(record, MoveRecord)]
    assert recorder.rebalances == 2
    assert moves
    assert all((move.run is None) == (how == "background") for move in moves)
    assert all(isinstance(record, LayerRecord | MoveRecord) for record in recorder.taken)


def first_record():
    experiment, wafer, recorder = recorded()
    return build_ledger(experiment, wafer, "mine"), recorder.taken[-1]


def test_the_ledger_refuses_a_run_faster_than_its_bound():
    ledger, record = first_record()
    with pytest.raises(AssertionError, match=r"step 3, layer 1: .* s beats the lower bound"):
        ledger.layer_run(replace(record, run=replace(record.run, die_end=record.run.die_end * 1e-6)))
    assert ledger.rows == []


def test_the_ledger_refuses_bytes_that_nobody_planned():
    ledger, record = first_record()
    carried = record.run.traffic
    more = replace(carried, hbm_read=carried.hbm_read * np.array([2.0, 1.0, 1.0]))
    with pytest.raises(AssertionError, match=r"hbm_read\[0\]: .* bytes carried, .* planned"):
        ledger.layer_run(replace(record, run=replace(record.run, traffic=more)))


def test_what_is_planned_and_exchanged_is_part_of_the_time():
    ledger, record = first_record()
    ledger.layer_run(record)
    ledger.layer_run(replace(record, planned=1.5))
    before, after = ledger.rows
    assert after.time_s == pytest.approx(before.time_s + 1.5)
    assert (before.planning_s, after.planning_s) == (0.0, 1.5)
