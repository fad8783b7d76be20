"""`physics: paper` against the paper's own simulator, and its queueing rules by hand."""

import dataclasses
import json

import numpy as np
import pytest
from kit import ROOT, shared

from wss.config import load
from wss.engine.paper.chains import PaperLayerRun
from wss.engine.paper.chains_compiled import compiled_paper_layer
from wss.engine.paper.machine import Machine, Memories
from wss.engine.paper.queues import Circuit
from wss.errors import ConfigError
from wss.execution import routing, run
from wss.traces import TraceReader, write_trace
from wss.traces.transitions import RoutingCounts

CONFIG = ROOT / "configs" / "llama4_maverick.yaml"
ARTIFACT = ["physics=paper", "layers=all"]


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """The 235 real requests in the order of the reference: by subject, then by number as text."""
    requests, meta = [], None
    for subject in ("abstract_algebra", "anatomy"):
        name = f"meta-llama__Llama-4-Maverick-17B-128E-Instruct__mmlu__{subject}.parquet"
        with TraceReader(shared("traces", "parquet", name)) as reader:
            requests += sorted(reader.requests(), key=lambda request: str(request.request))
            meta = reader.meta
    path = tmp_path_factory.mktemp("artifact") / "t.parquet"
    write_trace(path, meta, requests)
    return path


def rows():
    try:
        content = json.loads(shared("reference", "artifact.json").read_text())
    except pytest.skip.Exception:
        return []
    return content["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("wafer", ["dojo", "tsmc_sow"])
@pytest.mark.parametrize("batch", [235, 4096])
def test_it_agrees_with_the_papers_simulator(trace, wafer, batch):
    found = [r for r in rows() if r["wafer"].startswith(wafer) and r["batch"] == batch]
    if not found:
        pytest.skip("no reference for this wafer and batch here")
    policies = sorted({r["policy"] for r in found} | {"base"})
    settings = [f"wafer={wafer}", f"batch={batch}", f"trace.path={trace}", "steps=15", f"policies={policies}"]
    ours = {r["policy"]: r for r in run(load(CONFIG, [*ARTIFACT, *settings])).to_dict()["runs"]}
    for row in found:
        own = ours[row["policy"]]
        off = own["decode_time_s"] / row["decode_time_s"] - 1
        assert abs(off) <= (0.0001 if row["policy"] == "ep" else 0.01), (row["policy"], off)
        hops = own["hops"] + own["prefill_hops"]  # the reference counts all steps
        assert abs(hops - row["hops"]) <= max(0.01 * row["hops"], 3), (row["policy"], hops)
        assert own["remote_read_bytes"] <= 1.01 * row["remote_read_GiB"] * 2**30
        assert abs(own["prefill_time_s"] / row["prefill_time_s"] - 1) <= 0.025


def act(log, name, takes, then=None):
    def acted(start):
        log.append((name, start))
        if then is not None:
            then(start + takes)
        return start + takes

    return acted


def test_a_resource_serves_one_at_a_time_in_order_of_arrival():
    circuit, log = Circuit(1), []
    for name in "abc":
        circuit.submit(0, (0,), 0, act(log, name, 10))
    assert circuit.run() == 30
    assert log == [("a", 0), ("b", 10), ("c", 20)]
    assert circuit.busy == [30]


def test_higher_priority_goes_first_then_the_earlier_time():
    circuit, log = Circuit(1), []
    circuit.submit(0, (0,), 0, act(log, "first", 10))
    circuit.submit(5, (0,), 0, act(log, "late", 10))
    circuit.submit(3, (0,), 0, act(log, "early", 10))
    circuit.submit(9, (0,), 1, act(log, "urgent", 10))
    circuit.run()
    assert [name for name, _ in log] == ["first", "urgent", "early", "late"]


def test_what_is_admitted_holds_its_resources_before_it_starts():
    circuit, log = Circuit(1), []
    circuit.submit(100, (0,), 0, act(log, "later", 10))
    circuit.submit(0, (0,), 0, act(log, "now", 10))
    assert circuit.run() == 120
    assert log == [("later", 100), ("now", 110)]


def test_a_whole_set_is_held_and_nobody_overtakes_the_head():
    """`both` waits for 0 and 1; `one` needs 1 alone, which is free from 10 on, but `both` stands before it."""
    circuit, log = Circuit(2), []
    circuit.submit(0, (0,), 0, act(log, "long", 50))
    circuit.submit(0, (1,), 0, act(log, "short", 10))
    circuit.submit(0, (0, 1), 0, act(log, "both", 5))
    circuit.submit(0, (1,), 0, act(log, "one", 5))
    circuit.run()
    assert log == [("long", 0), ("short", 0), ("both", 50), ("one", 55)]


def test_a_successor_is_submitted_before_its_predecessor_is_released():
    circuit, log = Circuit(1), []
    successor = act(log, "successor", 1)
    circuit.submit(0, (0,), 0, act(log, "first", 10, lambda end: circuit.submit(end, (0,), 1, successor)))
    circuit.submit(0, (0,), 0, act(log, "waiting", 1))
    circuit.run()
    assert [name for name, _ in log] == ["first", "successor", "waiting"]


def machine(num_dies=2):
    """Two dies, one edge; a slice is 2 · 1000 · 1000 B = 2 MB."""
    edge = 3 * num_dies
    return Machine(
        hidden=1000,
        intermediate=1000,
        home=[0, 1],
        routes=[[[], [edge]], [[edge], []]],
        num_edges=1,
        compute_shares=((float("inf"), 0.5),),
        dram_share=1.0,
    )


def in_python(*arguments):
    return PaperLayerRun(*arguments).run()


ENGINES = pytest.mark.parametrize("engine", [in_python, compiled_paper_layer])


def layer_run(engine, task, wanted=False, memories=None):
    m = machine()
    return engine(m, memories or Memories(m, 1), 0, np.array([task]), np.array([wanted]))


@ENGINES
def test_a_local_chain_worked_out_by_hand(engine):
    """Three slices: look-ups end at 110, 220, 330; DRAM 300 + ceil(2,004,000 / 3350) = 899 each, one after another from
    110; the last ends at 110 + 3 · 899 = 2807; computing one token of a slice takes 2e6 / 5e5 = 4 ns.
    """
    counts = layer_run(engine, (0, 0, 1))
    assert 300 + -(-2_004_000 // 3350) == 899
    assert counts.time == max(110 + 3 * 899 + 4, 110 + 3 * 899 + 30)
    assert (counts.accesses, counts.hops, counts.local_bytes) == (3, 0, 3 * 2_004_000)


@ENGINES
def test_a_remote_chain_worked_out_by_hand(engine):
    """Requests take 201 ns on the only edge, data 200 + ceil(2e6 / 1566.9) = 1477; DRAM 300 + 598 = 898.

    Request 1 runs from 110 to 311. Request 2, submitted at 220, is admitted as request 1 is released and runs to 512;
    it is before data 1 in the edge's queue. Then request 3 (330), from 512 to 713, and the data legs.
    """
    counts = layer_run(engine, (0, 1, 1))
    assert (counts.hops, counts.remote_bytes, counts.remote_slices.tolist()) == (3, 6_000_000, [3])
    data = -(-2_000_000 * 10 // 15669) + 200
    assert data == 1477
    first = 311 + 898
    assert counts.time == max(first, 713) + 3 * data + 4


@ENGINES
def test_a_copy_is_written_to_dram_and_read_there_the_next_time(engine):
    memories = Memories(machine(), 1)
    first = layer_run(engine, (0, 1, 1), True, memories)
    assert first.written_bytes == 6_000_000
    assert memories.num_copies.tolist() == [0, 3]
    again = layer_run(engine, (0, 1, 1), False, memories)
    assert (again.hops, again.local_bytes) == (0, 3 * 2_004_000)


def test_the_llc_keeps_two_slices_a_set_oldest_out():
    memories = Memories(dataclasses.replace(machine(), hidden=8192, intermediate=5120), 2)
    for part in (0, 1, 0, 2):
        memories.store(0, 0, part, 1)
    assert [memories.holds(0, 0, part, 1) for part in range(3)] == [True, False, True]
    assert not memories.holds(1, 0, 2, 1)
    assert not memories.holds(0, 0, 2, 0)


@pytest.mark.parametrize(("physics", "across"), [("wss", True), ("paper", False)])
def test_each_physics_has_its_own_idea_of_which_tokens_are_neighbours(monkeypatch, physics, across):
    seen = []
    make = lambda *a, **k: seen.append(k["across_phases"]) or RoutingCounts(*a, **k)  # noqa: E731
    monkeypatch.setattr(routing, "RoutingCounts", make)
    run(load(CONFIG, [f"physics={physics}", "layers=[1]", "batch=8", "steps=1"]))
    assert seen == [across]


def test_it_says_by_how_much_it_exceeds_capacity():
    config = CONFIG.parent / "kimi_k2.yaml"
    result = run(load(config, ["physics=paper", "layers=[1]", "batch=64", "steps=1"]))
    weights, usable = 60 * 384 * 3 * 7168 * 2048 * 2, 25 * 72e9
    assert result.to_dict()["runs"][0]["hbm_excess_bytes"] >= weights - usable
    assert any("exceed the usable HBM by" in note for note in result.notes)
    assert all(r["bound_ratio"] >= 1 for r in result.to_dict()["runs"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["model=gpt_oss_20b", "trace.synth=gpt_oss_20b"], "has no compute times for openai/gpt-oss-20b"),
        (["precision=fp8"], "has no fp8"),
        (["faults={dies: [[2, 2]]}"], "has no faults"),
        (
            ["policies=[base, balanced]"],
            "has no such allocation ('balanced'); give in_turn, chunked, home or algorithm1",
        ),
        (["policies=[base, belady]"], "has no such prediction ('belady'); give never or token_heatmap"),
        (
            ["policies=[base, {name: mine, preset: allo, placement: remap}]"],
            "has no such placement ('mine'); give none",
        ),
        (
            ["policies=[base, {name: mine, preset: pred, copies: {llc: false}}]"],
            "has no such copies ('mine'); give none",
        ),
        (["policies.allo.allocation.radius=2"], "has no such radius ('allo'); give 1"),
    ],
)
def test_what_it_has_not_is_refused(settings, expected):
    with pytest.raises(ConfigError, match="physics: paper has no ") as error:
        run(load(CONFIG, [*ARTIFACT, *settings]))
    assert expected in error.value.faults[0]


def test_the_texts_variants_run_under_the_papers_physics():
    """Each parameter that the text and the authors' simulator have otherwise changes what comes out."""
    settings = ["physics=paper", "layers=[3]", "batch=8192", "steps=2", "trace.synth.requests=8192"]
    settings += ["baseline=base", "policies=[base, base_even, allo, allo_pred]"]

    def times(*more):
        runs = run(load(CONFIG.with_name("deepseek_v3.yaml"), [*settings, *more])).to_dict()["runs"]
        return {row["policy"]: row["decode_time_s"] for row in runs}

    usual = times()
    assert usual["base_even"] != usual["base"]
    assert times("policies.base.allocation.offset=0")["base"] != usual["base"]
    assert times("policies.allo.allocation.block=50")["allo"] != usual["allo"]
    assert times("policies.allo.allocation.block=512", "policies.allo_pred.allocation.near=home") == usual
    assert times("policies.allo_pred.allocation.near=holders")["allo_pred"] != usual["allo_pred"]
    assert times("policies.allo.allocation.min_candidates=1")["allo"] != usual["allo"]
    assert times("policies.allo_pred.prediction.share=0.01")["allo_pred"] != usual["allo_pred"]
