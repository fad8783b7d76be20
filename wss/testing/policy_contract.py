"""The suite: each part of a policy on every wafer, then whole runs in both engines.

A policy is tested as it runs, in `wss.serving.moe_layer.MoeLayerExecutor`, which rejects invalid results. The suite
adds what one run cannot check: equal calls have equal results, whatever calls are made in between; a placement fits
into the HBM; parts handle holders, copies and histories that would not occur under this policy alone; and the engines
agree.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from functools import partial
from itertools import product
from typing import Any, ClassVar

from wss.errors import ConfigError
from wss.policies import Policy
from wss.policies.allocation.basic import InTurn
from wss.policies.placement.basic import Contiguous
from wss.policies.prediction import Never, TokenHeatmap
from wss.policies.prefetching import NoPrefetch
from wss.policies.rebalancing import Coming, Every, NoRebalancing
from wss.serving.placement import RoutingHistory, costs_of, placement_view
from wss.testing.cases import WAFERS, Scattered, experiment_of, model_of, stream_of, wafer_of, with_room
from wss.testing.trial import ContractError, Doubting, at, difference, rows_of

EXPERTS = (40, 384)  # experts per layer of the models
# Experts per layer; free slots per die beyond an even share of all layers (None: plenty); whether there is a prefill
PLACED = (*product((1, 7, 40), (0, 4, None), (True,)), (40, 4, False), (384, 4, True))
COPIES = 3  # copies of remote experts that fit on a die in the caching tests
AGREE = 1e-9  # relative tolerance between the engines
SOON = 3  # maximum steps between rebalancings in a trial


def check_parts(policy: Policy) -> None:
    """Check that all parts are frozen dataclasses, and that the policy can be pickled for another process."""
    for field in fields(Policy):
        part = getattr(policy, field.name)
        if part is None or isinstance(part, str):
            continue
        how = getattr(type(part), "__dataclass_params__", None)
        if how is None or not how.frozen:
            what = f"its {field.name}, a {type(part).__name__}, is not a frozen dataclass"
            raise ContractError(f"policy {policy.name}: {what}; write @dataclass(frozen=True, kw_only=True) above it")
    _sent(policy)


def _sent(policy: Policy) -> Policy:
    """Return *policy* as a worker of a sweep receives it."""
    try:
        sent = pickle.loads(pickle.dumps(policy))
    except Exception as error:  # a user's class may raise anything
        reason = " ".join(str(error).split())[:200]
        raise ContractError(
            f"policy {policy.name}: cannot be sent to the workers of a sweep ({type(error).__name__}: {reason}); "
            "define its classes at the top of a module, their fields plain values"
        ) from error
    if sent != policy:
        raise ContractError(
            f"policy {policy.name}: changes when it is sent to a worker of a sweep; "
            "keep all state of its classes in their fields"
        )
    return sent  # type: ignore[no-any-return]


def check_placement(policy: Policy, wafer: str) -> None:
    """Check the placement with much and little HBM, with and without a prefill, for few and many experts.

    A history is for one model, so a policy is tested without its own, here and in whole runs.
    """
    policy = replace(policy, history=None)
    for num_experts, extra, prefill in PLACED:
        model = model_of(num_experts)
        system = with_room(wafer_of(wafer), model, extra)
        experiment = experiment_of(policy, system, model, "auto")
        history = RoutingHistory(experiment.setup, partial(stream_of, num_experts, prefill=prefill))
        view = placement_view(experiment.setup, system, policy, history, costs_of(experiment.setup, system))
        room = view.capacity
        where = f"wafer {wafer}, {len(model.moe_layers)} layers of {num_experts} experts, room for {room} per die"
        with at(where if prefill else f"{where}, no prefill"):
            placed = Doubting(policy).place(view)
            most = placed.sum(axis=(0, 1))
            if most.max() > room:
                what = f"puts {most.max()} experts on die {most.argmax()}; keep to view.slots(extra) in each layer"
                raise ConfigError(f"policy {policy.name}: its placement {what}")


def check_allocation(policy: Policy, wafer: str) -> None:
    """Check the allocation with experts held by one die or by several, and with dies that hold none."""
    tried = replace(policy, placement=Scattered(), prefetching=NoPrefetch(), rebalancing=NoRebalancing())
    for num_experts in EXPERTS:
        with at(f"wafer {wafer}, replicas here and there"):
            rows_of(tried, wafer_of(wafer), num_experts)


def check_copies(policy: Policy, wafer: str) -> None:
    """Check prediction and caching if nearly all experts are fetched and few copies fit on a die."""
    prediction = TokenHeatmap(share=1.0) if isinstance(policy.prediction, Never) else policy.prediction
    tried = replace(
        policy,
        placement=Contiguous(),
        allocation=InTurn(),
        prediction=prediction,
        prefetching=NoPrefetch(),
        rebalancing=NoRebalancing(),
    )
    small = with_room(wafer_of(wafer), model_of(EXPERTS[0]), COPIES)
    _twice(tried, f"wafer {wafer}, room for {COPIES} copies per die", lambda again: rows_of(again, small, EXPERTS[0]))


def check_runs(policy: Policy, wafer: str) -> None:
    """Check whole runs: reproducible, equal in both engines, and never faster than the lower bound."""
    policy = _soon(policy)
    system, few, many = wafer_of(wafer), *EXPERTS
    rows = _twice(policy, f"wafer {wafer}", lambda again: rows_of(again, system, few))
    with at(f"wafer {wafer}"):
        other = difference(rows, rows_of(policy, system, few, "simpy"), AGREE)
        if other is not None:
            raise AssertionError(f"{few} experts, {other} in the two engines")
        rows_of(policy, system, many)


def _soon(policy: Policy) -> Policy:
    """Return *policy* with its rebalancing interval shortened to fit into a trial."""
    rule = policy.rebalancing
    if isinstance(rule, Coming):  # its history is for one model
        return replace(policy, rebalancing=NoRebalancing())
    if isinstance(rule, Every) and rule.steps > SOON:
        return replace(policy, rebalancing=replace(rule, steps=SOON))
    return policy


def _twice(policy: Policy, where: str, run: Callable[[Policy], Any]) -> Any:
    """Run *policy*, then the policy as a worker of a sweep receives it, and compare."""
    with at(where):
        rows = run(policy)
        other = difference(rows, run(_sent(policy)), 0.0)
    if other is not None:
        raise ContractError(f"{where}, {other} when the same is run twice; no part may keep state between calls")
    return rows


CHECKS: tuple[Callable[[Policy, str], None], ...] = (check_placement, check_allocation, check_copies, check_runs)


def check_policy(policy: Policy, wafers: Iterable[str] = WAFERS) -> None:
    """Check that *policy* keeps the contract on each of *wafers*, names in `WAFERS`.

    Raises
    ------
    ContractError
        With the first fault of every check on every wafer.
    """
    __tracebackhide__ = True
    check_parts(policy)
    faults: list[str] = []
    for wafer in wafers:
        for check in CHECKS:
            try:
                check(policy, wafer)
            except ContractError as error:
                faults += error.faults
    if faults:
        raise ContractError(*faults)


class PolicyContract:
    """The suite for pytest: subclass it as ``TestMine`` and set `policy`; one test per check and wafer."""

    policy: ClassVar[Policy]

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run every check on every wafer."""
        if "wafer" in metafunc.fixturenames:
            names = [check.__name__.removeprefix("check_") for check in CHECKS]
            metafunc.parametrize("check", CHECKS, ids=names)
            metafunc.parametrize("wafer", WAFERS)

    def test_its_parts_are_frozen_and_can_be_sent_to_workers(self) -> None:
        """See `check_parts`."""
        check_parts(self.policy)

    def test_it_keeps_the_contract(self, check: Callable[[Policy, str], None], wafer: str) -> None:
        """See `CHECKS`."""
        check(self.policy, wafer)
