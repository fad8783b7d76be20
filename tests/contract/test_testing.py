"""The contract suite: every policy of the tables keeps it, and one that does not is told so in a clear sentence."""

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from wss.policies import POLICIES, SEAMS, Allocation, Caching, Placement, Policy, Prediction
from wss.policies.allocation.basic import Home, InTurn
from wss.policies.caching import Lru
from wss.policies.placement.basic import Contiguous
from wss.policies.prediction import Always, TokenHeatmap
from wss.testing import WAFERS, ContractError, PolicyContract, check_policy
from wss.testing.cases import STEPS, model_of, stream_of, wafer_of, with_room
from wss.testing.policy_contract import check_allocation, check_copies, check_parts, check_placement, check_runs
from wss.testing.trial import difference, rows_of


def alone(**part):
    """A policy with one part to be tried; a preset brings all of its own."""
    return Policy(**({"name": "alone", "allocation": InTurn()} | part))


TRIED = [wafer for wafer in WAFERS if wafer != "5x5"]  # the damaged one stands for it
SLOW = ("3x8", "8x8", "8 GPUs on NVLink")  # wafers whose contract is tried in the slow tests
ON = [pytest.param(wafer, marks=[pytest.mark.slow] * (wafer in SLOW)) for wafer in TRIED]

# A file holds the layout of one model, and has tests of its own.
PLACED = sorted(set(SEAMS["placement"].classes) - {"file"})
COPYING = {f"caching {name}": alone(caching=cls()) for name, cls in SEAMS["caching"].classes.items()} | {
    f"prediction {name}": alone(prediction=cls()) for name, cls in SEAMS["prediction"].classes.items()
}
RUN = {**POLICIES} | {
    f"prefetching {name}": alone(prefetching=cls())
    for name, cls in SEAMS["prefetching"].classes.items()
    if name != "none"
}


@pytest.mark.parametrize("wafer", ON)
@pytest.mark.parametrize("name", PLACED)
def test_every_placement_keeps_the_contract(name, wafer):
    check_placement(alone(placement=SEAMS["placement"].classes[name]()), wafer)


@pytest.mark.parametrize("wafer", ON)
@pytest.mark.parametrize("name", sorted(SEAMS["allocation"].classes))
def test_every_allocation_keeps_the_contract(name, wafer):
    check_allocation(alone(allocation=SEAMS["allocation"].classes[name]()), wafer)


@pytest.mark.parametrize("wafer", ON)
@pytest.mark.parametrize("name", sorted(COPYING))
def test_every_prediction_and_caching_keeps_the_contract(name, wafer):
    check_copies(COPYING[name], wafer)


LARGE = (
    "base",
    "ep",
    "pred",
    "allo",
    "allo_pred",
    "balanced_pred",
    "dup",
    "eplb",
    "near",
)  # on 64 dies, for time's sake
RUNS = [
    pytest.param(name, wafer, marks=[pytest.mark.slow] * (wafer in SLOW))
    for name in sorted(RUN)
    for wafer in TRIED
    if wafer != "8x8" or name in LARGE
]


@pytest.mark.parametrize(("name", "wafer"), RUNS)
def test_every_policy_runs_by_the_contract(name, wafer):
    check_parts(RUN[name])
    check_runs(RUN[name], wafer)


class TestAsAUserDoes(PolicyContract):
    policy = POLICIES["balanced"]


def test_the_kernels_are_what_they_are_called():
    for experts in (1, 7, 40, 384):
        layer_runs = {(k.step, k.layer): k.counts.copy() for k in stream_of(experts).layer_runs()}
        top_k = model_of(experts).top_k
        of = {step.label: layer_runs[at, 1] for at, step in enumerate(STEPS)}
        assert of["one expert with all tokens"].max() == 2048
        assert (of["one expert with all tokens"] > 0).sum() == top_k
        assert of["a single token"].sum() == top_k
        assert of["few tokens"].sum() == 9 * top_k
        assert np.ptp(of["as many tokens for each expert"]) <= top_k
        if experts > 1:
            assert not of["every other expert without tokens"][1::2].any()
            assert of["one hot expert"].max() > 1000
            assert 0 < (of["one hot expert"] == 1).sum() < experts or top_k == 2
        assert not np.array_equal(layer_runs[3, 0], layer_runs[3, 1]) or experts == 1, "layers are drawn apart"


@dataclass(frozen=True, kw_only=True)
class BadPlacement(Placement):
    """Contiguous, but for one fault."""

    fault: str
    numbers: ClassVar[itertools.count] = itertools.count()

    def place(self, view):
        placed = Contiguous().place(view)
        if self.fault == "crowds":
            placed[:, :, :] = np.arange(view.num_dies) == 0
        if self.fault == "leaves out":
            placed[-1, -1] = False
        if self.fault == "places anew":
            placed[:, :, next(self.numbers) % view.num_dies] = True
        return placed


@dataclass(frozen=True, kw_only=True)
class BadAllocation(Allocation):
    """Home, but for one fault."""

    fault: str
    numbers: ClassVar[itertools.count] = itertools.count()

    def allocate(self, view):
        plan = Home().allocate(view)
        if self.fault == "loses tokens":
            return replace(plan, tokens=np.maximum(1, plan.tokens - 1))
        if self.fault == "counts":
            return replace(plan, die=(plan.die + next(self.numbers)) % view.num_dies)
        if self.fault == "writes":
            view.counts[:] = 0
        return plan


@dataclass(frozen=True, kw_only=True)
class BadPrediction(Prediction):
    """Everything that is fetched, but for one fault."""

    fault: str

    def predict(self, view):
        if self.fault == "reads what it did not declare":
            return view.plan.remote & (view.transitions.sum() > 0)
        return view.plan.remote[:1]


@dataclass(frozen=True, kw_only=True)
class BadCaching(Caching):
    """Least recently used, but for one fault."""

    fault: str
    numbers: ClassVar[itertools.count] = itertools.count()

    def evict(self, pool, count):
        evicted = Lru().evict(pool, count)
        if self.fault == "gives up one twice" and len(evicted) > 1:
            evicted[1] = evicted[0]
        if self.fault == "gives up at random":
            evicted = np.random.default_rng(next(self.numbers)).permutation(count + 1)[:count]
        return evicted


BAD = {"placement": BadPlacement, "allocation": BadAllocation, "prediction": BadPrediction, "caching": BadCaching}


@dataclass(kw_only=True)
class Thawed(Allocation):
    def allocate(self, view):
        return Home().allocate(view)


FAULTS = {
    "crowds": ("placement", r"room for 3 per die: .*its placement puts 21 experts on die 0"),
    "leaves out": ("placement", "wafer 5x5, 3 layers of 1 experts, .* puts expert 0 of layer 2 on no die"),
    "places anew": ("placement", "its placement gives two results for the same arguments"),
    "loses tokens": ("allocation", r"40 experts, step 0 \(prefill\): .* does not compute every token once"),
    "counts": ("allocation", "its allocation gives two results for the same arguments"),
    "writes": ("allocation", r"its allocation failed at test_testing\.py:\d+ \(ValueError: .*read-only"),
    "wants one": ("prediction", r"its prediction is bool \[1\]; it should be bool \[40\]"),
    "reads what it did not declare": (
        "prediction",
        r"LookupError: the view's transitions was not declared; add Signal.TRANSITIONS to `signals` of the class",
    ),
    "gives up one twice": (
        "caching",
        r"room for 3 copies per die: 40 experts, step .*test_testing:BadCaching, evicts \[0, 0",
    ),
    "gives up at random": ("caching", "its caching gives two results for the same arguments"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_broken_policy_is_told_what_is_wrong(fault):
    part, line = FAULTS[fault]
    policy = Policy(**({"name": "mine", "allocation": InTurn(), "prediction": Always(), part: BAD[part](fault=fault)}))
    with pytest.raises(ContractError, match=line) as error:
        check_policy(policy, ["5x5"])
    assert all(said.startswith("wafer 5x5") and "\n" not in said for said in error.value.faults)


def test_parts_that_a_sweep_could_not_use_are_refused():
    @dataclass(frozen=True, kw_only=True)
    class Local(BadAllocation):
        pass

    for allocation, line in (
        (Thawed(), "its allocation, a Thawed, is not a frozen dataclass"),
        (Local(fault=""), "sent"),
    ):
        with pytest.raises(ContractError, match=line):
            check_policy(Policy(name="mine", allocation=allocation), [])


def test_runs_are_compared_row_by_row():
    rows = rows_of(POLICIES["pred"], wafer_of("5x5"), 40)
    assert difference(rows, rows, 0.0) is None
    others = [*rows[:5], replace(rows[5], time_s=rows[5].time_s * (1 + 1e-8)), *rows[6:]]
    assert difference(rows, others, 1e-7) is None
    assert difference(rows, others, 1e-9).startswith("step 2 (one hot expert), layer 3: time_s is ")


def test_copies_and_evictions_do_happen_on_trial():
    small = with_room(wafer_of("5x5"), model_of(40), 3)
    policy = Policy(name="mine", allocation=InTurn(), prediction=TokenHeatmap(share=1.0))
    assert sum(row.evictions for row in rows_of(policy, small, 40)) > 10
