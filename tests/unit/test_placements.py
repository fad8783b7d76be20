"""Each placement's promise worked out by hand, EPLB's own results, files, whole runs."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hst
from kit import ROOT, in_plain_python, placement_view, shared, view_of, wafer_of
from kit.runs import SMALL

from wss.config import Experiment, TraceFile, load
from wss.errors import ConfigError, WssError
from wss.execution import layout_of, run
from wss.hardware import FaultSpec, build
from wss.models import ModelShape
from wss.policies import Placement, Policy, Signal
from wss.policies.allocation.basic import Even
from wss.policies.placement import layout_text
from wss.policies.placement.basic import Contiguous, Random, Strided
from wss.policies.placement.coactivation import Separated
from wss.policies.placement.dup import Dup, duplicate
from wss.policies.placement.eplb import Eplb, balance
from wss.policies.placement.hop_replication import Near
from wss.policies.placement.layout_file import LayoutFile, filled
from wss.policies.placement.popular import PopularEverywhere
from wss.policies.placement.remap import OracleBest, OracleWorst, Remap
from wss.policies.presets import POLICIES
from wss.policies.replicas import equal_parts
from wss.policies.validation import sealed
from wss.traces import RequestRouting, write_trace
from wss.traces.synthetic.spec import SynthSpec, synth_meta, synthesise

WAFERS = {mesh: wafer_of(mesh) for mesh in [(1, 1), (1, 2), (1, 3), (3, 8), (5, 5), (8, 8)]}
DAMAGED = build(WAFERS[5, 5].spec, FaultSpec(dies=((0, 0), (2, 2)), links=(((3, 3), (4, 3)),)))


def test_strided_and_random_spread_experts_evenly():
    history = placement_view(WAFERS[5, 5], np.ones((2, 60), np.int64))
    strided = Strided().place(history)
    assert strided.argmax(axis=2)[1].tolist() == [e % 25 for e in range(60)]
    drawn = [Random(seed=seed).place(history) for seed in (0, 1)]
    for placed in drawn:
        assert sorted(set(placed.sum(axis=1).ravel())) == [2, 3]
        assert not np.array_equal(placed[0], placed[1]), "each layer is drawn anew"
    assert not np.array_equal(*drawn)


def reference():
    """The cases of DeepSeek's own program."""
    return json.loads(shared("reference", "eplb_reference.json").read_text(encoding="utf-8"))["cases"]


def test_eplb_is_as_good_as_deepseeks_own():
    cases = reference()
    assert len(cases) == 8
    for case in cases:
        groups, nodes, gpus = case["num_groups"], case["num_nodes"], case["num_gpus"]
        for layer, own in enumerate(case["load"]):
            tokens = np.array(own, np.float64)
            slots = balance(tokens, case["num_replicas"], groups, nodes, gpus)
            replicas = np.bincount(slots, minlength=len(tokens))
            assert replicas.tolist() == case["reference"]["logical_count"][layer], case["name"]
            largest = (tokens / replicas)[slots].reshape(gpus, -1).sum(axis=1).max()
            assert largest <= case["reference"]["max_gpu_load"][layer] * (1 + 1e-9), case["name"]


def test_eplb_by_hand():
    """Two GPUs of three slots: both replicas more go to the 60, which is then 20 a slot; they hold 54 and 46."""
    assert balance(np.array([60.0, 30.0, 6.0, 4.0]), 6, 1, 1, 2).tolist() == [1, 0, 3, 0, 0, 2]


def test_eplb_keeps_groups_together_on_a_row():
    """24 dies are 8 rows of 3; a group of 4 experts of 32 stays on one, with 2 + 1 slots a die."""
    wafer = WAFERS[3, 8]
    tokens = np.random.default_rng(0).integers(1, 100, (2, 32))
    placed = Eplb(nodes="rows", groups=8).place(placement_view(wafer, tokens))
    rows = np.array([[set(wafer.coordinates[np.flatnonzero(e), 1].tolist()) for e in layer] for layer in placed])
    for layer in rows:
        of_group = [set.union(*layer[at : at + 4]) for at in range(0, 32, 4)]
        assert all(len(own) == 1 for own in of_group)
        assert len(set.union(*of_group)) == 8
    assert (placed.sum(axis=1) > 1).all()
    assert placed.sum(axis=1).max() == 3
    columns = Eplb(nodes="columns", groups=3).place(placement_view(wafer, tokens[:, :30]))
    for layer in columns:
        assert [set(np.flatnonzero(layer[e : e + 10].any(axis=0)) // 8) for e in (0, 10, 20)].count({0}) == 1


@pytest.mark.parametrize(
    ("wafer", "placement", "what"),
    [
        (DAMAGED, Eplb(nodes="columns"), "the 23 dies cannot be split into 5 equal nodes"),
        (WAFERS[5, 5], Eplb(nodes=4), "the 25 dies cannot be split into 4 equal nodes"),
        (WAFERS[5, 5], Eplb(nodes=5, groups=15), "40 experts cannot be split into 15 equal groups"),
    ],
)
def test_eplb_says_which_nodes_it_cannot_make(wafer, placement, what):
    with pytest.raises(ConfigError, match=what):
        placement.place(placement_view(wafer, np.ones((1, 40), np.int64)))


def homes(placement, tokens, mesh=(1, 2), **known):
    """The die of each expert of one layer."""
    placed = placement.place(placement_view(WAFERS[mesh], np.array([tokens]), **known))
    assert (placed.sum(axis=2) == 1).all()
    return placed.argmax(axis=2)[0].tolist()


def held(placement, tokens, mesh=(1, 3), **known):
    """The dies of each expert of one layer."""
    placed = placement.place(placement_view(WAFERS[mesh], np.array([tokens]), **known))
    return [np.flatnonzero(row).tolist() for row in placed[0]]


def test_remap_by_hand():
    """Costs 40, 30, 20 and, as a read takes as long as 10 tokens, 10 for 4 tokens."""
    assert homes(Remap(), [40, 30, 20, 4]) == [0, 1, 1, 0]
    assert homes(Remap(), [12, 60, 11, 13]) == [1, 0, 0, 1], "the last one goes where there is room"
    assert homes(Remap(), [3, 4, 2, 5]) == [0, 1, 1, 0], "all cost a read; most tokens first"


def test_less_than_a_token_a_kernel_is_a_read_now_and_then():
    history = placement_view(WAFERS[1, 2], np.array([[8, 1, 1]]), tokens=2)
    assert history.expected.tolist() == [[1.6, 0.2, 0.2]]
    assert history.seconds(history.expected)[0].tolist() == pytest.approx([10, 2, 2])


def test_dup_by_hand():
    """Loads 60, 30, 12. Half of expert 0 on die 2 gives 30, 30, 42; expert 2's copy on die 0 then 40, 30, 40, as it
    costs two reads. Nothing on die 1 would lower the largest load; a third of expert 2 raises it least, to 40, 40, 40.
    """
    assert held(Dup(), [60, 30, 12]) == [[0, 2], [1], [0, 1, 2]]
    assert held(Dup(extra=0), [60, 30, 12]) == [[0], [1], [2]]
    assert held(Dup(extra=2), [600, 30, 12])[0] == [0, 1, 2]
    assert held(Dup(), [600, 30, 12], capacity=1) == [[0], [1], [2]], "there is no room"


def dup_by_trying(cost, held, free):
    """Dup's copies, each found by trying all pairs of an expert and a die."""
    held, free = held.copy(), free.copy()
    experts, _dies = held.shape
    while True:
        tried = []
        for expert, die in zip(*np.nonzero(~held & (free > 0)), strict=True):
            then = held.copy()
            then[expert, die] = True
            load = (then * cost[np.arange(experts), then.sum(axis=1)][:, None]).sum(axis=0)
            tried.append((round(load.max(), 9), round((load**2).sum(), 9), expert, die))
        if not tried:
            return held
        expert, die = min(tried)[2:]
        held[expert, die] = True
        free[die] -= 1


@pytest.mark.parametrize("seed", range(20))
def test_dups_copies_are_those_of_trying_every_pair(seed):
    rng = np.random.default_rng(seed)
    experts, dies = int(rng.integers(3, 13)), int(rng.integers(2, 6))
    tokens = rng.integers(1, 30, experts) if seed % 2 else np.ones(experts)
    cost = np.maximum(1.0, tokens[:, None] / np.maximum(np.arange(dies + 1), 1) * 0.25)
    held, free = np.zeros((experts, dies), bool), rng.integers(0, 3, dies)
    held[np.arange(experts), np.arange(experts) % dies] = True
    expected = dup_by_trying(cost, held, free)
    duplicate(cost, held, free)
    assert np.array_equal(held, expected)


def test_dup_always_makes_its_copies():
    """The paper's loop takes the best pair even where it gains nothing: R copies a GPU in each layer."""
    tokens = np.random.default_rng(3).integers(0, 40, (2, 16))
    placed = Dup(extra=2).place(placement_view(WAFERS[1, 2], tokens, capacity=2 * 10))
    assert placed.sum(axis=(1, 2)).tolist() == [16 + 2 * 2] * 2


def test_popular_puts_the_most_popular_on_every_die():
    assert held(PopularEverywhere(), [5, 9, 7]) == [[0], [0, 1, 2], [2]]
    assert held(PopularEverywhere(extra=2), [5, 9, 7]) == [[0], [0, 1, 2], [0, 1, 2]]
    assert held(PopularEverywhere(extra=2), [5, 9, 7], capacity=2) == [[0], [0, 1, 2], [2]]


def test_near_by_hand():
    """In a row of three dies a copy of expert 0 on die 1 saves 10 · 2, then on die 2 10; on die 0 one of expert 2 2."""
    assert held(Near(), [10, 1, 1]) == [[0, 1, 2], [1], [0, 2]]


def test_separated_by_hand():
    """Experts 0 and 2 met, and 1 and 3; and of those that never met, least tokens decide."""
    met = np.zeros((1, 4, 4), np.int64)
    met[0, [0, 2, 1, 3], [2, 0, 3, 1]] = 9
    assert homes(Separated(), [4, 4, 4, 4], coactivation=met) == [0, 1, 1, 0]
    assert homes(Separated(), [4, 4, 4, 4], coactivation=np.zeros((1, 4, 4), np.int64)) == [0, 1, 0, 1]
    assert homes(Separated(), [9, 4, 3, 1]) == [0, 1, 1, 0]


def test_the_oracles_are_the_evenest_and_the_unevenest():
    assert homes(OracleBest(), [12, 50, 40, 13]) == [0, 0, 1, 1]
    assert homes(OracleWorst(), [12, 50, 40, 13]) == [1, 0, 0, 1]
    assert OracleBest.signals == OracleWorst.signals == {Signal.DECODE_LOAD}
    assert all(POLICIES[name].is_oracle for name in ("oracle_best", "oracle_worst"))


def shares(placed):
    """The share of each expert's tokens on each die, [layers, experts, dies]."""
    return placed / placed.sum(axis=2, keepdims=True)


def test_files_go_out_and_in_again(tmp_path):
    """Layers 1, 3 and 4 of 6, replicas on one to three dies, some twice on one, dies that hold nothing.

    Spare slots repeat experts in their proportions, so that no share changes; and written again, nothing does.
    """
    generator = np.random.default_rng(0)
    placed = (generator.random((3, 12, 25)) < 0.1) * generator.integers(1, 3, (3, 12, 25))
    placed[:, :, 9] = 0
    placed[:, :, 8] += ~placed.any(axis=2)
    path = tmp_path / "layout.json"
    path.write_text(layout_text(placed, (1, 3, 4), 6), encoding="utf-8")
    table = json.loads(path.read_text())["physical_to_logical_map"]
    assert len(table) == 6
    assert {len(row) for row in table} == {25 * placed.sum(axis=1).max()}
    history = placement_view(WAFERS[5, 5], np.zeros((3, 12), np.int64), layers=(1, 3, 4), tokens=1)
    again = LayoutFile(path=str(path)).place(history)
    np.testing.assert_allclose(shares(again), shares(placed), rtol=1e-12)
    assert (again >= placed).all()
    assert layout_text(again, (1, 3, 4), 6) == path.read_text(encoding="utf-8")
    path.write_text(json.dumps({"physical_to_logical_map": [table[1], table[3], table[4]]}))
    assert np.array_equal(LayoutFile(path=str(path)).place(history), again)


def test_replicas_on_one_die_stay_apart(tmp_path):
    """Three replicas of expert 3, two of them on one die, are three when they are read, and when they are written."""
    path = tmp_path / "layout.json"
    path.write_text(json.dumps({"physical_to_logical_map": [[3, 3, 2, 3, 0, 1]]}))
    history = placement_view(WAFERS[1, 2], np.zeros((1, 4), np.int64), tokens=1)
    placed = LayoutFile(path=str(path)).place(history)
    assert placed[0].tolist() == [[0, 1], [0, 1], [1, 0], [2, 1]]
    assert json.loads(layout_text(placed, (0,), 1))["physical_to_logical_map"] == [[2, 3, 3, 0, 1, 3]]


def test_a_spare_slot_without_an_expert_to_repeat_is_empty():
    """Expert 0 is on both dies, of which the first is full: one more on the second would change its shares."""
    assert json.loads(layout_text(np.array([[[1, 1], [1, 0]]]), (0,), 1))["physical_to_logical_map"] == [[0, 1, 0, -1]]


def test_spare_slots_keep_every_share():
    """Experts 0 and 1 are on dies 0 and 1, 2 to 1 and 1 to 1: there are slots for one more of expert 1 on both. Then
    die 1 has one left, for which it has nothing, and die 2 three, for expert 2 that only it holds.
    """
    placed = np.array([[2, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert filled(placed, 4).tolist() == [[2, 1, 0], [2, 2, 0], [0, 0, 4]]
    assert filled(placed, 6).tolist() == [[4, 2, 0], [2, 2, 0], [0, 0, 6]]
    draws = np.random.default_rng(1)
    for _ in range(50):
        own = draws.integers(0, 3, (6, 4)) * (draws.random((6, 4)) < 0.4)
        own[np.arange(6), draws.integers(4, size=6)] += 1
        most = int(own.sum(axis=0).max())
        full = filled(own, most)
        np.testing.assert_allclose(shares(full[None]), shares(own[None]), rtol=1e-12)
        assert (full.sum(axis=0) <= most).all()
        alone = own[(own > 0).sum(axis=1) == 1].any(axis=0)
        assert (full.sum(axis=0)[alone] == most).all()


@pytest.mark.parametrize("case", range(8))
def test_eplbs_fullest_die_is_deepseeks_to_the_token(case):
    """Experts with their loads as tokens: every die is within a token of the exact parts, the fullest of the program's.

    Tokens that do not divide, given to the lowest dies, would be 1.5 off.
    """
    case = reference()[case]
    load, gpus = np.array(case["load"]).astype(np.int64), case["num_gpus"]
    wafer = wafer_of((gpus, 1))
    for layer, (tokens, physical) in enumerate(zip(load, case["reference"]["physical_to_logical"], strict=True)):
        slots = len(physical)
        own = balance(tokens.astype(float), slots, case["num_groups"], case["num_nodes"], gpus)
        for experts in (own, np.array(physical)):
            replicas = np.zeros((len(tokens), gpus), np.int64)
            np.add.at(replicas, (experts, np.arange(slots) // (slots // gpus)), 1)
            plan = Even().allocate(view_of(wafer, tokens, replicas))
            assert np.bincount(plan.expert, plan.tokens, len(tokens)).tolist() == tokens.tolist()
            given = np.bincount(plan.die, plan.tokens, gpus)
            exact = (tokens / replicas.sum(axis=1)) @ replicas
            assert np.abs(given - exact).max() <= 1 + 1e-9
            assert abs(given.max() - case["reference"]["max_gpu_load"][layer]) < 1


@given(hst.integers(0, 2**32 - 1))
def test_parts_of_replicas_differ_by_a_token_and_dies_from_their_share_by_little(seed):
    draws = np.random.default_rng(seed)
    experts, dies = draws.integers(1, 40), draws.integers(1, 9)
    counts = draws.integers(0, 30, experts)
    replicas = draws.integers(0, 4, (experts, dies))
    replicas[np.arange(experts), draws.integers(dies, size=experts)] += 1
    counts, replicas = sealed(counts), sealed(replicas)  # as in a run
    tokens = equal_parts(counts, replicas)
    assert tokens.sum(axis=1).tolist() == counts.tolist()
    least = (counts // replicas.sum(axis=1))[:, None] * replicas
    assert (least <= tokens).all()
    assert (tokens <= least + replicas).all()
    assert np.abs(tokens - counts[:, None] * replicas / replicas.sum(axis=1, keepdims=True)).max() < replicas.max()
    share = (counts / replicas.sum(axis=1)) @ replicas
    assert np.abs(tokens.sum(axis=0) - share).max() < 2
    assert np.array_equal(in_plain_python(equal_parts, counts, replicas), tokens)


def test_an_expert_twice_on_a_die_is_computed_there_twice_as_much():
    """Loads 90, 2, 2, 2 in slots [0 0 3 | 0 1 2]: 60 + 2 tokens on the first die, 30 + 4 on the second."""
    placed = Eplb(extra=1).place(placement_view(WAFERS[1, 2], np.array([[90, 2, 2, 2]])))
    assert placed[0].tolist() == [[2, 1], [0, 1], [0, 1], [1, 0]]
    plan = Even().allocate(view_of(WAFERS[1, 2], np.array([90, 2, 2, 2]), placed[0]))
    assert np.bincount(plan.die, plan.tokens).tolist() == [62, 34]
    uneven = Even().allocate(view_of(WAFERS[1, 2], np.array([91, 2, 2, 2]), placed[0]))
    assert np.bincount(uneven.die, uneven.tokens).tolist() == [63, 34], "the first replica takes what is left"


def test_a_run_computes_the_parts_of_replicas_on_one_die(tmp_path):
    """Loads 90, 2, 2, 2 in a run, placed by EPLB and by a file alike: the fullest die takes 62 tokens, not 49."""
    (tmp_path / "map.json").write_text(json.dumps({"physical_to_logical_map": [[0, 0, 3, 0, 1, 2]] * 2}))
    path, experts = tmp_path / "t.parquet", np.repeat([0, 1, 2, 3], [90, 2, 2, 2])
    model = ModelShape(
        name="four",
        num_layers=2,
        moe_layers=(0, 1),
        num_experts=4,
        top_k=1,
        hidden_size=4096,
        moe_intermediate_size=4096,
    )
    requests = [
        RequestRouting(
            request=i, position=np.arange(3, dtype=np.int32), num_prefill=1, experts=np.full((3, 2, 1), e, np.int16)
        )
        for i, e in enumerate(experts)
    ]
    write_trace(path, synth_meta(SynthSpec(), model, 0, 96), requests)
    experiment = Experiment(
        model=model,
        wafer=wafer_of((2, 1)).spec,
        trace=TraceFile(path=str(path)),
        batch=96,
        steps=2,
        gemm="ideal",
        baseline="ep",
        policies=(
            POLICIES["ep"],
            POLICIES["eplb"],
            Policy(name="filed", placement=LayoutFile(path=str(tmp_path / "map.json")), allocation=Even()),
        ),
    )
    result = run(experiment)
    token = 6 * 4096 * 4096 / 989e12
    for ledger, most in zip(result.ledgers, (92, 62, 62), strict=True):
        assert [row.compute_time_s / token for row in ledger.decode] == pytest.approx([most] * 4, rel=1e-9)


def test_deepseeks_own_layouts_can_be_read(tmp_path):
    (case,) = (case for case in reference() if case["name"] == "wafer24")
    history = placement_view(WAFERS[3, 8], np.zeros((3, 256), np.int64), tokens=1)
    path = tmp_path / "layout.json"
    path.write_text(json.dumps({"physical_to_logical_map": case["reference"]["physical_to_logical"]}))
    placed = LayoutFile(path=str(path)).place(history)
    first = case["reference"]["physical_to_logical"][0][12:24]
    assert np.flatnonzero(placed[0, :, 1]).tolist() == sorted(set(first))


def test_a_file_of_loads_is_laid_out_by_eplb(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 99, (4, 2, 30))
    path = tmp_path / "count.json"
    path.write_text(json.dumps({"logical_count": tokens.tolist()}))
    view = placement_view(WAFERS[5, 5], tokens.sum(axis=0))
    of_file = LayoutFile(path=str(path), extra=2).place(replace(view, signals={}))
    assert np.array_equal(of_file, Eplb(extra=2).place(view))


MAP, COUNT = "physical_to_logical_map", "logical_count"
MALFORMED = {
    "no file": (None, "is no file"),
    "no JSON": ("{", "is no JSON"),
    "a list": ("[1]", "has 1 slots per layer, which 3 dies cannot share evenly"),
    "other keys": ('{"map": []}', "has neither"),
    "ragged": (json.dumps({MAP: [[0, 1], [0]]}), "is not a table of whole numbers"),
    "text": (json.dumps({MAP: [["0", "1"]] * 3}), "is not a table of whole numbers"),
    "fractions": (json.dumps({MAP: [[0.5] * 6] * 3}), "is not a table of whole numbers"),
    "nothing": (json.dumps({MAP: []}), "is not a table of whole numbers"),
    "too few layers": (
        json.dumps({MAP: [[0] * 6] * 2}),
        "has 2 rows, the model has 3 MoE layers, the last one number 5",
    ),
    "uneven slots": (json.dumps({MAP: [[0] * 7] * 3}), "has 7 slots per layer, which 3 dies cannot share evenly"),
    "expert 4": (json.dumps({MAP: [[0, 1, 2, 3, 4, 0]] * 3}), "names expert 4; the model has 0..3"),
    "expert -2": (json.dumps({MAP: [[0, 1, 2, 3, -2, 0]] * 3}), "names expert -2; the model has 0..3"),
    "no expert 2": (json.dumps({MAP: [[0, 1, 3, -1, -1, 0]] * 3}), "has no slot for expert 2 of layer 1"),
    "loads of others": (json.dumps({COUNT: [[1, 2, 3]] * 3}), "has loads of 3 experts a layer, the model has 4"),
    "loads below 0": (json.dumps({COUNT: [[1, 2, 3, -1]] * 3}), "a count is 0 or more"),
    "NaN": (f'{{"{COUNT}": [[1, 2, 3, NaN]]}}', "is no JSON (NaN is not a JSON number"),
}


@pytest.mark.parametrize("case", sorted(MALFORMED))
def test_a_malformed_file_is_refused_in_one_line(case, tmp_path):
    text, what = MALFORMED[case]
    path = tmp_path / "layout.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    history = placement_view(WAFERS[1, 3], np.zeros((3, 4), np.int64), layers=(1, 3, 5), tokens=1)
    with pytest.raises(WssError) as error:
        LayoutFile(path=str(path)).place(history)
    (fault,) = error.value.faults
    assert fault.startswith(f"{path}: ")
    assert what in fault


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


VIEWS = []


@dataclass(frozen=True, kw_only=True)
class Spy(Placement):
    """Contiguous, and keeps the view that it was given."""

    def place(self, view):
        VIEWS.append(view)
        return Contiguous().place(view)


class SpyOnPrefill(Spy):
    signals = frozenset({Signal.PREFILL_LOAD})


class SpyOnPairs(Spy):
    signals = frozenset({Signal.PREFILL_LOAD, Signal.COACTIVATION})


class SpyOnDecode(Spy):
    signals = frozenset({Signal.DECODE_LOAD})


class Greedy(Spy):
    signals = frozenset({Signal.NEXT_USE})


def handed(experiment, spy: type):
    """The view that a spy is given in a whole run."""
    VIEWS.clear()
    policy = replace(experiment.policies[0], placement=spy())
    run(replace(experiment, policies=(policy,)))
    (view,) = VIEWS
    return view


def counted(requests, repeats, rows_of):
    """Tokens by expert and by pair in some rows of the requests, counted plainly, for all 3 layers of 12 experts."""
    tokens, pairs = np.zeros((3, 12), np.int64), np.zeros((3, 12, 12), np.int64)
    for request, times in zip(requests, repeats, strict=True):
        for row in rows_of(request):
            for layer, (a, b) in enumerate(row.tolist()):
                tokens[layer, [a, b]] += times
                pairs[layer, [a, b], [b, a]] += times
    return tokens, pairs


@pytest.mark.parametrize("recorded", [False, True])
def test_a_placement_is_handed_what_it_needs_and_no_more(small, tmp_path, recorded):
    """Layers 1 and 3 of 1 to 3 are run, 3 of 6 decode steps, a batch of 50 of 40 requests: the first 10 count twice."""
    experiment = load(small, ["batch=50", "layers=[1, 3]"])
    requests = list(synthesise(experiment.trace, experiment.model, 0, requests=40))
    if recorded:
        path = tmp_path / "t.parquet"
        write_trace(path, synth_meta(experiment.trace, experiment.model, 0, 40), requests)
        experiment = load(small, ["batch=50", "layers=[1, 3]", f"trace.path={path}"])
    repeats = [2] * 10 + [1] * 30
    prefill, pairs = counted(requests, repeats, lambda r: r.experts[: r.num_prefill])
    decode, _ = counted(requests, repeats, lambda r: r.experts[r.num_prefill : r.num_prefill + 3])
    prefill[1] = pairs[1] = decode[1] = 0
    assert prefill.any()
    assert not np.array_equal(prefill, decode)

    view = handed(experiment, Spy)
    for name in ("load", "prefill_load", "decode_load", "coactivation", "expected"):
        with pytest.raises(LookupError, match="was not declared; add Signal"):
            getattr(view, name)
    assert (view.layers, view.tokens, view.num_experts, view.num_dies) == ((1, 2, 3), 100, 12, 6)
    view = handed(experiment, SpyOnPrefill)
    assert np.array_equal(view.load, prefill)
    assert view.expected[1].tolist() == pytest.approx([100 / 12] * 12)
    assert view.expected.sum(axis=1).tolist() == pytest.approx([100] * 3)
    view = handed(experiment, SpyOnPairs)
    assert np.array_equal(view.load, prefill)
    assert np.array_equal(view.coactivation, pairs)
    view = handed(experiment, SpyOnDecode)
    assert np.array_equal(view.load, decode)
    assert not view.load.flags.writeable


def test_room_leaves_space_for_the_buffers_of_a_kernel(small):
    """80 GB less 10%, less 8,000 tokens of 2 · (2 · 1,024 + 2 · 2,048) B: 5,718 experts of 12.6 MB, not 5,722."""
    experiment = load(small, ["batch=4000", "trace.synth.requests=40"])
    assert handed(experiment, Spy).capacity == (72_000_000_000 - 8000 * 12_288) // (6 * 1024 * 2048) == 5714


def test_a_placement_reads_loads_and_coactivation_alone(small):
    right = "it should be a frozenset of Signal.PREFILL_LOAD, Signal.COACTIVATION, Signal.DECODE_LOAD"
    with pytest.raises(
        ConfigError, match=rf"policies\.0\.placement: Greedy\(\) declares the signals .*NEXT_USE.*; {right}"
    ):
        handed(load(small), Greedy)


def test_what_is_placed_by_what_is_said(small, tmp_path):
    experiment = load(small, ["policies=[base, eplb, oracle_best, remap]"])
    notes = run(experiment).notes
    assert sum(note.startswith("oracle_best is an oracle, not a real policy") for note in notes) == 1
    assert sum("eplb: an expert has 1.5" in note for note in notes) == 1
    assert not any("no prefill" in note for note in notes)
    path = tmp_path / "t.parquet"
    requests = [
        replace(r, num_prefill=0, experts=r.experts[r.num_prefill :], position=r.position[r.num_prefill :])
        for r in synthesise(experiment.trace, experiment.model, 0, requests=40)
    ]
    write_trace(path, synth_meta(experiment.trace, experiment.model, 0, 40), requests)
    result = run(load(small, [f"trace.path={path}", "policies=[base, ep, separated, remap, oracle_best]"]))
    said = [note for note in result.notes if "no prefill to place experts by" in note]
    assert [note.split(":")[0] for note in said] == ["remap", "separated"]


PRESETS = ["remap", "dup", "eplb", "popular", "separated", "prefill_guided", "near", "oracle_best", "oracle_worst"]


def test_every_preset_runs_whole_and_the_oracle_is_ahead_of_the_worst(small):
    """With experts that are not read but computed, what counts is who has most tokens."""
    settings = ["wafer.die.hbm.bandwidth=3000 TB/s", "wafer.die.flops.fp16=1 TFLOPS", "steps=1"]
    runs = {r["policy"]: r for r in run(load(small, [*settings, f"policies={['base', *PRESETS]}"])).to_dict()["runs"]}
    assert set(runs) == {"base", *PRESETS}
    ahead = [runs[name]["decode_time_s"] for name in ("oracle_best", "remap", "oracle_worst")]
    assert ahead == sorted(ahead)
    assert ahead[0] < 0.8 * ahead[2]
    assert all(runs[name]["hops"] == 0 for name in ("remap", "dup", "eplb", "popular", "separated"))


def test_a_policys_layout_goes_out_and_runs_again_alike(small, tmp_path):
    experiment = load(small, ["layers=all", "policies=[base, {name: mine, preset: eplb}]"])
    path = tmp_path / "layout.json"
    layout = layout_of(experiment, "mine")
    assert layout.text == layout_of(replace(experiment, layers=(1,)), "eplb").text, "all layers, whichever are run"
    assert layout.about == "3 MoE layers, 12 experts on 6 dies, 3 slots a die and layer"
    path.write_text(layout.text, encoding="utf-8")
    mine = f"{{name: mine, placement: {{kind: file, path: {path}}}, allocation: even}}"
    again = run(load(small, [f"policies=[base, {mine}]"]))
    runs = [result.to_dict()["runs"] for result in (again, run(experiment))]
    without = [[{k: v for k, v in row.items() if k != "placement_load_correlation"} for row in rows] for rows in runs]
    assert without[0] == without[1]
    with pytest.raises(ConfigError, match="--policy mien: is not a policy here; did you mean 'mine'"):
        layout_of(experiment, "mien")


def test_prefill_tells_where_to_put_experts_on_a_real_trace():
    """The paper has Remap within 10% of an oracle, for Qwen3 on GPUs; this is Llama 4 on a wafer."""
    path = shared("traces", "parquet", "meta-llama__Llama-4-Maverick-17B-128E-Instruct__mmlu__anatomy.parquet")
    names = ["ep", "remap", "oracle_best", "oracle_worst"]
    settings = [f"trace.path={path}", "batch=1024", "steps=8", "baseline=ep"]
    result = run(load(ROOT / "configs" / "llama4_maverick.yaml", [*settings, f"policies={names}"]))
    time = {r["policy"]: r["decode_time_s"] for r in result.to_dict()["runs"]}
    assert time["oracle_best"] < time["remap"] < time["ep"] < time["oracle_worst"]
    assert time["remap"] < 1.1 * time["oracle_best"]
