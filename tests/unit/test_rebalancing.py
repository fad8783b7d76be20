"""Rebalancing: what a move costs, worked out by hand; what may be known; whole runs."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from kit import contiguous
from kit.runs import SMALL
from kit.sweeps import FILES, do, sweep_file

from wss.config import load
from wss.errors import CapacityError
from wss.execution import run
from wss.execution.routing import build_routing_history, open_stream
from wss.execution.runner import build_executors
from wss.hardware import build
from wss.policies import POLICIES, Allocation, Placement, Signal
from wss.policies.placement.eplb import Eplb
from wss.policies.prediction import Always
from wss.policies.rebalancing import Every, NoRebalancing
from wss.traces import RequestRouting, write_trace
from wss.traces.synthetic.spec import synth_meta, synthesise

EXPERT = 3 * 1024 * 2048 * 2.0  # bytes of one expert of SMALL in fp16


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@dataclass(frozen=True, kw_only=True)
class Scripted(Placement):
    """Answers with the layouts it is given, one after another, the last again and again."""

    layouts: list[np.ndarray]
    signals = frozenset({Signal.PREFILL_LOAD})
    loads: list[np.ndarray] = field(default_factory=list)

    def place(self, view):
        self.loads.append(np.array(view.load))
        return self.layouts[min(len(self.loads), len(self.layouts)) - 1]


def layouts(*homes):
    """Layouts of three layers of 12 experts on 6 dies: contiguous, but for the homes given, {expert: dies}."""
    made = []
    for changed in homes:
        held = contiguous(12, 6)
        for expert, dies in changed.items():
            held[expert] = np.isin(np.arange(6), dies)
        made.append(np.array([held] * 3))
    return made


def rebalanced(path, placement, *settings, preset="ep", **rule):
    """Run SMALL with one policy that rebalances, and return its ledger, its figures and the notes."""
    policy = replace(POLICIES[preset], name="it", placement=placement, rebalancing=Every(**rule))
    experiment = replace(load(path, ["steps=6", *settings]), policies=(policy,), baseline="it")
    result = run(experiment)
    return result.ledgers[0], result.to_dict()["runs"][0], result.notes


def moves_in(ledger):
    return [row for row in ledger.rows if row.phase == "rebalance"]


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_blocking_move_takes_what_it_takes_by_hand(small, engine):
    """Expert 0 goes one link, in each of three layers: miss, HBM, there and back, and its bytes over the link."""
    placement = Scripted(layouts=layouts({}, {0: [1]}))
    ledger, figures, _ = rebalanced(small, placement, f"engine={engine}", steps=2, how="blocking")
    each = 110e-9 + 300e-9 + 2 * 200e-9 + EXPERT / 1.7e12
    moves = moves_in(ledger)
    assert [row.time_s for row in moves] == pytest.approx([each] * 3, rel=1e-12)
    assert [(row.step, row.layer, row.hops) for row in moves] == [(3, 1, 1), (3, 2, 1), (3, 3, 1)]
    assert figures["rebalance_time_s"] == pytest.approx(3 * each, rel=1e-12)
    assert figures["moved_bytes"] == 3 * EXPERT
    assert figures["rebalances"] == 2  # before steps 3 and 5, the second of which moves nothing
    layer_runs = sum(row.time_s for row in ledger.rows if row.phase == "decode")
    assert figures["decode_time_s"] == pytest.approx(layer_runs + 3 * each, rel=1e-12)
    assert figures["kernels"] == 18
    assert figures["hops"] == 3  # ep has none of its own
    assert figures["link_bytes"] == pytest.approx(3 * EXPERT * 1.25, rel=1e-9)


def test_two_blocking_moves_over_one_link_share_it(small):
    placement = Scripted(layouts=layouts({}, {0: [1], 1: [1]}))
    ledger, _, _ = rebalanced(small, placement, steps=2, how="blocking")
    each = 110e-9 + 300e-9 + 2 * 200e-9 + 2 * EXPERT / 1.7e12
    assert [row.time_s for row in moves_in(ledger)] == pytest.approx([each] * 3, rel=1e-12)


def test_what_moved_is_read_from_its_new_home(small):
    """Every token of expert 0 is computed where it came to be placed, from the step after the move on."""
    seen = []

    @dataclass(frozen=True, kw_only=True)
    class Watching(Allocation):
        def allocate(self, view):
            seen.append(view.primary_die[0])
            return POLICIES["ep"].allocation.allocate(view)

    policy = replace(
        POLICIES["ep"],
        name="it",
        placement=Scripted(layouts=layouts({}, {0: [5]})),
        allocation=Watching(),
        rebalancing=Every(steps=2, how="blocking"),
    )
    run(replace(load(small, ["steps=4"]), policies=(policy,), baseline="it"))
    assert seen == [0] * 9 + [5] * 6  # prefill and two steps of three layers; two steps


def test_a_load_that_does_not_change_moves_nothing_after_the_first_time(small):
    @dataclass(frozen=True, kw_only=True)
    class SameLoad(Every):
        def rebalance(self, view):
            return None if super().rebalance(view) is None else np.tile(np.arange(1, 13) ** 2, (3, 1))

    policy = replace(POLICIES["eplb"], name="it", rebalancing=SameLoad(steps=1, how="blocking"))
    result = run(replace(load(small, ["steps=5"]), policies=(policy,), baseline="it"))
    assert result.to_dict()["runs"][0]["rebalances"] == 4
    assert {row.step for row in moves_in(result.ledgers[0])} == {2}


def test_the_load_looked_back_on_is_that_of_the_last_steps(small):
    placement = Scripted(layouts=layouts({}))
    ledger, _, _ = rebalanced(small, placement, steps=2, window=3, how="blocking")
    tokens = {(row.step, row.layer): row.tokens for row in ledger.rows}
    assert len(placement.loads) == 3
    for load_seen, steps in zip(placement.loads, [(0,), (1, 2), (2, 3, 4)], strict=True):
        assert load_seen.sum(axis=1).tolist() == [sum(tokens[step, layer] for step in steps) for layer in (1, 2, 3)]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "it: rebalancing.steps is 16, and decode ends with step 6: it never rebalanced"),
        ({"steps": 6}, "it: rebalancing.steps is 6, and decode ends with step 6: it never rebalanced"),
        (
            {"steps": 2, "window": 5},
            "it: rebalancing.window is 5, and at most 4 steps were available",
        ),
        ({"steps": 2, "window": 4}, None),
        ({"steps": 5}, None),
    ],
)
def test_times_longer_than_decode_are_noted(small, rule, said):
    ledger, _, notes = rebalanced(small, Scripted(layouts=layouts({})), **rule)
    assert [note for note in notes if "rebalancing." in note] == ([said] if said else [])
    assert (ledger.rebalances == 0) == (said is not None and "never rebalanced" in said)


@pytest.mark.parametrize("how", ["blocking", "background"])
def test_no_future_is_known(small, tmp_path, how):
    """Routing after step 3 is replaced: no row up to that step may change, moves included; some later row must."""
    spec, model = load(small).trace, load(small).model

    def with_another_future():
        for request in synthesise(spec, model, 0):
            experts = request.experts.copy()
            experts[request.num_prefill + 3 :] = (experts[request.num_prefill + 3 :] + 5) % model.num_experts
            yield RequestRouting(
                request=request.request, position=request.position, num_prefill=request.num_prefill, experts=experts
            )

    path = tmp_path / "t.parquet"
    write_trace(path, synth_meta(spec, model, 0), with_another_future())
    before, _, _ = rebalanced(small, Eplb(), steps=1, how=how, preset="eplb")
    after, _, _ = rebalanced(small, Eplb(), f"trace.path={path}", steps=1, how=how, preset="eplb")
    assert moves_in(before)
    past = [row for row in before.rows if row.step <= 3]
    assert past == [row for row in after.rows if row.step <= 3]
    moved = [[(row.step, row.layer, row.hops) for row in moves_in(each) if row.step > 4] for each in (before, after)]
    assert moved[0] != moved[1]


def test_background_moves_slow_no_kernel_and_all_bytes_arrive(small):
    """Up to the first landing layer runs are those of the policy that stays; each landed expert has moved whole."""
    placement = Scripted(layouts=layouts({}, {0: [5], 1: [4, 0]}))
    longer = ("steps=16", "trace.synth.decode_tokens=16")
    ledger, figures, notes = rebalanced(small, placement, *longer, steps=2)
    stays, _, _ = rebalanced(small, Scripted(layouts=layouts({})), *longer, steps=2)
    layer_runs, still = ([row for row in each.rows if row.phase != "rebalance"] for each in (ledger, stays))
    landing = next(i for i, row in enumerate(ledger.rows) if row.tasks and row.phase == "rebalance")
    before = len([row for row in ledger.rows[:landing] if row.phase != "rebalance"])
    assert [replace(row, hbm_used_bytes=0) for row in layer_runs[:before]] == [
        replace(row, hbm_used_bytes=0) for row in still[:before]
    ]
    assert figures["rebalance_time_s"] == 0
    assert figures["moved_bytes"] == pytest.approx(6 * EXPERT, rel=1e-9)
    assert sum(row.tasks for row in moves_in(ledger)) == 6
    assert not [note for note in notes if "being moved" in note]
    assert sum(row.hops for row in moves_in(ledger)) == 3 * (3 + 2)
    wafer = build(load(small).wafer)
    for ways, nbytes in (
        ([(0, 5), (0, 4)], ledger.link_data),
        ([(5, 0), (4, 0)], ledger.link_request / wafer.link_request),  # asked for the other way
    ):
        moved = np.zeros(wafer.num_links)
        for way in ways:
            moved[wafer.routes[way][wafer.routes[way] >= 0]] += 3 * EXPERT
        np.testing.assert_allclose(nbytes, moved, rtol=1e-9)


def test_what_finds_no_room_stays_and_is_said(small):
    """Dies hold their six experts, the buffers, and nothing more: two experts cannot change places."""
    need = 6 * EXPERT + 40 * 2 * load(small).model.activation_bytes
    size = f"wafer.die.hbm={{bandwidth: 3.35 TB/s, size: {need * 1.0001:.0f} B, reserve: 0}}"
    placement = Scripted(layouts=layouts({}, {0: [1], 2: [0]}))
    _, figures, notes = rebalanced(small, placement, size, steps=2, how="blocking")
    assert figures["moved_bytes"] == 0
    assert figures["hbm_peak_bytes"] <= need * 1.0001
    assert "it: 12 experts were not moved, as the new die had no room" in notes
    _, _, notes = rebalanced(small, Scripted(layouts=placement.layouts), size, steps=2)
    assert "it: 6 experts were not moved, as the new die had no room" in notes, "in the background they wait"
    with pytest.raises(CapacityError):
        rebalanced(small, placement, size.replace(f"{need * 1.0001:.0f}", f"{5 * EXPERT:.0f}"), steps=2)


@pytest.mark.parametrize("how", ["blocking", "background"])
@pytest.mark.parametrize("preset", ["eplb", "allo_pred"])
def test_both_engines_agree(small, how, preset):
    """Replicas come and go, and beside them the copies of a predictor."""
    rows = []
    for engine in ("simpy", "compiled"):
        ledger, figures, _ = rebalanced(small, Eplb(), f"engine={engine}", preset=preset, steps=1, window=2, how=how)
        assert figures["moved_bytes"] > 0
        rows.append([[value for value in vars(row).values() if not isinstance(value, str)] for row in ledger.rows])
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-9)


@pytest.mark.parametrize("network", ["packet", "circuit"])
def test_blocking_moves_go_over_any_network(small, network):
    chunk = ", chunk: 256 KiB" if network == "packet" else ""
    placement = Scripted(layouts=layouts({}, {0: [1]}))
    _, figures, _ = rebalanced(small, placement, f"network={{kind: {network}{chunk}}}", steps=2, how="blocking")
    least = 3 * EXPERT / 1.7e12
    assert least < figures["rebalance_time_s"] < 2 * least


def test_sampled_layers_stand_for_all_in_what_moving_cost(small):
    settings = [
        "model={name: tiny, num_layers: 8, moe_layers: [0, 1, 2, 3, 4, 5, 6, 7], num_experts: 12, top_k: 2, "
        "hidden_size: 1024, moe_intermediate_size: 2048}"
    ]
    longer = ("steps=16", "trace.synth.decode_tokens=16")
    placement = Scripted(layouts=[np.array([held[0]] * 8) for held in layouts({}, {0: [1]})])
    for how, share in (("blocking", 1.0), ("background", 0.0)):
        _, figures, _ = rebalanced(
            small, replace(placement, loads=[]), *settings, *longer, "layers.sample=4", steps=2, how=how
        )
        each = 110e-9 + 300e-9 + 2 * 200e-9 + EXPERT / 1.7e12
        assert figures["moved_bytes"] == pytest.approx(8 * EXPERT, rel=1e-9)
        assert figures["rebalance_time_s"] == pytest.approx(share * 8 * each, rel=1e-9)


@pytest.mark.slow
def test_sweeps_are_the_same_bytes_whatever_the_workers(tmp_path):
    text = """
config:
  model: {name: tiny, num_layers: 3, moe_layers: [0, 1, 2], num_experts: 8, top_k: 2, hidden_size: 512,
          moe_intermediate_size: 256, source: made up}
  wafer: {preset: dojo, mesh: [2, 2]}
  trace: {synth: {requests: 8, prompt_min: 2, prompt_max: 4, decode_tokens: 6, clusters: 4, drift_at: 3}}
  batch: 8
  steps: 6
  policies:
    - base
    - {name: now, preset: eplb, rebalancing: {kind: every, steps: 2, how: blocking}}
    - {name: then, preset: remap, rebalancing: {kind: every, steps: 2, window: 2}}
grid: {seed: [0, 1], batch: [8, 16]}
"""
    path = sweep_file(tmp_path, text)
    for workers in (1, 2):
        do(path, tmp_path / str(workers), workers)
    for name in FILES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    header = (tmp_path / "1" / "results.csv").read_text(encoding="utf-8").split("\n")[0]
    assert {"moved_bytes", "rebalances", "rebalance_time_s"} <= set(header.split(","))


def test_presets_rebalance_and_the_table_shows_the_cost(small, tmp_path):
    experiment = load(small, ["steps=6", "policies=[base, eplb, {name: soon, preset: eplb_online}]"])
    assert experiment.policies[2].rebalancing == Every(steps=16, window=32, how="background")
    assert experiment.policies[1].rebalancing == NoRebalancing()
    result = run(experiment)
    runs = {each["policy"]: each for each in result.to_dict()["runs"]}
    assert "migration" in result.table()
    assert "migration" not in replace(result, runs={name: result.runs[name] for name in ("base", "eplb")}).table()
    assert runs["soon"]["rebalances"] == 0
    assert "rebalances" not in runs["eplb"]
    assert runs["soon"]["decode_time_s"] == runs["eplb"]["decode_time_s"]


@pytest.mark.parametrize("how", ["blocking", "background"])
def test_a_copy_that_gives_way_to_a_move_is_counted_once(small, how):
    """Dies are full of copies: each that goes is in one row, of the moves that push it out if they have the step."""
    need = 8 * EXPERT + 40 * 2 * load(small).model.activation_bytes
    size = f"wafer.die.hbm={{bandwidth: 3.35 TB/s, size: {need * 1.0001:.0f} B, reserve: 0}}"
    placement = Scripted(layouts=layouts({}, {0: [1], 2: [0]}))
    policy = replace(
        POLICIES["pred"], name="it", placement=placement, prediction=Always(), rebalancing=Every(steps=2, how=how)
    )
    experiment = replace(load(small, ["steps=6", size]), policies=(policy,), baseline="it")
    (site,) = build_executors(experiment, build(experiment.wafer), [policy], build_routing_history(experiment))
    for layer_run in open_stream(experiment, [policy])[1].layer_runs():
        site.run(layer_run)
    rows = site.recorder.rows
    assert sum(row.evictions for row in rows) == site._copies.evictions
    assert (sum(row.evictions for row in rows if row.phase == "rebalance") > 0) == (how == "blocking")


def test_an_expert_moves_from_the_nearest_die_on_which_it_is_placed(small):
    """Expert 0 lies on die 0, three links from die 5, and on die 4, one link from it."""
    placement = Scripted(layouts=layouts({0: [0, 4]}, {0: [0, 4, 5]}))
    ledger, _, _ = rebalanced(small, placement, steps=2, how="blocking")
    assert [row.hops for row in moves_in(ledger)] == [1, 1, 1]


def test_copies_of_sampled_layers_take_the_same_room_in_rows_of_moves(small):
    """There is room for all, so what dies hold before a move they hold in it, but for the buffers of a layer run."""
    model = (
        "model={name: tiny, num_layers: 8, moe_layers: [0, 1, 2, 3, 4, 5, 6, 7], num_experts: 12, top_k: 2, "
        "hidden_size: 1024, moe_intermediate_size: 2048}"
    )
    placement = Scripted(layouts=[np.array([held[0]] * 8) for held in layouts({}, {0: [1]})])
    ledger, _, _ = rebalanced(small, placement, model, "layers.sample=4", preset="pred", steps=2, how="blocking")
    first = next(i for i, row in enumerate(ledger.rows) if row.phase == "rebalance")
    buffers = 40 * 2 * load(small).model.activation_bytes
    assert sum(row.local_write_bytes for row in ledger.rows[:first]) > 0
    assert ledger.rows[first].hbm_used_bytes >= ledger.rows[first - 1].hbm_used_bytes - buffers


def test_what_waits_for_room_sets_out_when_there_is_some(small):
    """Two experts change places in each layer, once; dies have room for one more, so that layer waits for layer."""
    need = 7 * EXPERT + 40 * 2 * load(small).model.activation_bytes
    size = f"wafer.die.hbm={{bandwidth: 3.35 TB/s, size: {need * 1.0001:.0f} B, reserve: 0}}"
    placement = Scripted(layouts=layouts({}, {0: [1], 2: [0]}))
    longer = ("steps=60", "trace.synth.decode_tokens=60")
    _, figures, notes = rebalanced(small, placement, size, *longer, steps=30)
    assert figures["rebalances"] == 1
    assert figures["moved_bytes"] == pytest.approx(6 * EXPERT, rel=1e-9)
    assert figures["hbm_peak_bytes"] <= need * 1.0001
    assert not [note for note in notes if "room" in note]


def test_dies_are_renumbered_only_if_the_placement_says_that_they_are_alike(small):
    """Each die's experts go to the next die: nothing moves if dies are alike, all 12 in three layers if not."""

    @dataclass(frozen=True, kw_only=True)
    class Alike(Scripted):
        dies_interchangeable = True

    around = layouts({}, {expert: [(expert // 2 + 1) % 6] for expert in range(12)})
    for kind, moved in ((Scripted, 36), (Alike, 0)):
        _, figures, _ = rebalanced(small, kind(layouts=around), "steps=4", steps=2, how="blocking")
        assert figures["moved_bytes"] == moved * EXPERT
