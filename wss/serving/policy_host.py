"""Asking one policy its questions, and what CPU time its answers took: what planning costs whoever would deploy it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from wss.policies.validation import ask

T = TypeVar("T")


class PolicyHost:
    """Asks the parts of the policy *policy* in one run; what its answers took is kept.

    The time is the process' CPU time from a question to its answer, threads of a planner included; checking the answer
    is not part of it. Code that is compiled when it is first called makes the first layer runs dear, so that the median
    says what a layer run takes and the largest does not.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self._before = 0.0
        self._layer_runs: list[dict[str, float]] = []

    def begin(self) -> None:
        """Begin a layer run: what is asked from now on is asked for it."""
        self._layer_runs.append({})

    def __call__(self, what: str, question: Callable[..., T], *arguments: Any) -> T:
        """Ask the part *what* a *question*; see `wss.policies.validation.ask`."""
        began = time.process_time()
        answer = ask(self.policy, what, question, *arguments)
        spent = time.process_time() - began
        if not self._layer_runs:
            self._before += spent
        else:
            self._layer_runs[-1][what] = self._layer_runs[-1].get(what, 0.0) + spent
        return answer

    def cost(self) -> dict[str, Any]:
        """Return CPU seconds: of the placement; of a layer run, median, largest and medians by part; and their number.

        Only times may depend on it: it is another in every run.
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
