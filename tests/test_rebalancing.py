"""Rebalancing: what a move costs, worked out by hand; what is kept at all times; what may be known; whole runs."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
from kit import contiguous, history_of, plan_of, run_kernel, wafer_of

from wss.config import load
from wss.engine import NETWORKS, Idle
from wss.errors import CapacityError, ConfigError
from wss.hardware import build
from wss.policies import POLICIES, Copies
from wss.policies.caching import Lru
from wss.policies.placements.eplb import Eplb
from wss.policies.prediction import Always
from wss.policies.rebalancing import Every, NoRebalancing, matched, worthwhile
from wss.report import run_table
from wss.run import run
from wss.run.homes import Homes
from wss.run.walk import replay_of, seen_of, sites_of
from wss.traces import RequestRouting, write_trace
from wss.traces.synth import synth_meta, synthesise

from test_run import SMALL  # isort: skip
from test_sweep import FILES, do, sweep_file  # isort: skip

EXPERT = 3 * 1024 * 2048 * 2.0  # bytes of one expert of SMALL in fp16


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """Answers with the layouts it is given, one after another, the last again and again."""

    layouts: list[np.ndarray]
    needs: ClassVar[str] = "prefill"
    asked: list[np.ndarray] = field(default_factory=list)

    def place(self, history, hops):
        self.asked.append(np.array(history.load))
        return self.layouts[min(len(self.asked), len(self.layouts)) - 1]


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
    return result.ledgers[0], result.summary["runs"][0], result.notes


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
    kernels = sum(row.time_s for row in ledger.rows if row.phase == "decode")
    assert figures["decode_time_s"] == pytest.approx(kernels + 3 * each, rel=1e-12)
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
    class Watching:
        def allocate(self, view):
            seen.append(view.home[0])
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
        def look_back(self, counts):
            return None if super().look_back(counts) is None else np.tile(np.arange(1, 13) ** 2, (3, 1))

    policy = replace(POLICIES["eplb"], name="it", rebalancing=SameLoad(steps=1, how="blocking"))
    result = run(replace(load(small, ["steps=5"]), policies=(policy,), baseline="it"))
    assert result.summary["runs"][0]["rebalances"] == 4
    assert {row.step for row in moves_in(result.ledgers[0])} == {2}


def test_the_load_looked_back_on_is_that_of_the_last_steps(small):
    placement = Scripted(layouts=layouts({}))
    ledger, _, _ = rebalanced(small, placement, steps=2, window=3, how="blocking")
    tokens = {(row.step, row.layer): row.tokens for row in ledger.rows}
    assert len(placement.asked) == 3
    for load_seen, steps in zip(placement.asked, [(0,), (1, 2), (2, 3, 4)], strict=True):
        assert load_seen.sum(axis=1).tolist() == [sum(tokens[step, layer] for step in steps) for layer in (1, 2, 3)]


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
    """Up to the first landing kernels are those of the policy that stays; each landed expert has moved whole."""
    placement = Scripted(layouts=layouts({}, {0: [5], 1: [4, 0]}))
    longer = ("steps=16", "trace.synth.decode_tokens=16")
    ledger, figures, notes = rebalanced(small, placement, *longer, steps=2)
    stays, _, _ = rebalanced(small, Scripted(layouts=layouts({})), *longer, steps=2)
    kernels, still = ([row for row in each.rows if row.phase != "rebalance"] for each in (ledger, stays))
    landing = next(i for i, row in enumerate(ledger.rows) if row.tasks and row.phase == "rebalance")
    before = len([row for row in ledger.rows[:landing] if row.phase != "rebalance"])
    assert [replace(row, hbm_used_bytes=0) for row in kernels[:before]] == [
        replace(row, hbm_used_bytes=0) for row in still[:before]
    ]
    assert figures["rebalance_time_s"] == 0
    assert figures["moved_bytes"] == pytest.approx(6 * EXPERT, rel=1e-9)
    assert sum(row.tasks for row in moves_in(ledger)) == 6
    assert not [note for note in notes if "on their way" in note]
    assert ledger.link_data.sum() == pytest.approx(sum(row.byte_hops for row in ledger.decode), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_idle_time_moves_no_more_than_is_left(seed):
    """Of any resource, kernel and moves together never take more than it can carry; one of each move's is used up."""
    draws = np.random.default_rng(seed)
    wafer = wafer_of((2, 3))
    kernel = plan_of(*((e, int(draws.integers(6)), 1, int(draws.integers(6)), True) for e in range(20)))
    outcome = run_kernel(NETWORKS["fluid"]().model(wafer), wafer, kernel, 1e6, np.full(20, 1e-6), 2)
    pairs = [(int(s), int(d)) for s, d in draws.integers(6, size=(40, 2)) if s != d]
    moves = plan_of(*((0, die, 1, source, True) for source, die in pairs))
    left = draws.uniform(1e4, 5e6, len(pairs))
    moved = Idle(wafer).move(moves, left, outcome.carried, outcome.time)
    capacity = np.concatenate([np.full(6, 3.35e12), wafer.link_bandwidth]) * outcome.time
    carried = outcome.carried
    used = np.concatenate([carried.hbm_read + carried.hbm_written, carried.link_data + carried.link_request])
    on = []
    for (source, die), amount in zip(pairs, moved, strict=True):
        there, back = ([6 + link for link in wafer.routes[way] if link >= 0] for way in ((source, die), (die, source)))
        on.append([source, die, *there, *back])
        for resource in (source, die, *there):
            used[resource] += amount
        for resource in back:
            used[resource] += amount * 0.25
    full = used >= capacity * (1 - 1e-9)
    assert (used <= capacity * (1 + 1e-9)).all()
    assert (moved <= left).all()
    assert 0 < moved.sum() < left.sum()
    for resources, amount, most in zip(on, moved, left, strict=True):
        assert amount == most or full[resources].any()


@pytest.mark.parametrize("seed", range(8))
def test_an_expert_is_always_somewhere_and_no_die_ever_too_full(seed):
    """Random layouts, room for few, copies beside them, moves that land in any order: what homes promise holds."""
    draws = np.random.default_rng(seed)
    layers, experts, dies = 3, 10, 4

    def layout():
        held = draws.random((layers, experts, dies)) < 0.2
        held[:, np.arange(experts), draws.integers(dies, size=experts)] = True
        return held

    placed = layout()
    usable = float(placed.sum(axis=(0, 1)).max() + 3)
    room = usable - placed.sum(axis=(0, 1))
    copies = Copies(placed, room, 1.0, Lru())
    homes = Homes(placed, usable, room, 1.0, copies)
    moved = 0
    for _ in range(30):
        homes.head_for(layout())
        for _ in range(4):
            layer = int(draws.integers(layers))
            homes.set_out(layer, 1.0)
            _copy_something(copies, homes, layer, draws)
            coming = np.argwhere(homes.coming[layer])
            arrived = coming[draws.random(len(coming)) < 0.5]
            homes.land(layer, arrived[:, 0], arrived[:, 1])
            moved += len(arrived)
            assert homes.placed.any(axis=2).all()
            held = (homes.placed | homes.coming).sum(axis=(0, 1))
            np.testing.assert_array_equal(homes.taken, held)
            for each in range(layers):
                assert (copies.holders(each) >= homes.placed[each]).all()
                assert homes.placed[each][np.arange(experts), homes.first(each)].all()
            copied = sum((copies.holders(each) & ~homes.placed[each]).sum(axis=0) for each in range(layers))
            np.testing.assert_array_equal(copied, copies.held)
            assert (held + copies.held <= usable).all()
    assert moved > 30


def _copy_something(copies, homes, layer, draws):
    """Let a kernel of *layer* fetch five experts to random dies, all wanted as copies."""
    held = copies.holders(layer)
    experts = draws.permutation(len(held))[:5]
    tasks = [(int(e), int(draws.integers(held.shape[1])), 1, int(held[e].argmax())) for e in experts]
    copies.admit(layer, plan_of(*tasks), np.ones(5, np.bool_), np.zeros(held.shape[1]))


def test_a_copy_where_an_expert_is_to_be_placed_becomes_its_home_and_nothing_moves():
    placed = np.array([contiguous(4, 2)])
    copies = Copies(placed, np.full(2, 3.0), 1.0, Lru())
    homes = Homes(placed, 5.0, np.full(2, 3.0), 1.0, copies)
    copies.admit(0, plan_of((0, 1, 1, 0)), np.ones(1, np.bool_), np.zeros(2))
    assert copies.held.tolist() == [0, 1]
    target = placed.copy()
    target[0, 0] = [False, True]
    homes.head_for(target)
    homes.set_out(0, 0.0)
    assert not homes.coming.any()
    assert copies.held.tolist() == [0, 0]
    np.testing.assert_array_equal(homes.placed, target)
    np.testing.assert_array_equal(copies.holders(0), target[0])


def test_what_finds_no_room_stays_and_is_said(small):
    """Dies hold their six experts, the buffers, and nothing more: two experts cannot change places."""
    need = 6 * EXPERT + 40 * 2 * load(small).model.activation_bytes
    size = f"wafer.die.hbm={{bandwidth: 3.35 TB/s, size: {need * 1.0001:.0f} B, reserve: 0}}"
    placement = Scripted(layouts=layouts({}, {0: [1], 2: [0]}))
    _, figures, notes = rebalanced(small, placement, size, steps=2, how="blocking")
    assert figures["moved_bytes"] == 0
    assert figures["hbm_peak_bytes"] <= need * 1.0001
    assert "it: 12 experts found no room on the die they were to be moved to" in notes
    with pytest.raises(CapacityError):
        rebalanced(small, placement, size.replace(f"{need * 1.0001:.0f}", f"{5 * EXPERT:.0f}"), steps=2)


def test_a_renumbering_of_dies_moves_nothing_and_a_small_gain_is_not_worth_a_move():
    draws = np.random.default_rng(0)
    now = np.array([contiguous(12, 6)[draws.permutation(12)] for _ in range(3)])
    then = np.array([layer[:, draws.permutation(6)] for layer in now])
    np.testing.assert_array_equal(matched(now, then), now)
    one_more = then.copy()
    one_more[0, 0] = ~one_more[0, 0]
    assert np.count_nonzero(matched(now, one_more) & ~now) < np.count_nonzero(one_more & ~now)

    wafer = wafer_of((1, 2))
    apart, together = (np.array([[[1, 0], [0, 1]]], bool), np.array([[[1, 0], [1, 0]]], bool))
    tokens = np.array([[30.0, 10.0]])  # 30 at most apart, 40 together: a quarter less
    history = history_of(wafer, np.array([[30, 10]]))
    for gain, chosen in [(0.0, apart), (0.24, apart), (0.26, together)]:
        np.testing.assert_array_equal(worthwhile(together, apart, tokens, history, gain), chosen)
    np.testing.assert_array_equal(worthwhile(apart, together, tokens, history, 0.0), together)


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
            small, replace(placement, asked=[]), *settings, *longer, "layers.sample=4", steps=2, how=how
        )
        each = 110e-9 + 300e-9 + 2 * 200e-9 + EXPERT / 1.7e12
        assert figures["moved_bytes"] == pytest.approx(4 * EXPERT, rel=1e-9)
        assert figures["estimate"]["moved_bytes"] == pytest.approx(8 * EXPERT, rel=1e-9)
        assert figures["estimate"]["rebalance_time_s"] == pytest.approx(share * 8 * each, rel=1e-9)


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
    summary = run(experiment).summary
    runs = {each["policy"]: each for each in summary["runs"]}
    assert "for it" in run_table(summary, ["base", "eplb", "soon"])
    assert "for it" not in run_table({**summary, "runs": [runs["base"], runs["eplb"]]}, ["base", "eplb"])
    assert runs["soon"]["rebalances"] == 0
    assert "rebalances" not in runs["eplb"]
    assert runs["soon"]["decode_time_s"] == runs["eplb"]["decode_time_s"]


REFUSED = {
    "a placement that looks at no load": ("{kind: every}", {"placement": "contiguous"}, "needs 'nothing'"),
    "one that asks for pairs": ("{kind: every}", {"placement": "separated"}, "needs 'pairs'"),
    "an oracle": ("{kind: every}", {"placement": "oracle_best"}, "needs 'decode'"),
    "circuits": ("{kind: every}", {"placement": "eplb", "network": "circuit"}, "give how: blocking"),
    "no steps": ("{kind: every, steps: 0}", {"placement": "eplb"}, "greater than or equal to 1"),
    "another way": ("{kind: every, how: slowly}", {"placement": "eplb"}, "'blocking' or 'background'"),
    "another name": ("sometimes", {"placement": "eplb"}, "is not a known rebalancing"),
    "a parameter of none": ("{gain: 0.1}", {"placement": "eplb"}, "gain: is not a key here; there is none to give"),
    "another parameter": ("{kind: every, step: 3}", {"placement": "eplb"}, "did you mean 'steps'"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_be_rebalanced_is_refused_in_one_line(small, case):
    rule, rest, said = REFUSED[case]
    settings = [f"policies=[{{name: it, preset: eplb, placement: {rest['placement']}, rebalancing: {rule}}}]"]
    settings += ["baseline=it", *([f"network={rest['network']}"] if "network" in rest else [])]
    with pytest.raises(ConfigError, match=said) as error:
        run(load(small, settings))
    assert len(error.value.faults) == 1


@pytest.mark.parametrize("answer", [np.zeros((3, 11), int), np.full((3, 12), -1), np.zeros((3, 12)), "nothing"])
def test_a_rule_that_answers_wrongly_is_named_in_one_line(small, answer):
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        def look_back(self, counts):
            return answer

    policy = replace(POLICIES["eplb"], name="it", rebalancing=Wrong())
    with pytest.raises(ConfigError, match="policy it: its rebalancing") as error:
        run(replace(load(small), policies=(policy,), baseline="it"))
    assert len(error.value.faults) == 1


def test_a_rule_cannot_write_to_what_it_sees(small):
    @dataclass(frozen=True, kw_only=True)
    class Writing:
        def look_back(self, counts):
            counts[0] = 0

    policy = replace(POLICIES["eplb"], name="it", rebalancing=Writing())
    with pytest.raises(ConfigError, match="read-only"):
        run(replace(load(small), policies=(policy,), baseline="it"))


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
    (site,) = sites_of(experiment, build(experiment.wafer), [policy], seen_of(experiment))
    for kernel in replay_of(experiment, [policy])[1].kernels():
        site.run(kernel)
    rows = site.ledger.rows
    assert sum(row.evictions for row in rows) == site._copies.evictions
    assert (sum(row.evictions for row in rows if row.phase == "rebalance") > 0) == (how == "blocking")


@pytest.mark.parametrize("part", ["a tenth", -1])
def test_a_gain_that_is_no_number_is_named_in_one_line(small, part):
    @dataclass(frozen=True, kw_only=True)
    class Mine:
        gain: object = part

        def look_back(self, counts):
            return None

    policy = replace(POLICIES["eplb"], name="it", rebalancing=Mine())
    with pytest.raises(ConfigError) as error:
        run(replace(load(small), policies=(policy,), baseline="it"))
    assert error.value.faults == (f"policy it: its rebalancing's gain is {part!r}; it should be a number from 0 on",)


def test_an_expert_moves_from_the_nearest_die_on_which_it_is_placed(small):
    """Expert 0 lies on die 0, three links from die 5, and on die 4, one link from it."""
    placement = Scripted(layouts=layouts({0: [0, 4]}, {0: [0, 4, 5]}))
    ledger, _, _ = rebalanced(small, placement, steps=2, how="blocking")
    assert [row.hops for row in moves_in(ledger)] == [1, 1, 1]


def test_copies_of_sampled_layers_take_the_same_room_in_rows_of_moves(small):
    """There is room for all, so what dies hold before a move they hold in it, but for the buffers of a kernel."""
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


def test_what_is_wanted_no_more_stops_on_its_way():
    placed = np.array([contiguous(4, 2)])
    homes = Homes(placed, 5.0, np.full(2, 3.0), 1.0, Copies(placed, np.full(2, 3.0), 1.0, Lru()))
    target = placed.copy()
    target[0, 0] = [False, True]
    homes.head_for(target)
    homes.set_out(0, 0.0)
    assert homes.coming[0, 0].tolist() == [False, True]
    assert homes.taken.tolist() == [2, 3]
    homes.head_for(placed)
    assert not homes.coming.any()
    assert homes.taken.tolist() == [2, 2]
    np.testing.assert_array_equal(homes.placed, placed)


def test_dies_are_renumbered_only_if_the_placement_says_that_they_are_alike(small):
    """Each die's experts go to the next die: nothing moves if dies are alike, all 12 in three layers if not."""

    @dataclass(frozen=True, kw_only=True)
    class Alike(Scripted):
        dies_alike: ClassVar[bool] = True

    around = layouts({}, {expert: [(expert // 2 + 1) % 6] for expert in range(12)})
    for kind, moved in ((Scripted, 36), (Alike, 0)):
        _, figures, _ = rebalanced(small, kind(layouts=around), "steps=4", steps=2, how="blocking")
        assert figures["moved_bytes"] == moved * EXPERT
