"""Calls to the parts of one policy: errors in one line, answers validated, CPU time measured."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wss.errors import ConfigError, WssError
from wss.policies import Forecasting, LayerView, LoadView, PlacementView, Policy, Pool, PredictionView, PrefetchView
from wss.policies.validation import (
    validate_evicted,
    validate_expected,
    validate_load,
    validate_placement,
    validate_plan,
    validate_prefetch,
    validate_selected,
)
from wss.records import BoolArray, FloatArray, IntArray, Plan

T = TypeVar("T")

_WARNED: dict[Any, Any] = {}  # the warnings shown so far, so that each is shown once


class PolicyHost:
    """Calls the parts of *policy* in one run. Only these calls are timed, and only their errors name the policy.

    The time of a call is the CPU time of the process from call to return, including threads of a planner and excluding
    validation: the planning cost of a deployment. The first layer runs include compilation, so the median is the
    typical cost of a layer run; the largest is not.

    Every method raises ConfigError, with one line a fault, if the part fails or its answer is not valid. A WssError
    that the part raises passes as it is.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._before = 0.0
        self._layer_runs: list[dict[str, float]] = []

    def begin(self) -> None:
        """Begin a layer run; later calls count towards it."""
        self._layer_runs.append({})

    def place(self, view: PlacementView) -> IntArray:
        """Return the replicas on each die, [layers, experts, dies]."""
        shape = view.num_layers, view.num_experts, view.num_dies
        return validate_placement(self.call("placement", self.policy.placement.place, view), shape, self.policy.name)

    def allocate(self, view: LayerView) -> Plan:
        """Return the plan of a layer run."""
        return validate_plan(self.call("allocation", self.policy.allocation.allocate, view), view, self.policy.name)

    def predict(self, view: PredictionView) -> BoolArray:
        """Return which fetched experts are worth a copy, [tasks]."""
        selected = self.call("prediction", self.policy.prediction.predict, view)
        return validate_selected(selected, len(view.plan.expert), self.policy.name) & view.plan.remote

    def expected_tokens(self, view: PredictionView) -> FloatArray:
        """Return the use of each expert on each die that the prediction expects, [dies, experts]."""
        assert isinstance(self.policy.prediction, Forecasting)  # checked before the run, by `SignalProvider`
        expected = self.call("prediction", self.policy.prediction.expected_tokens, view)
        return validate_expected(expected, (view.num_dies, view.num_experts), self.policy.name)

    def evict(self, pool: Pool, count: int) -> IntArray:
        """Return the indices in *pool* of *count* copies to evict."""
        evicted, rule = self.call("caching", self.policy.caching.evict, pool, count), type(self.policy.caching)
        name = f"{rule.__module__}:{rule.__qualname__}"
        return validate_evicted(evicted, len(pool.new), count, self.policy.name, name)

    def prefetch(self, view: PrefetchView) -> list[list[int]]:
        """Return the experts of the next layer that each die reads into its LLC."""
        experts = self.call("prefetching", self.policy.prefetching.prefetch, view)
        return validate_prefetch(experts, view.holders, self.policy.name)

    def rebalance(self, view: LoadView) -> IntArray | None:
        """Return the load to place experts by, [layers, experts]; None to leave them."""
        load = self.call("rebalancing", self.policy.rebalancing.rebalance, view)
        return None if load is None else validate_load(load, view.counts.shape[1:], self.policy.name)

    def call(self, part: str, method: Callable[..., T], *arguments: Any) -> T:
        """Call *method* of *part* and measure it.

        Warnings are shown after the call returns. If it fails they are dropped: they would only hide the error line.

        Raises
        ------
        ConfigError
            If the call raises anything; the message names file and line.
        """
        began = time.process_time()
        try:
            with warnings.catch_warnings(record=True) as warned:
                answer = method(*arguments)
        except WssError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"policy {self.policy.name}: its {part} {_failure(method, error)}; fix it") from error
        self._add(part, time.process_time() - began)
        for warning in warned:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno, registry=_WARNED
            )
        return answer

    def _add(self, part: str, seconds: float) -> None:
        """Add CPU *seconds* of *part* to the layer run, or to what is before the first."""
        if not self._layer_runs:
            self._before += seconds
        else:
            self._layer_runs[-1][part] = self._layer_runs[-1].get(part, 0.0) + seconds

    def cost(self) -> dict[str, Any]:
        """Return the CPU seconds of the placement, and of a layer run the median, the largest and the medians by part.

        ``kernels`` is the number of layer runs. The values differ in every run, so only reported times may depend on
        them.
        """
        parts = sorted({part for layer_run in self._layer_runs for part in layer_run})
        by_part = np.array([[layer_run.get(part, 0.0) for part in parts] for layer_run in self._layer_runs])
        whole = by_part.sum(axis=1) if by_part.size else np.zeros(1)
        return {
            "placement_cpu_s": self._before,
            "kernels": len(self._layer_runs),
            "median_cpu_s": float(np.median(whole)),
            "largest_cpu_s": float(whole.max()),
            "parts_median_cpu_s": {
                part: float(np.median(column)) for part, column in zip(parts, by_part.T, strict=True)
            },
        }


def _failure(method: Callable[..., Any], error: BaseException) -> str:
    """Return where and why *method* failed; in the policy's own file, if it called a library that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(getattr(method, "__code__", None), "co_filename", None)
    at = ([frame for frame in frames if frame.filename == own] or frames)[-1]
    reason = " ".join(str(error).split())[:200]
    return f"failed at {Path(at.filename).name}:{at.lineno} ({type(error).__name__}: {reason})"
