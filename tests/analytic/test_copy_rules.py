"""The rules of copies, by hand on three dies in a row: whom they serve, where they lie, when they are made."""

from dataclasses import replace

import numpy as np
import pytest
from kit import copies_of, view_of, wafer_of
from kit.engine import ENGINES
from kit.runs import ROW_MODEL, THREE_DIES

from wss.engine.llc import Llcs
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.engine.work import LayerWork, WaferNetwork
from wss.errors import CapacityError, ConfigError
from wss.execution import run
from wss.execution.routing import open_stream
from wss.hardware.specs import LlcSpec
from wss.policies import POLICIES, CopyRules
from wss.policies.allocation.basic import Algorithm1
from wss.policies.balanced.policy import Balanced
from wss.policies.validation import sealed, validate_plan
from wss.records import Plan
from wss.serving import heatmap_counters

ROW = wafer_of((1, 3))
MIB = 2.0**20


def popular(sources):
    """Expert 0 has far more tokens than one die computes in time; its home is die 0, its copy lies on die 1."""
    holders = np.array([[True, True, False], [False, False, True]])
    view = view_of(ROW, np.array([9000, 1]), holders)
    return replace(view, primary_die=sealed([0, 2]), sources=sealed(sources))


OWN_DIE = [[True, False, False], [False, False, True]]
ALL_DIES = [[True, True, False], [False, False, True]]


@pytest.mark.parametrize(("sources", "read_from"), [(OWN_DIE, 0), (ALL_DIES, 1)])
@pytest.mark.parametrize("allocation", [Algorithm1(), Balanced()], ids=["algorithm1", "balanced"])
def test_a_third_die_reads_from_the_home_or_from_the_copy_next_to_it(allocation, sources, read_from):
    """Die 2 is next to the copy, so a candidate; whether it may read from there is what the rule says.

    Balanced takes the least busy source, so its die 2 may read from either where both serve.
    """
    view = popular(sources)
    plan = validate_plan(allocation.allocate(view), view, "any")
    of = {int(die): int(source) for die, source in zip(plan.die, plan.source, strict=True) if die != 2}
    assert of == {0: 0, 1: 1}, "who holds an expert reads its own"
    (third,) = plan.source[(plan.die == 2) & (plan.expert == 0)]
    assert third in ({0, 1} if read_from == 1 and isinstance(allocation, Balanced) else {read_from})


def test_candidates_are_near_any_holder_or_near_the_home_alone():
    dies = {near: set(Algorithm1(near=near).allocate(popular(OWN_DIE)).die[:-1]) for near in (None, "holders", "home")}
    assert dies[None] == dies["holders"] == {0, 1, 2}
    plan = Algorithm1(near="home").allocate(popular(OWN_DIE))
    assert set(plan.die[plan.expert == 0]) == {0, 1}, "die 2 is next to the copy, not to the home"


def test_a_plan_that_reads_from_a_copy_which_serves_its_own_die_alone_is_refused():
    one = np.array([0, 0, 1]), np.array([0, 2, 2]), np.array([8000, 1000, 1]), np.array([0, 1, 2])
    plan = Plan(**dict(zip(("expert", "die", "tokens", "source"), one, strict=True)), copy=np.zeros(3, np.bool_))
    assert validate_plan(plan, popular(ALL_DIES), "mine").source.tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="reads an expert from a die that does not hold it or does not serve others"):
        validate_plan(plan, popular(OWN_DIE), "mine")


def fetched(num_tasks=1):
    """Die 1 reads expert 0 from die 0 and keeps it; then, if there are two tasks, die 2 reads it from die 0."""
    first = np.array([0, 0])[:num_tasks]
    return Plan(
        expert=first, die=np.array([1, 2])[:num_tasks], tokens=np.ones(num_tasks, np.int64), source=first,
        copy=np.array([True, False])[:num_tasks],
    )  # fmt: skip


EVERY = [(name, network) for name in ENGINES for network in (FluidSpec(), CircuitSpec(), PacketSpec())]


def ran(engine, network, llcs, plan):
    """Run *plan* with experts of 40 MiB."""
    work = LayerWork(layer=0, plan=plan, nbytes=40 * MIB, compute=np.zeros(len(plan.expert)), window=2)
    return ENGINES[engine](WaferNetwork(ROW, network), llcs, work)


@pytest.mark.parametrize(("engine", "network"), EVERY)
@pytest.mark.parametrize("in_llc", [True, False])
def test_a_copy_goes_to_the_llc_of_its_own_die_or_to_the_hbm_alone(engine, network, in_llc):
    llcs = Llcs(LlcSpec(), 3, 40 * MIB, copies=in_llc)
    llcs.begin(flushed=False)
    ran(engine, network, llcs, fetched())
    assert [llcs.content(die) for die in range(3)] == [[(0, 0)], [(0, 0)] if in_llc else [], []]
    llcs.begin(flushed=False)
    own = replace(fetched(), source=np.array([1]), copy=np.array([False]))
    assert ran(engine, network, llcs, own).hit.tolist() == [in_llc]


@pytest.mark.parametrize(("engine", "network"), EVERY)
def test_what_hits_the_home_s_llc_is_stored_as_a_copy_too_and_pushes_out_what_lay_there(engine, network):
    llcs = Llcs(LlcSpec(), 3, 40 * MIB, copies=True)
    llcs.begin(flushed=False)
    warm = Plan(
        expert=np.array([0, 5]), die=np.array([0, 1]), tokens=np.ones(2, np.int64), source=np.array([0, 1]),
        copy=np.zeros(2, np.bool_),
    )  # fmt: skip
    ran(engine, network, llcs, warm)
    llcs.begin(flushed=False)
    assert ran(engine, network, llcs, fetched()).hit.all()
    assert [llcs.content(die) for die in range(3)] == [[(0, 0)], [(0, 0)], []], "an LLC holds one of 40 MiB"


def test_the_room_for_copies_is_what_is_free_or_the_reserve():
    """Room for 3 experts beside the weights, a reserve of 2; buffers of 1.5 leave room for one, or the reserve."""
    placed = np.ones((1, 4, 1), np.bool_)
    free, reserve = (copies_of(placed, np.array([30.0]), 10.0, reserve=each) for each in (None, 20.0))
    assert (free.budget.fitting_copies().tolist(), reserve.budget.fitting_copies().tolist()) == ([3], [2])
    none = np.zeros(0, np.int64)
    nothing = Plan(expert=none, die=none, tokens=none, source=none, copy=none > 0)
    for copies in (free, reserve):
        copies.admit(0, nothing, np.zeros(0, np.bool_), np.array([15.0]))
    assert (free.budget.fitting_copies().tolist(), reserve.budget.fitting_copies().tolist()) == ([1], [2])
    with pytest.raises(CapacityError, match="31 bytes of activation buffers"):
        reserve.admit(0, nothing, np.zeros(0, np.bool_), np.array([31.0]))


@pytest.mark.parametrize("prefill", [False, True])
def test_no_copies_are_made_in_the_prefill_unless_asked_for(prefill):
    pred = replace(POLICIES["pred"], copies=CopyRules(prefill=prefill))
    ledgers = {each.policy: each for each in run(replace(THREE_DIES, policies=(THREE_DIES.policies[0], pred))).ledgers}
    written = {"prefill": 0.0, "decode": 0.0}
    for row in ledgers["pred"].rows:
        written[row.phase] += row.local_write_bytes
    assert (written["prefill"] > 0) == prefill
    assert sum(written.values()) > 0


def test_counters_of_the_heatmap_that_16_bits_cannot_hold_are_counted(monkeypatch):
    """Of 36 counters a layer, some pass 50 in three steps of 40 tokens; as many are named."""
    assert not any("counters of the heatmap" in note for note in run(THREE_DIES).notes)
    monkeypatch.setattr(heatmap_counters, "FULL_COUNTER", 50)
    (note,) = [note for note in run(THREE_DIES).notes if "counters of the heatmap" in note]
    last = {
        layer_run.layer: layer_run.transitions.copy()
        for layer_run in open_stream(THREE_DIES, list(THREE_DIES.policies))[1].layer_runs()
    }
    full = sum(int((heat > 50).sum()) for heat in last.values())
    assert 0 < full < 2 * 36
    assert note.startswith(f"pred: {full} counters of the heatmap are beyond 50")


def rows_of(**rules):
    """Layer runs under these rules: 12 popular experts on six dies, LLCs of seven, HBMs with room for a copy or two."""
    policy = replace(POLICIES["allo_pred"], copies=CopyRules(**rules))
    die = replace(
        THREE_DIES.wafer.die, hbm=replace(THREE_DIES.wafer.die.hbm, size=100e6, reserve=0.3), llc=LlcSpec(size=100e6)
    )
    short = replace(
        THREE_DIES,
        model=replace(ROW_MODEL, num_experts=12),
        wafer=replace(THREE_DIES.wafer, mesh=(1, 6), die=die),
        trace=replace(THREE_DIES.trace, requests=900, skew=2.5),
        batch=900,
        policies=(THREE_DIES.policies[0], policy),
    )
    return next(ledger for ledger in run(short).ledgers if ledger.policy == "allo_pred").rows


@pytest.mark.parametrize(
    "rule", [{"serve": "all_dies"}, {"llc": False}, {"room": "reserve"}, {"prefill": True}], ids=str
)
def test_each_rule_changes_a_whole_run(rule):
    assert rows_of(**rule) != rows_of()


def test_copies_in_the_reserve_stay_when_experts_come():
    """Two copies lie in a reserve of 20 bytes; an expert that takes the last room pushes out none of them."""
    placed = np.array([[[True, False], [False, True], [False, True], [False, True]]])
    for reserve, stay in ((20.0, 2), (None, 0)):
        copies = copies_of(placed, np.array([20.0, 0.0]), 10.0, reserve=reserve)
        two, none = np.array([1, 2]), np.zeros(2, np.int64)
        plan = Plan(expert=two, die=none, tokens=none + 1, source=none + 1, copy=none > 0)
        assert copies.admit(0, plan, none == 0, np.zeros(2)).all()
        more = placed.copy()
        more[0, 3, 0] = True
        copies.budget.reserve_experts(np.array([2, 0]))
        copies.update_placement(0, more)
        assert copies.budget.copies.tolist() == [stay, 0]


PRED = replace(POLICIES["pred"], name="base")


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        (replace(POLICIES["base"], copies=CopyRules(prefill=True)), "copies: changes nothing: without a prediction"),
        (replace(PRED, copies=CopyRules(serve="all_dies")), "copies.serve: 'all_dies' changes nothing"),
        (replace(POLICIES["allo"], name="base", allocation=Algorithm1(near="home")), "allocation.near: 'home' changes"),
        (replace(PRED, copies=CopyRules(serve="some")), "copies.serve: 'some' is not right"),
        (replace(PRED, copies={"serve": "own_die"}), "copies: {'serve': 'own_die'} is not right; give CopyRules"),
    ],
)
def test_rules_that_change_nothing_or_are_none_are_refused(policy, what):
    with pytest.raises(ConfigError) as error:
        replace(THREE_DIES, policies=(policy,))
    assert any(fault.startswith(f"experiment: policies.0.{what}") for fault in error.value.faults), error.value.faults
