"""The best possible plan if tokens and reads were divisible: a yardstick for planners, not a policy.

For a layer run, a linear programme (scipy, HiGHS) finds the least T with

    x[e, d]     share of expert e's tokens that die d computes, sum over d is 1
    y[e, d, s]  reads of e by d from source s, at least x[e, d] in all
    computing of each die, reading of each HBM (its latency included), and load of each link (weights and requests) <= T

A plan with whole reads satisfies these constraints, so the estimate of no plan is below T. The programme ignores tiles,
windows, task order, and the time of a single read. It takes seconds for more than about 30 experts on 25 dies.
"""

from __future__ import annotations

import numpy as np

from wss.policies import LayerView


def relaxed_optimum(view: LayerView) -> float:
    """Return T in seconds.

    Raises
    ------
    RuntimeError
        If the solver fails.
    """
    from scipy.optimize import linprog  # noqa: PLC0415  (slow, and no run needs it)
    from scipy.sparse import coo_array  # noqa: PLC0415

    costs, num_dies = view.costs, view.num_dies
    link_reads = view.link_reads
    num_links = len(link_reads)
    entries: list[tuple[int, int, float]] = []  # row, column, value of the terms that are <= T
    rows = 2 * num_dies + num_links  # computing, reading, links; below them, x[e, d] <= reads
    column = 0
    demands: list[int] = []  # the expert of each x
    shares: list[tuple[int, int]] = []  # the expert and the column of each x
    for expert in view.order.tolist():
        computing = float(view.counts[expert]) * costs.token
        for die in range(num_dies):
            entries += [(die, column, computing), (rows + len(demands), column, 1.0)]
            shares.append((expert, column))
            demand = rows + len(demands)
            demands.append(expert)
            column += 1
            own = view.holders[expert] & (np.arange(num_dies) == die)
            for source in np.flatnonzero(view.sources[expert] | own).tolist():
                entries += [(demand, column, -1.0), (num_dies + source, column, costs.hbm_read)]
                for route, share in ((view.routes[source, die], 1.0), (view.routes[die, source], costs.request)):
                    entries += [
                        (2 * num_dies + int(k), column, share * float(link_reads[k])) for k in route[route >= 0]
                    ]
                column += 1
    row, col, value = (np.array(part) for part in zip(*entries, strict=True))
    limit = np.zeros(rows + len(demands))
    limit[num_dies : 2 * num_dies] = -costs.latency
    makespan = np.arange(rows)
    at_most = coo_array(
        (np.append(value, -np.ones(rows)), (np.append(row, makespan), np.append(col, np.full(rows, column)))),
        shape=(len(limit), column + 1),
    )
    place = {expert: i for i, expert in enumerate(view.order.tolist())}
    exactly = coo_array(
        (np.ones(len(shares)), ([place[expert] for expert, _ in shares], [at for _, at in shares])),
        shape=(len(place), column + 1),
    )
    goal = np.zeros(column + 1)
    goal[column] = 1.0
    found = linprog(goal, A_ub=at_most, b_ub=limit, A_eq=exactly, b_eq=np.ones(len(place)))
    if found.status != 0:
        raise RuntimeError(f"no optimum: {found.message}")
    return float(found.fun)
