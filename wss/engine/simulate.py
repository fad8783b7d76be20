"""One MoE kernel from start to barrier: a process for each die, a network between them, one clock."""

from __future__ import annotations

import numpy as np
import simpy

from wss.engine.die import work
from wss.engine.network import NetworkModel
from wss.records import FloatArray, KernelRun, Plan


def simulate_kernel(
    network_model: NetworkModel, num_dies: int, plan: Plan, nbytes: float, compute: FloatArray, window: int
) -> KernelRun:
    """Run *plan* and return what happened.

    Nothing outlives a kernel but its copies, and all dies wait for the last one; so every kernel has a clock of its
    own that starts at zero, and is a pure function of its arguments.

    Parameters
    ----------
    network_model
        The network of the wafer.
    num_dies
        How many dies the wafer has.
    plan
        The tasks.
    nbytes
        Bytes of one expert.
    compute
        Seconds each task computes, [tasks].
    window
        Reads in flight a die may have.
    """
    env = simpy.Environment()
    network = network_model.start(env)
    num_tasks = len(plan.expert)
    issue, read_end, end = np.zeros(num_tasks), np.zeros(num_tasks), np.zeros(num_tasks)
    by_die = np.argsort(plan.die, kind="stable")
    bounds = np.searchsorted(plan.die[by_die], np.arange(num_dies + 1))
    for die in range(num_dies):
        mine = by_die[bounds[die] : bounds[die + 1]].tolist()
        if mine:
            env.process(work(env, network, plan, mine, nbytes, compute, window, (issue, read_end, end)))
    env.run()

    die_end = np.zeros(num_dies)
    np.maximum.at(die_end, plan.die, end)
    return KernelRun(issue=issue, read_end=read_end, end=end, die_end=die_end, carried=network.carried())
