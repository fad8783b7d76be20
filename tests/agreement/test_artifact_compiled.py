"""The compiled code of `physics: paper` against what it stands for: the same integers, to the last."""

import dataclasses
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import ROOT, wafer_of

from wss.config import load
from wss.engine.paper.chains import PaperLayerRun
from wss.engine.paper.chains_compiled import TASK, compiled_paper_layer, store
from wss.engine.paper.layer import PaperLayer
from wss.engine.paper.machine import LLAMA4, Machine, Memories
from wss.engine.paper.rates import build_machine
from wss.execution import run
from wss.models import MODELS
from wss.policies import POLICIES, Costs, LayerView, PredictionView, Signal
from wss.policies.allocation.paper import PaperAlgorithm1
from wss.policies.prediction import PaperHeatmap, TokenHeatmap
from wss.records import Plan
from wss.serving.paper_layer import PaperExecutor

CONFIGS = ROOT / "configs"
LAYERS, EXPERTS = 2, 12
SIZES = ((1000, 1000), (2048, 7168), (5120, 8192))  # 16, 1 and 1 sets of the LLC


@st.composite
def machines(draw):
    """A mesh of up to 16 dies, with experts of which some lie anywhere."""
    wafer = wafer_of((draw(st.integers(1, 4)), draw(st.integers(1, 4))))
    made = build_machine(dataclasses.replace(MODELS["llama4_maverick"], num_experts=EXPERTS), wafer)
    hidden, intermediate = draw(st.sampled_from(SIZES))
    home = draw(st.lists(st.integers(0, wafer.num_dies - 1), min_size=EXPERTS, max_size=EXPERTS))
    return dataclasses.replace(made, hidden=hidden, intermediate=intermediate, home=home, compute_shares=LLAMA4)


@st.composite
def layer_runs(draw, num_dies):
    """A layer, tasks in any order, and which are worth a copy; few sizes, so that times fall together."""
    pairs = st.tuples(st.integers(0, EXPERTS - 1), st.integers(0, num_dies - 1))
    chosen = draw(st.lists(pairs, min_size=1, max_size=30, unique=True))
    tokens = draw(st.lists(st.sampled_from((1, 2, 600)), min_size=len(chosen), max_size=len(chosen)))
    tasks = np.array([(*pair, count) for pair, count in zip(chosen, tokens, strict=True)])
    wanted = draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)))
    return draw(st.integers(0, LAYERS - 1)), tasks, np.array(wanted)


def plain(thing):
    return {name: np.asarray(value).tolist() for name, value in vars(thing).items()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_kernels_run_to_the_same_integers(data):
    machine: Machine = data.draw(machines())
    ours, theirs = Memories(machine, LAYERS), Memories(machine, LAYERS)
    for layer, tasks, wanted in data.draw(st.lists(layer_runs(machine.num_dies), min_size=1, max_size=4)):
        compiled = compiled_paper_layer(machine, ours, layer, tasks, wanted)
        read = PaperLayerRun(machine, theirs, layer, tasks, wanted).run()
        assert plain(compiled) == plain(read)
        assert plain(ours) == plain(theirs)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((0, 1, 16)), st.integers(0, 2)), max_size=8))
def test_llcs_store_alike(stores):
    """With 16 sets experts 0 and 16 share one."""
    machine = Machine(
        hidden=1000, intermediate=1000, home=[0] * 17, routes=[[[]]], num_edges=0, compute_shares=LLAMA4, dram_share=1.0
    )
    ours, theirs = Memories(machine, 1), Memories(machine, 1)
    for expert, part in stores:
        task = np.zeros(1, TASK)
        task["set"], task["key"] = expert % machine.llc_sets, 3 * expert
        store(ours.llc, task[0], part, 0)
        theirs.store(0, expert, part, 0)
        assert ours.llc.tolist() == theirs.llc.tolist()
    assert ours.llc.shape == (1, 16, 2)


@pytest.mark.slow
@pytest.mark.parametrize("wafer", ["dojo", "tsmc_sow"])
@pytest.mark.parametrize("model", ["llama4_maverick", "deepseek_v3", "qwen3_235b", "kimi_k2"])
def test_whole_runs_are_the_same(model, wafer):
    experiment = load(CONFIGS / f"{model}.yaml")
    layers = list(experiment.layers_run[:2])
    common = ["physics=paper", f"wafer={wafer}", "batch=24", "steps=2", f"layers={layers}"]
    compiled, read = (run(load(CONFIGS / f"{model}.yaml", [*common, f"engine={e}"])) for e in ("compiled", "simpy"))
    assert compiled.to_dict()["runs"] == read.to_dict()["runs"]
    assert [ledger.rows for ledger in compiled.ledgers] == [ledger.rows for ledger in read.ledgers]
    for a, b in zip(compiled.ledgers, read.ledgers, strict=True):
        assert a.link_busy.tolist() == b.link_busy.tolist()


def test_each_engine_is_the_one_that_was_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "wss.engine.paper.layer.compiled_paper_layer", lambda *a: seen.append("compiled") or compiled_paper_layer(*a)
    )
    settings = ["physics=paper", "layers=[1]", "batch=8", "steps=1", "policies=[base]"]
    for engine, is_compiled in (("simpy", False), ("auto", True), ("compiled", True)):
        run(load(CONFIGS / "llama4_maverick.yaml", [*settings, f"engine={engine}"]))
        assert bool(seen) == is_compiled
        seen.clear()


SMALL = {"block": 50, "min_candidates": 2, "near": "home"}


class Estimate:
    """The allocator's estimate of every die, in plain Python."""

    def __init__(self, num_dies):
        self.local, self.remote, self.dram, self.links = ([0.0] * num_dies for _ in range(4))

    def of(self, die, local=0.0, remote=0.0, dram=0.0, links=0.0):
        busiest = max(self.local[die] + local, self.dram[die] + dram, self.links[die] + links)
        return busiest + self.remote[die] + remote


def allocated(order, counts, home, hops, holders, costs, cut):
    """The allocator's tasks, as tuples."""
    view = LayerView(
        layer=0, counts=counts, order=order, primary_die=home, replicas=holders.astype(np.int64),
        sources=home[:, None] == np.arange(len(hops)), hops=hops, routes=np.zeros((*hops.shape, 0), np.int64),
        costs=costs,
    )  # fmt: skip
    plan = PaperAlgorithm1(**cut).allocate(view)
    return list(zip(plan.expert.tolist(), plan.die.tolist(), plan.tokens.tolist(), strict=True))


def plain_allocate(order, counts, home, hops, held, costs, cut):
    """`PaperAlgorithm1` in plain Python, candidate by candidate."""
    load, tasks, size = Estimate(len(hops)), [], cut.get("block", 512)
    for e in order:
        load.dram[home[e]] += costs.hbm_read
    mean = sum(counts[e] for e in order) / len(order)
    for e in sorted(order, key=lambda e: (counts[e], e)):
        holders = {home[e]} | {die for die in range(len(hops)) if held[e, die]}

        def transfer(die, e=e):
            return costs.hop * float(hops[home[e], die]) + costs.link_read

        centres = holders if cut.get("near") == "holders" else {home[e]}
        near = [die for die in range(len(hops)) if die in holders or any(hops[at, die] == 1 for at in centres)]
        near.sort(key=lambda die: (load.of(die) + (0.0 if die in holders else transfer(die)), die))
        kept = near[: max(cut.get("min_candidates", 5), int(counts[e] // max(mean, size)))]
        given, left = {}, counts[e]
        while left > 0:
            block = left if left < 2 * size else size
            work = block * costs.token

            def score(die, e=e, work=work, given=given, holders=holders):
                read = 0.0 if die in given else costs.hbm_read
                if die in holders:
                    return load.of(die, local=work, dram=0.0 if die == home[e] else read), False
                return max(load.of(die, remote=work, links=transfer(die)), load.of(home[e], dram=read)), True

            die = min(kept, key=score)
            read = 0.0 if die in given else costs.hbm_read
            if die in holders:
                load.local[die] += work
                load.dram[die] += 0.0 if die == home[e] else read
            else:
                load.remote[die] += work
                load.links[die] += transfer(die)
                load.dram[home[e]] += read
            given[die] = given.get(die, 0) + block
            left -= block
        tasks += [(e, die, tokens) for die, tokens in given.items()]
    return sorted(tasks)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_allocator_hands_out_as_plain_python_does(data):
    wafer = wafer_of((data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))))
    order = data.draw(st.permutations(range(EXPERTS)))[: data.draw(st.integers(1, EXPERTS))]
    counts = np.zeros(EXPERTS, np.int64)
    for e in order:
        counts[e] = data.draw(st.sampled_from((1, 1, 511, 512, 1023, 1024, 5000, 40_000)))
    home = np.array([data.draw(st.integers(0, wafer.num_dies - 1)) for _ in range(EXPERTS)])
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    holders = rng.random((EXPERTS, wafer.num_dies)) < data.draw(st.sampled_from((0.0, 0.15, 0.5)))
    holders[np.arange(EXPERTS), home] = True
    token, read, transfer, hop = data.draw(st.sampled_from(((0.36, 27e3, 56e3, 400), (1.0, 512.0, 512.0, 0))))
    costs = Costs(token=token, hbm_read=read, link_read=transfer, hop=hop)
    cut = data.draw(st.sampled_from(({}, {"near": "holders"}, {"block": 50, "near": "holders"}, SMALL)))
    if "block" in cut:
        counts = np.minimum(counts, 1000)
    found = allocated(np.array(order), counts, home, wafer.hops, holders, costs, cut)
    assert found == plain_allocate(order, counts.tolist(), home.tolist(), wafer.hops, holders, costs, cut)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("base", [[0, 0, 5], [2, 1, 7], [3, 7, 9]]),
        ("base_even", [[0, 3, 1], [0, 4, 3], [0, 5, 1], [2, 5, 1], [2, 6, 3], [2, 7, 3], [3, 0, 2], [3, 1, 3],
                       [3, 2, 2], [3, 3, 2]]),
        ("ep", [[0, 0, 5], [2, 2, 7], [3, 3, 9]]),
    ],
)  # fmt: skip
def test_tasks_run_by_expert_then_die(policy, expected):
    """base puts the first-seen expert on die 7; of base_even's 21 tokens in the order 3, 0, 2 a die has 2 or 3."""
    rows, plans = [], []
    shape = dataclasses.replace(MODELS["llama4_maverick"], num_experts=4)
    model = PaperLayer(shape, wafer_of((2, 4)), 1, 1.0, compiled=True)
    model.run = lambda layer, plan: plans.append(plan) or PaperLayer.run(model, layer, plan)
    recorder = types.SimpleNamespace(row=lambda row, links, compute: rows.append(row))
    counts = np.array([5, 0, 7, 9])
    layer_run = types.SimpleNamespace(step=1, layer=0, counts=counts, order=np.array([3, 0, 2]))
    PaperExecutor(model, POLICIES[policy], recorder, (17,), 2.0).run(layer_run)
    (plan,), (row,) = plans, rows
    assert np.column_stack((plan.expert, plan.die, plan.tokens)).tolist() == expected
    assert (row.layer, row.tokens, row.active_experts, row.max_expert_tokens, row.tasks) == (
        17,
        21,
        3,
        9,
        len(expected),
    )
    assert row.planning_s == (0.0 if POLICIES[policy].allocation.local else 2.0)
    assert not plan.copy.any()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from((1, 3, 1000)),
    st.sampled_from((np.int64, np.int32)),
    st.integers(0, 999),
)
def test_predicted_copies_are_those_of_the_whole_rows(experts, dies, most, dtype, seed):
    """An expert never seen is in a row's top if it has room; `TokenHeatmap` leaves it out."""
    rng = np.random.default_rng(seed)
    transitions = rng.integers(0, most + 1, (experts, experts)).astype(dtype)
    expert, die = np.unique(rng.integers(0, (experts, dies), (experts, 2)), axis=0).T.copy()
    fetched = rng.random(len(expert)) < 0.5
    source = np.where(fetched, (die + 1) % (dies + 1), die)
    plan = Plan(expert=expert, die=die, tokens=np.ones_like(die), source=source, copy=np.zeros(len(die), np.bool_))
    signals = {Signal.TRANSITIONS: transitions}
    view = PredictionView(signals=signals, plan=plan, num_experts=experts, num_dies=dies + 1)
    top = np.argsort(-transitions, axis=1, kind="stable")[:, : math.ceil(0.2 * experts)]
    rows = [expert[die == at] for at in die]
    in_top = [(top[row] == e).any() for row, e in zip(rows, expert, strict=True)]
    assert PaperHeatmap(share=0.2).predict(view).tolist() == (np.array(in_top) & fetched).tolist()
    seen = [
        ((top[row] == e).any(axis=1) & (transitions[row, e] > 0)).any() for row, e in zip(rows, expert, strict=True)
    ]
    assert TokenHeatmap(share=0.2).predict(view).tolist() == (np.array(seen) & fetched).tolist()
