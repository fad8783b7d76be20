"""The compute side of a die: it works through its tasks in order while a window of reads is in flight.

A slot of the window is taken when a task's read is issued and freed when that task ends. Weights are used as they
stream in, so a task ends at

    end = max(read done, max(read issued, end of the task before) + compute time).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import simpy

from wss.engine.network import Network
from wss.records import FloatArray, Plan


def work(
    env: simpy.Environment,
    network: Network,
    plan: Plan,
    mine: Sequence[int],
    nbytes: float,
    compute: FloatArray,
    window: int,
    log: tuple[FloatArray, FloatArray, FloatArray],
) -> Generator[simpy.Event, Any, None]:
    """Run the tasks *mine* of *plan*, in that order; write issue, read end and end into *log*, each [tasks]."""
    issue, read_end, end = log
    reads: list[simpy.Event] = []
    previous = env.now
    for i, task in enumerate(mine):
        for ahead in mine[len(reads) : i + window]:
            issue[ahead] = env.now
            reads.append(network.read(int(plan.source[ahead]), int(plan.die[ahead]), nbytes, bool(plan.copy[ahead])))
        read_end[task] = yield reads[i]
        previous = max(env.now, max(issue[task], previous) + compute[task])
        if previous > env.now:
            yield env.timeout(previous - env.now)
        end[task] = previous
