"""Trial runs of a policy: every call is made twice, and errors name where they occurred."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from wss.errors import ConfigError, WssError
from wss.execution.runner import build_ledger
from wss.hardware import Wafer
from wss.policies import Policy
from wss.records import LayerRow
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.placement import RoutingHistory
from wss.serving.policy_host import PolicyHost
from wss.testing.cases import STEPS, Engine, experiment_of, model_of, stream_of

T = TypeVar("T")


class ContractError(AssertionError):
    """A policy breaks the contract; `faults` are sentences with the place, the error and the fix."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@contextmanager
def at(where: str) -> Iterator[None]:
    """Turn any error of a trial into a ContractError that names *where*."""
    __tracebackhide__ = True
    try:
        yield
    except (ContractError, WssError) as error:
        raise ContractError(*(f"{where}: {fault}" for fault in error.faults)) from error
    except AssertionError as error:
        raise ContractError(f"{where}: {error}; this is a bug in wss, please report it") from error


class Doubting(PolicyHost):
    """Makes every call twice, and raises if the results differ."""

    def call(self, part: str, method: Callable[..., T], *arguments: Any) -> T:
        """Call *method* of *part*.

        Raises
        ------
        ConfigError
            If the two results differ, or a call fails.
        """
        answer = super().call(part, method, *arguments)
        if _same(answer, super().call(part, method, *arguments)):
            return answer
        raise ConfigError(
            f"policy {self.policy.name}: its {part} gives two results for the same arguments; it may depend only on "
            "them, so keep no state and take the seed of random draws as a parameter"
        )


def _same(one: Any, other: Any) -> bool:
    """Whether two results are equal."""
    if is_dataclass(one) and type(one) is type(other):
        return all(_same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    try:
        return np.array_equal(one, other)
    except ValueError:  # ragged lists, for which `wss.policies.validation` has its own error
        return True


class Trial(MoeLayerExecutor):
    """An executor that makes every call to its policy twice."""

    host_class: ClassVar[type[PolicyHost]] = Doubting


def rows_of(policy: Policy, wafer: Wafer, num_experts: int, engine: Engine = "auto") -> list[LayerRow]:
    """Run the layer runs of `STEPS` under *policy*, and return their rows.

    Raises
    ------
    ContractError
        If a run fails, or the policy breaks a rule.
    """
    __tracebackhide__ = True
    policy = replace(policy, history=None)  # its history is for one model, and these are others
    experiment = experiment_of(policy, wafer, model_of(num_experts), engine)
    with at(f"{num_experts} experts"):
        ledger = build_ledger(experiment, wafer, policy.name)
        history = RoutingHistory(experiment.setup, lambda: stream_of(num_experts))
        executor = Trial(experiment.setup, wafer, policy, history, ledger)
    for layer_run in stream_of(num_experts).layer_runs():
        with at(f"{num_experts} experts, step {layer_run.step} ({STEPS[layer_run.step].label})"):
            executor.run(layer_run)
    return ledger.rows


def difference(rows: list[LayerRow], others: list[LayerRow], tolerance: float) -> str | None:
    """Return where two runs first differ by more than *tolerance*, relative; None if nowhere."""
    for row, other in zip(rows, others, strict=True):
        for name, value in asdict(row).items():
            twin = getattr(other, name)
            if value != twin and (isinstance(value, str) or abs(value - twin) > tolerance * max(abs(value), abs(twin))):
                return f"step {row.step} ({STEPS[row.step].label}), layer {row.layer}: {name} is {value} and {twin}"
    return None
