"""Planning is free, takes a given time, or what a host would take; by hand on three dies."""

from dataclasses import replace

import pytest
from kit.runs import THREE_DIES

from wss.config.experiment import LayerSample
from wss.errors import ConfigError
from wss.execution import run
from wss.models import MODELS
from wss.policies import POLICIES
from wss.policies.allocation.basic import Home
from wss.serving.planning_time import planning_time

THREE = replace(THREE_DIES, policies=tuple(POLICIES[name] for name in ("base", "ep", "allo")))


def rows_of(planning, **changes):
    ledgers = run(replace(THREE, planning=planning, **changes)).ledgers
    return {ledger.policy: ledger.rows for ledger in ledgers}


@pytest.mark.parametrize(
    "changes", [{}, {"model": MODELS["llama4_maverick"], "layers": (1,), "physics": "paper", "steps": 1}], ids=str
)
def test_a_layer_run_of_an_allocator_waits_for_its_plan(changes):
    free, given = rows_of("free", **changes), rows_of(20e-6, **changes)
    for policy, rows in given.items():
        waits = 20e-6 if policy == "allo" else 0.0
        for before, after in zip(free[policy], rows, strict=True):
            assert (before.planning_s, after.planning_s) == (0.0, waits)
            assert after.time_s == pytest.approx(before.time_s + waits, rel=1e-12)
            assert after.mean_die_time_s == pytest.approx(before.mean_die_time_s + waits, rel=1e-12)
            assert after.lower_bound_s == before.lower_bound_s


def test_a_host_takes_a_round_trip_the_table_up_and_the_plan_down():
    """256 experts of 9 bytes and 300 tasks of 8 at 64 GB/s: 73.5 ns beside 20 us."""
    assert planning_time("charged", POLICIES["allo"], 256, 300) == pytest.approx(20e-6 + (256 * 9 + 300 * 8) / 64e9)
    assert planning_time("charged", POLICIES["ep"], 256, 300) == 0.0
    charged = rows_of("charged")["allo"]
    assert all(row.planning_s == 20e-6 + (6 * 9 + row.tasks * 8) / 64e9 for row in charged)


def test_waiting_is_a_figure_of_the_summary_where_it_is_charged():
    (of_ep, of_allo) = (
        {run["policy"]: run for run in run(replace(THREE, planning=20e-6)).to_dict()["runs"]}[name]
        for name in ("ep", "allo")
    )
    assert of_allo["planning_time_s"] == pytest.approx(3 * 2 * 20e-6)
    assert "planning_time_s" not in of_ep


def test_waiting_is_estimated_for_all_layers_where_they_are_sampled():
    model = replace(THREE.model, num_layers=8, moe_layers=tuple(range(8)))
    sampled = replace(THREE, model=model, layers=LayerSample(sample=4), planning=20e-6)
    of_allo = next(row for row in run(sampled).to_dict()["runs"] if row["policy"] == "allo")
    assert of_allo["planning_time_s"] == pytest.approx(3 * 8 * 20e-6)


def test_who_waits_for_a_plan_of_all_dies():
    waits = {name for name, policy in POLICIES.items() if planning_time(1e-6, policy, 8, 8)}
    assert waits == {
        "allo", "allo_pred", "prefill_guided", "near", "balanced", "balanced_pred", "cross_hierarchy",
    }  # fmt: skip
    for local, waiting in ((True, 0.0), (False, 1e-6)):
        mine = replace(POLICIES["ep"], allocation=type("Mine", (Home,), {"local": local})())
        assert planning_time(1e-6, mine, 8, 8) == waiting, "one's own class says how it plans"
    assert planning_time(0.0, POLICIES["allo"], 8, 8) == 0.0


def test_a_policy_that_is_charged_nothing_says_so():
    free, charged = (run(replace(THREE, planning=planning)).notes for planning in ("free", "charged"))
    said = [note for note in charged if note not in free]
    what = "every die works out its own part of the plan, so no planning is charged"
    assert said == [f"base: {what}", f"ep: {what}"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"planning": -1e-6}, "planning: '-1e-06 s' is out of range"),
        ({"planning": "dear"}, "planning: 'dear' is not right; give 'free', 'charged' or seconds, such as 2e-05"),
    ],
)
def test_other_planning_is_refused(changes, what):
    with pytest.raises(ConfigError) as error:
        replace(THREE, **changes)
    assert any(fault.startswith(f"experiment: {what}") for fault in error.value.faults), error.value.faults
