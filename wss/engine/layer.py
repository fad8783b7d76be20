"""One MoE layer run from start to barrier: a process per die, a network between them, one clock."""

from __future__ import annotations

import numpy as np
import simpy

from wss.engine.die import LayerProcess, PrefetchPlan
from wss.engine.llc import Llcs
from wss.engine.network.base import NetworkModel
from wss.records import FloatArray, LayerRun, Plan


def simulate_layer(
    network_model: NetworkModel,
    llcs: Llcs,
    layer: int,
    plan: Plan,
    nbytes: float,
    compute: FloatArray,
    window: int,
    ahead: PrefetchPlan | None = None,
) -> LayerRun:
    """Run *plan* and return the result.

    Only copies and LLC contents outlive a layer run, and all dies wait for the last one. So every layer run has its own
    clock, which starts at zero, and is a pure function of its arguments.

    Parameters
    ----------
    network_model
        The network of the wafer.
    llcs
        The LLCs of all dies, after their `begin` for this layer run; modified.
    layer
        The layer of the plan's experts.
    plan
        The tasks.
    nbytes
        Bytes of one expert.
    compute
        Computing time of each task in seconds, [tasks].
    window
        Maximum reads in flight per die.
    ahead
        What idle dies prefetch for the next layer run.
    """
    env = simpy.Environment()
    by_die = np.argsort(plan.die, kind="stable")
    bounds = np.searchsorted(plan.die[by_die], np.arange(llcs.num_dies + 1))
    mine = {die: by_die[bounds[die] : bounds[die + 1]].tolist() for die in range(llcs.num_dies)}
    if ahead is None:
        mine = {die: tasks for die, tasks in mine.items() if tasks}
    work = LayerProcess(
        env=env,
        network=network_model.start(env),
        plan=plan,
        layer=layer,
        nbytes=nbytes,
        compute=compute,
        window=window,
        llcs=llcs,
        ahead=ahead,
        working=len(mine),
    )
    for die, tasks in mine.items():
        env.process(work.die(die, tasks))
    env.run()

    die_end = np.zeros(llcs.num_dies)
    np.maximum.at(die_end, plan.die, work.end)
    return LayerRun(
        issue=work.issue,
        read_end=work.read_end,
        end=work.end,
        hit=work.hit,
        prefetched=work.prefetched,
        die_end=die_end,
        carried=work.network.carried(),
    )
