"""Calls to one policy, with the CPU time of each: the planning cost of a deployment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from wss.policies.validation import ask

T = TypeVar("T")


class PolicyHost:
    """Calls the parts of *policy* in one run and records their CPU time.

    This is the CPU time of the process from call to return, including threads of a planner and excluding validation.
    The first layer runs include compilation, so the median is the typical cost of a layer run; the largest is not.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self._before = 0.0
        self._layer_runs: list[dict[str, float]] = []

    def begin(self) -> None:
        """Begin a layer run; later calls count towards it."""
        self._layer_runs.append({})

    def __call__(self, what: str, question: Callable[..., T], *arguments: Any) -> T:
        """Call method *question* of part *what*; see `wss.policies.validation.ask`."""
        began = time.process_time()
        answer = ask(self.policy, what, question, *arguments)
        spent = time.process_time() - began
        if not self._layer_runs:
            self._before += spent
        else:
            self._layer_runs[-1][what] = self._layer_runs[-1].get(what, 0.0) + spent
        return answer

    def cost(self) -> dict[str, Any]:
        """Return the CPU seconds of the placement, and of a layer run the median, the largest and the medians by part.

        ``kernels`` is the number of layer runs. The values differ in every run, so only reported times may depend on
        them.
        """
        parts = sorted({what for layer_run in self._layer_runs for what in layer_run})
        by_part = np.array([[layer_run.get(what, 0.0) for what in parts] for layer_run in self._layer_runs])
        whole = by_part.sum(axis=1) if by_part.size else np.zeros(1)
        return {
            "placement_cpu_s": self._before,
            "kernels": len(self._layer_runs),
            "median_cpu_s": float(np.median(whole)),
            "largest_cpu_s": float(whole.max()),
            "parts_median_cpu_s": {
                what: float(np.median(column)) for what, column in zip(parts, by_part.T, strict=True)
            },
        }
