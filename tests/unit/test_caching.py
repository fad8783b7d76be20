"""Caching rules, what they are told, and that no rule fetches less often than Belady's."""

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import plan_of, pool_of
from kit.runs import SMALL

from wss.config import load
from wss.errors import ConfigError
from wss.execution import run
from wss.memory.copies import ExpertCopies
from wss.policies import CACHINGS, POLICIES, Policy
from wss.policies.allocation.basic import InTurn
from wss.policies.caching import Belady, Heatmap, Lfu, Lru
from wss.policies.prediction import Always, DecayingHeatmap, Oracle, PrefillHeatmap, TokenHeatmap
from wss.policies.prefetching import LayerHeatmap, followers
from wss.serving.eviction import CheckedEviction
from wss.serving.policy_host import PolicyHost
from wss.serving.signals import DecodeOracle, SignalProvider
from wss.traces import LayerTokens

LAYERS, EXPERTS = 2, 3


@pytest.fixture
def small(tmp_path):
    """The small experiment, with room for 5 copies a die beside its own 6 or 9 experts and a layer run's buffers."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("mesh: [2, 3]}", "mesh: [2, 3], die: {hbm: {size: 152 MB}}}"), encoding="utf-8")
    return path


def test_the_rules_by_hand():
    pool = pool_of([5, 2, 9, 9], [1, 3, 1, 2], [7.0, 1.0, 1.0, np.inf], [False, False, True, True])
    assert Lru().victims(pool, 3).tolist() == [1, 0, 2]
    assert Lfu().victims(pool, 3).tolist() == [2, 0, 3]
    assert Heatmap().victims(pool, 3).tolist() == [2, 1, 0]
    assert Belady().victims(pool, 3).tolist() == [3, 0, 2]


def one_die(slots, caching):
    """All experts live on die 0; die 1 computes, with room for *slots* copies."""
    placed = np.zeros((LAYERS, EXPERTS, 2), np.bool_)
    placed[:, :, 0] = True
    return ExpertCopies(placed, np.array([0.0, float(slots)]), 1.0, caching)


def next_uses(layer_runs, at):
    """The number of the next layer run that uses each expert of the layer of layer run *at*, [2 dies, experts]."""
    told = np.full((2, EXPERTS), np.inf)
    for later in range(len(layer_runs) - 1, at, -1):
        if (later - at) % LAYERS == 0:
            told[1, list(layer_runs[later])] = later
    return told


def fetches(layer_runs, slots, caching):
    """How often die 1 fetches if it computes *layer runs*, sets of experts of layers 0, 1, 0, ..., and offers all."""
    copies, count = one_die(slots, caching), 0
    for at, experts in enumerate(layer_runs):
        held = copies.holders(at % LAYERS)[:, 1]
        plan = plan_of(*((e, 1, 1, 1 if held[e] else 0) for e in sorted(experts)))
        count += int(plan.remote.sum())
        copies.admit(at % LAYERS, plan, plan.remote, np.zeros(2), next_uses(layer_runs, at))
        assert copies.held[1] <= slots
    return count


def fewest(layer_runs, slots, *, pins):
    """The same by trying everything that a rule may do; if it *pins*, what a layer run reads is not given up in it."""

    @cache
    def ahead(at, held):
        if at == len(layer_runs):
            return 0
        asked = {(at % LAYERS, expert) for expert in layer_runs[at]}
        pinned = held & asked if pins else frozenset()
        free = (held | asked) - pinned
        room = slots - len(pinned)
        chosen = (pinned | set(some) for n in range(min(room, len(free)) + 1) for some in combinations(sorted(free), n))
        return len(asked - held) + min(ahead(at + 1, frozenset(some)) for some in chosen)

    return ahead(0, frozenset())


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sets(st.integers(0, EXPERTS - 1), min_size=1), min_size=1, max_size=8), st.integers(0, 4))
def test_belady_fetches_as_little_as_any_rule_can(layer_runs, slots):
    layer_runs = [frozenset(layer_run) for layer_run in layer_runs]
    least = fetches(layer_runs, slots, Belady())
    assert least == fewest(layer_runs, slots, pins=False)
    allowed = fewest(layer_runs, slots, pins=True)
    assert least <= allowed <= min(fetches(layer_runs, slots, rule()) for rule in (Lru, Lfu, Heatmap))


def test_a_cyclic_scan_defeats_lru_alone():
    """Four experts in turn, room for two: LRU never meets one again; the others keep what they have."""
    layer_runs = [frozenset({0, 1})] * 8
    counts = {name: fetches(layer_runs, 2, CACHINGS[name]()) for name in ("lru", "lfu", "belady")}
    assert counts == {"lru": 16, "lfu": 10, "belady": 10}


def test_what_is_worth_less_than_what_is_held_is_not_written():
    copies = one_die(1, Heatmap())
    fetch = plan_of((0, 1, 1, 0))
    assert copies.admit(0, fetch, fetch.remote, np.zeros(2), np.full((2, 3), 5.0)).tolist() == [True]
    assert copies.admit(1, fetch, fetch.remote, np.zeros(2), np.full((2, 3), 5.0)).tolist() == [False]
    assert copies.admit(1, fetch, fetch.remote, np.zeros(2), np.full((2, 3), 5.5)).tolist() == [True]
    assert copies.evictions == 1
    assert copies.holders(0)[0, 1] == 0


def test_frequent_is_what_the_die_computes_or_others_read_from_it():
    """Die 1 computes expert 0 twice; die 0 reads expert 1, that die 1 holds, twice: both are used three times."""
    copies = one_die(2, Lfu())
    copies.admit(0, plan_of((0, 1, 1, 0), (1, 1, 1, 0)), np.ones(2, np.bool_), np.zeros(2))
    for _ in range(2):
        copies.admit(0, plan_of((0, 1, 1, 1), (1, 0, 1, 1)), np.zeros(2, np.bool_), np.zeros(2))
    assert copies._uses[1, :2].tolist() == [3, 3]


def kernel_of(step, layer=0, heat=None, next_heat=None, next_seen=None, counts=None):
    none = np.zeros((2, 2), np.int64)
    return LayerTokens(
        step=step,
        layer=layer,
        counts=np.ones(2, np.int64) if counts is None else np.array(counts),
        order=np.arange(2),
        heat=none if heat is None else np.array(heat),
        next_layer=0,
        next_seen=np.zeros(2, np.int64) if next_seen is None else np.array(next_seen),
        next_heat=None if next_heat is None else np.array(next_heat),
    )


def foresight(future=None, **parts):
    return SignalProvider(replace(POLICIES["pred"], **parts), PolicyHost("pred"), 2, 3, lambda: future)


def test_the_heat_of_the_prefill_is_frozen_in_decode_and_empty_without_one():
    shown = foresight(prediction=PrefillHeatmap())
    heats = [[[0, 2], [0, 0]], [[0, 3], [4, 0]], [[1, 3], [4, 9]]]
    assert [shown.heat(kernel_of(step, heat=heat)).tolist() for step, heat in enumerate(heats)] == [heats[0]] * 3
    assert shown.notes([0, 1]) == []
    empty = foresight(prediction=PrefillHeatmap())
    assert empty.heat(kernel_of(1, heat=heats[1])).tolist() == [[0, 0], [0, 0]]
    assert empty.notes([0, 1]) == ["pred: there is no prefill to predict by, so nothing is predicted"]


def test_what_needs_nothing_is_shown_nothing_whatever_others_count():
    shown = foresight(prediction=Always())
    assert not shown.heat(kernel_of(1, heat=[[1, 2], [3, 4]])).any()


def test_decayed_heat_halves_in_a_half_life_layer_by_layer():
    shown = foresight(prediction=DecayingHeatmap(half_life=2.0))
    for step, pairs in enumerate([8, 8, 9, 13]):
        heat = shown.heat(kernel_of(step, heat=[[pairs, 0], [0, 1]]))
        shown.heat(kernel_of(step, layer=1, heat=[[99, 0], [0, 0]]))
    assert heat == pytest.approx(np.array([[8 * 2**-1.5 + 1 * 2**-0.5 + 4, 0], [0, 2**-1.5]]))
    with pytest.raises(ValueError, match="read-only"):
        heat[0, 0] = 1


@pytest.mark.parametrize("half_life", [0, -1.0, float("nan"), "long"])
def test_a_half_life_that_is_no_number_above_zero_is_named_in_one_line(half_life):
    @dataclass(frozen=True)
    class Mine(Always):
        needs: str = "decayed"
        half_life: object = 1

    with pytest.raises(ConfigError, match="it should be a number above 0") as error:
        foresight(prediction=Mine(half_life=half_life))
    assert error.value.faults[0].startswith(f"policy pred: its prediction's half_life is {half_life!r}")


def test_the_future_is_the_plans_to_come():
    """Two dies; die 0 computes expert 0 in steps 1 and 3, die 1 expert 1 in step 2."""
    plans = {1: plan_of((0, 0, 1, 0)), 2: plan_of((1, 1, 1, 1)), 3: plan_of((0, 0, 1, 0))}
    future = DecodeOracle([kernel_of(step) for step in (1, 2, 3)], lambda layer_run: plans[layer_run.step], 1, 2)
    never = np.inf
    assert [future.next_use(kernel_of(step)).tolist() for step in range(4)] == [
        [[1, never], [never, 2]],
        [[3, never], [never, 2]],
        [[3, never], [never, never]],
        [[never, never], [never, never]],
    ]
    assert [future.next_step(kernel_of(step))[0, 0] for step in range(4)] == [1, 0, 1, 0]
    oracle = foresight(future, prediction=Oracle(), caching=Belady())
    assert oracle.heat(kernel_of(2)).tolist() == [[1, 0], [0, 0]]
    (note,) = oracle.notes([0])
    assert note.startswith("pred is an oracle, no policy (its prediction and caching)")


def test_what_is_expected_follows_the_tokens_that_a_die_computes():
    heat = np.array([[0, 3, 1], [0, 0, 0], [2, 0, 2]])
    plan = plan_of((0, 0, 8, 0), (1, 0, 5, 0), (2, 1, 4, 1), (0, 1, 4, 0))
    assert TokenHeatmap().expected(heat, plan, 2).tolist() == [[0, 6, 2], [2, 3, 3]]
    assert followers(np.array([8, 5, 4]), heat, np.zeros(3, np.int64)).tolist() == [2, 6, 4]
    assert followers(np.array([0, 5, 0]), heat, np.array([1, 2, 3])).tolist() == [1, 2, 3]


def test_the_layer_heatmap_prefetches_what_should_follow_and_says_where_layers_are_apart():
    shown = foresight(prefetching=LayerHeatmap())
    layer_run = kernel_of(1, counts=[0, 4], next_heat=[[9, 0], [1, 3]], next_seen=[9, 5])
    expected = shown.next_layer(layer_run)
    assert expected.tolist() == [1, 3]
    assert LayerHeatmap().ahead(expected, np.ones((2, 1), np.bool_), 1).tolist() == [[1]]
    assert foresight().next_layer(layer_run).tolist() == [9, 5]
    assert shown.notes([3, 4]) == []
    assert "not always the model's next" in shown.notes([3, 5])[0]


def test_with_plans_that_no_copy_changes_belady_fetches_least(small):
    """Whole runs of base's plans; everything fetched is offered."""
    rules = [{"name": rule, "preset": "pred", "prediction": "always", "caching": rule} for rule in ("lru", "lfu")]
    policies = f"policies=[base, belady, {', '.join(map(str, rules))}]"
    result = run(load(small, [policies, "steps=6"]))
    reads = {ledger.policy: sum(row.remote_reads for row in ledger.rows) for ledger in result.ledgers}
    evictions = {ledger.policy: sum(row.evictions for row in ledger.rows) for ledger in result.ledgers}
    assert evictions["lru"] > 0
    assert reads["belady"] < min(reads["lru"], reads["lfu"])
    assert max(reads.values()) == reads["base"]
    assert any(note.startswith("belady is an oracle, no policy (its caching)") for note in result.notes)


def test_the_oracle_keeps_what_its_die_computes_in_the_next_step(small):
    """With room for all, each copy that is written serves in the next step."""
    policies = "policies=[base, {name: oracle, preset: pred, prediction: oracle}]"
    result = run(load(small, [policies, "wafer.die.hbm.size=2 GB", "steps=6"]))
    rows = {ledger.policy: ledger.rows for ledger in result.ledgers}
    saved = sum(row.remote_reads for row in rows["base"]) - sum(row.remote_reads for row in rows["oracle"])
    expert = 3 * 1024 * 2048 * 2
    written = sum(row.local_write_bytes for row in rows["oracle"]) / expert
    assert saved >= written > 0


NEW = "policies=[base, belady, pred_decaying, pred_heatmap, pred_lfu, pred_oracle, pred_prefill]"


def test_both_engines_agree_and_the_seed_alone_decides(small):
    """Not where the LLC is prefetched into: that runs on SimPy alone."""
    settings_ = [NEW, "gemm=h800"]
    fast, again, slow = (
        run(load(small, [*settings_, f"engine={engine}"])) for engine in ("compiled", "compiled", "simpy")
    )
    assert fast.to_dict()["runs"] == again.to_dict()["runs"]
    for a, b in zip(fast.ledgers, slow.ledgers, strict=True):
        assert a.policy == b.policy
        for one, other in zip(a.rows, b.rows, strict=True):
            assert one.time_s == pytest.approx(other.time_s, rel=1e-9)
            assert (one.evictions, one.remote_reads) == (other.evictions, other.remote_reads)


def test_both_tiers_work_together(small):
    """Copies are written to the HBM and experts read ahead into the LLC, where some are hit."""
    policies = "policies=[base, {name: both, preset: cross_hierarchy, allocation: in_turn}]"
    runs = {r["policy"]: r for r in run(load(small, [policies])).to_dict()["runs"]}
    both = runs["both"]
    assert both["local_write_bytes"] > 0
    assert both["prefetched_bytes"] > 0
    assert both["llc_hits"] > 0


@dataclass(frozen=True)
class Wrong:
    """A prediction whose expectations have no right shape."""

    def wanted(self, heat, plan):
        return plan.remote

    def expected(self, heat, plan, num_dies):
        return heat


@dataclass(frozen=True)
class Curious(InTurn):
    needs: str = "tomorrow"

    def ahead(self, seen, holders, slots):
        raise AssertionError("never asked")

    def wanted(self, heat, plan):
        raise AssertionError("never asked")


@dataclass(frozen=True)
class Drops:
    victim: object

    def victims(self, pool, count):
        return self.victim


@dataclass(frozen=True)
class Scribbles:
    on: str

    def victims(self, pool, count):
        getattr(pool, self.on)[0] = 0
        return np.arange(count)


def crowded(caching):
    """Fetch two experts of one layer, then two of the other, with room for two copies."""
    copies = one_die(2, caching)
    for layer in range(LAYERS):
        copies.admit(layer, plan_of((0, 1, 1, 0), (1, 1, 1, 0)), np.ones(2, np.bool_), np.zeros(2))


@pytest.mark.parametrize(
    "victim", [[0, 0], [0], [0, 1, 2], [0, 4], [-1, 0], [0.0, 1.0], [True, False], None, "ab", [[0], [1]], [[0], 1]]
)
def test_victims_are_places_of_the_pool(victim):
    policy = Policy(name="mine", allocation=InTurn(), caching=Drops(victim))
    line = r"^policy mine: (the result of )?its caching, test_caching:Drops, .*"
    line += r"(whole numbers in 0\.\.3|give all rows one length)$"
    with pytest.raises(ConfigError, match=line):
        crowded(CheckedEviction(policy))


@pytest.mark.parametrize("on", ["new", "last_use", "uses", "foreseen"])
def test_a_pool_cannot_be_written_to(on):
    with pytest.raises(ValueError, match="read-only"):
        crowded(Scribbles(on))


def test_what_cannot_be_told_is_refused_in_one_line(small):
    experiment = load(small, ["policies=[pred_heatmap]", "baseline=pred_heatmap"])
    cases = [
        ({"prediction": POLICIES["belady"].prediction}, "give prediction: token_heatmap, or another with"),
        ({"prediction": Wrong()}, "it should be finite numbers [6, 12], [dies, experts]"),
        ({"prediction": Curious()}, "its prediction needs 'tomorrow'; it should be one of nothing, pairs"),
        ({"prefetching": Curious()}, "its prefetching needs 'tomorrow'; it should be one of tokens, layers"),
    ]
    for parts, expected in cases:
        policies = (replace(experiment.policies[0], **parts),)
        with pytest.raises(ConfigError) as error:
            run(replace(experiment, policies=policies, baseline=policies[0].name))
        (fault,) = error.value.faults
        assert expected in fault
