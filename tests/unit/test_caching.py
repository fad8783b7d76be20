"""Caching rules, what they are told, and that no rule fetches less often than Belady's."""

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import copies_of, plan_of, pool_of, shown_of
from kit.runs import SMALL

from wss.config import load
from wss.errors import ConfigError
from wss.execution import run
from wss.policies import POLICIES, SEAMS, Caching, Forecasting, Policy, Prediction, Prefetching, PrefetchView, Signal
from wss.policies.allocation.basic import InTurn
from wss.policies.caching import Belady, Heatmap, Lfu, Lru
from wss.policies.prediction import Always, DecayingHeatmap, Oracle, PrefillHeatmap, TokenHeatmap
from wss.policies.prefetching import LayerHeatmap, Popular, followers
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
    assert Lru().evict(pool, 3).tolist() == [1, 0, 2]
    assert Lfu().evict(pool, 3).tolist() == [2, 0, 3]
    assert Heatmap().evict(pool, 3).tolist() == [2, 1, 0]
    assert Belady().evict(pool, 3).tolist() == [3, 0, 2]


def one_die(slots, caching):
    """All experts live on die 0; die 1 computes, with room for *slots* copies."""
    placed = np.zeros((LAYERS, EXPERTS, 2), np.bool_)
    placed[:, :, 0] = True
    return copies_of(placed, np.array([0.0, float(slots)]), 1.0, caching)


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
        signals = {signal: next_uses(layer_runs, at) for signal in caching.signals}
        copies.admit(at % LAYERS, plan, plan.remote, np.zeros(2), signals)
        assert copies.budget.copies[1] <= slots
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
    counts = {name: fetches(layer_runs, 2, SEAMS["caching"].classes[name]()) for name in ("lru", "lfu", "belady")}
    assert counts == {"lru": 16, "lfu": 10, "belady": 10}


def test_what_is_worth_less_than_what_is_held_is_not_written():
    copies = one_die(1, Heatmap())
    fetch = plan_of((0, 1, 1, 0))
    assert copies.admit(
        0, fetch, fetch.remote, np.zeros(2), {Signal.EXPECTED_TOKENS: np.full((2, 3), 5.0)}
    ).tolist() == [True]
    assert copies.admit(
        1, fetch, fetch.remote, np.zeros(2), {Signal.EXPECTED_TOKENS: np.full((2, 3), 5.0)}
    ).tolist() == [False]
    assert copies.admit(
        1, fetch, fetch.remote, np.zeros(2), {Signal.EXPECTED_TOKENS: np.full((2, 3), 5.5)}
    ).tolist() == [True]
    assert copies.evictions == 1
    assert copies.holders(0)[0, 1] == 0


def test_frequent_is_what_the_die_computes_or_others_read_from_it():
    """Die 1 computes expert 0 twice; die 0 reads expert 1, that die 1 holds, twice: both are used three times."""
    copies = one_die(2, Lfu())
    copies.admit(0, plan_of((0, 1, 1, 0), (1, 1, 1, 0)), np.ones(2, np.bool_), np.zeros(2))
    for _ in range(2):
        copies.admit(0, plan_of((0, 1, 1, 1), (1, 0, 1, 1)), np.zeros(2, np.bool_), np.zeros(2))
    assert copies._uses[1, :2].tolist() == [3, 3]


def kernel_of(step, layer=0, heat=None, layer_transitions=None, next_load=None, counts=None):
    none = np.zeros((2, 2), np.int64)
    return LayerTokens(
        step=step,
        layer=layer,
        counts=np.ones(2, np.int64) if counts is None else np.array(counts),
        order=np.arange(2),
        transitions=none if heat is None else np.array(heat),
        next_layer=0,
        next_load=np.zeros(2, np.int64) if next_load is None else np.array(next_load),
        layer_transitions=None if layer_transitions is None else np.array(layer_transitions),
    )


PLAN = plan_of((0, 0, 1, 0))


def signals_of(future=None, **parts):
    policy = replace(POLICIES["pred"], **parts)
    return SignalProvider(policy, PolicyHost(policy), 2, 3, lambda: future)


def test_the_heat_of_the_prefill_is_frozen_in_decode_and_empty_without_one():
    shown = signals_of(prediction=PrefillHeatmap())
    heats = [[[0, 2], [0, 0]], [[0, 3], [4, 0]], [[1, 3], [4, 9]]]
    assert [
        shown.prediction_view(kernel_of(step, heat=heat), PLAN).prefill_transitions.tolist()
        for step, heat in enumerate(heats)
    ] == [heats[0]] * 3
    assert shown.notes([0, 1]) == []
    empty = signals_of(prediction=PrefillHeatmap())
    assert empty.prediction_view(kernel_of(1, heat=heats[1]), PLAN).prefill_transitions.tolist() == [[0, 0], [0, 0]]
    assert empty.notes([0, 1]) == ["pred: there is no prefill to predict by, so nothing is predicted"]


def test_a_signal_that_was_not_declared_cannot_be_read_whatever_others_count():
    shown = signals_of(prediction=Always()).prediction_view(kernel_of(1, heat=[[1, 2], [3, 4]]), PLAN)
    for name in ("transitions", "prefill_transitions", "decayed_transitions", "next_step"):
        with pytest.raises(LookupError, match=f"{name} was not declared; add Signal.{name.upper()} to `signals`"):
            getattr(shown, name)


def test_decayed_heat_halves_in_a_half_life_layer_by_layer():
    shown = signals_of(prediction=DecayingHeatmap(half_life=2.0))
    for step, pairs in enumerate([8, 8, 9, 13]):
        heat = shown.prediction_view(kernel_of(step, heat=[[pairs, 0], [0, 1]]), PLAN).decayed_transitions
        shown.prediction_view(kernel_of(step, layer=1, heat=[[99, 0], [0, 0]]), PLAN)
    assert heat == pytest.approx(np.array([[8 * 2**-1.5 + 1 * 2**-0.5 + 4, 0], [0, 2**-1.5]]))
    with pytest.raises(ValueError, match="read-only"):
        heat[0, 0] = 1


@pytest.mark.parametrize("half_life", [0, -1.0, float("nan"), "long"])
def test_a_half_life_that_is_no_number_above_zero_is_named_in_one_line(half_life):
    @dataclass(frozen=True)
    class Mine(Always):
        signals = frozenset({Signal.DECAYED_TRANSITIONS})
        half_life: object = 1

    with pytest.raises(ConfigError, match="it should be a number above 0") as error:
        signals_of(prediction=Mine(half_life=half_life))
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
    oracle = signals_of(future, prediction=Oracle(), caching=Belady())
    assert oracle.prediction_view(kernel_of(2), PLAN).next_step.tolist() == [[1, 0], [0, 0]]
    (note,) = oracle.notes([0])
    assert note.startswith("pred is an oracle, not a real policy (its prediction and caching)")


def test_what_is_expected_follows_the_tokens_that_a_die_computes():
    heat = np.array([[0, 3, 1], [0, 0, 0], [2, 0, 2]])
    plan = plan_of((0, 0, 8, 0), (1, 0, 5, 0), (2, 1, 4, 1), (0, 1, 4, 0))
    assert TokenHeatmap().expected_tokens(shown_of(heat, plan, 2)).tolist() == [[0, 6, 2], [2, 3, 3]]
    assert followers(np.array([8, 5, 4]), heat, np.zeros(3, np.int64)).tolist() == [2, 6, 4]
    assert followers(np.array([0, 5, 0]), heat, np.array([1, 2, 3])).tolist() == [1, 2, 3]


def test_the_layer_heatmap_prefetches_what_should_follow_and_says_where_layers_are_apart():
    shown = signals_of(prefetching=LayerHeatmap())
    layer_run = kernel_of(1, counts=[0, 4], layer_transitions=[[9, 0], [1, 3]], next_load=[9, 5])
    view = shown.prefetch_view(layer_run, np.ones((2, 1), np.bool_), 1)
    assert isinstance(view, PrefetchView)
    assert LayerHeatmap().tokens(view).tolist() == [1, 3]
    assert LayerHeatmap().prefetch(view).tolist() == [[1]]
    assert Popular().prefetch(view).tolist() == [[0]]
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
    assert any(note.startswith("belady is an oracle, not a real policy (its caching)") for note in result.notes)


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
class Wrong(Forecasting):
    """A prediction whose expectations have no right shape."""

    def predict(self, view):
        return view.plan.remote

    def expected_tokens(self, view):
        return np.zeros((view.num_experts, view.num_experts))


@dataclass(frozen=True)
class Prophet(Prediction):
    signals = frozenset({"tomorrow"})

    def predict(self, view):
        raise AssertionError("never called")


@dataclass(frozen=True)
class Misplaced(Prefetching):
    signals = frozenset({Signal.PREFILL_LOAD})

    def prefetch(self, view):
        raise AssertionError("never called")


@dataclass(frozen=True)
class Drops(Caching):
    victim: object

    def evict(self, pool, count):
        return self.victim


@dataclass(frozen=True)
class Scribbles(Caching):
    on: str
    signals = frozenset({Signal.EXPECTED_TOKENS})

    def evict(self, pool, count):
        getattr(pool, self.on)[0] = 0  # one of the view's fields
        return np.arange(count)


def crowded(caching, evict=None):
    """Fetch two experts of one layer, then two of the other, with room for two copies."""
    copies = one_die(2, caching)
    copies._evict = evict or copies._evict
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
        crowded(policy.caching, PolicyHost(policy).evict)


@pytest.mark.parametrize("on", ["new", "last_use", "uses", "expected_tokens"])
def test_a_pool_cannot_be_written_to(on):
    with pytest.raises(ValueError, match="read-only"):
        crowded(Scribbles(on))


def test_what_cannot_be_told_is_refused_in_one_line(small):
    experiment = load(small, ["policies=[pred_heatmap]", "baseline=pred_heatmap"])
    cases = [
        ({"prediction": POLICIES["belady"].prediction}, "give prediction: token_heatmap, or another that"),
        ({"prediction": Wrong()}, "it should be finite numbers [6, 12], [dies, experts]"),
        (
            {"prediction": Prophet()},
            "Prophet() declares the signals frozenset({'tomorrow'}); it should be a frozenset of ",
        ),
        ({"prefetching": Misplaced()}, "it should be a frozenset of Signal.POPULARITY, Signal.LAYER_TRANSITIONS"),
        ({"prediction": Lru()}, "Lru() is no prediction; derive it from wss.policies.Prediction"),
    ]
    for parts, expected in cases:
        policies = (replace(experiment.policies[0], **parts),)
        with pytest.raises(ConfigError) as error:
            run(replace(experiment, policies=policies, baseline=policies[0].name))
        (fault,) = error.value.faults
        assert expected in fault
