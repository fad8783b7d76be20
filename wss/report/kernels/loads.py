"""Tokens of each expert on a rank, from what a table of MoE layers states: experts with a token, all tokens, the most.

Balanced routing has at most two loads. Under a power law of exponent a, the load at the share u of the experts, from
the fewest tokens to the most, is

    load(u) = ((most^(1-a) - least^(1-a)) · u + least^(1-a))^(1/(1-a))

with the least load that makes the sum right. Random (uniform) routing varies as a Poisson distribution does.

A row's loads are `COLUMNS` values, each of which stands for an equal number of experts.
"""

from __future__ import annotations

import numpy as np

from wss.records import FloatArray
from wss.traces.columns import Columns

COLUMNS = 8
BALANCED, UNIFORM, POWER_LAW = "balanced", "uniform", "power_law_"
_RATIOS = np.logspace(-9, 0, 300)  # least over most


def loads_of(columns: Columns) -> tuple[FloatArray, FloatArray]:
    """Return the tokens of experts, and how many experts have as many, both [rows, COLUMNS].

    They add up to the row's token_experts and active_experts.
    """
    active, total, most = (columns.numbers[name] for name in ("active_experts", "token_experts", "max_tokens"))
    tokens, count = _even(active, total)
    for (routing,), rows in columns.groups(["routing"]):
        exponent = _exponent(routing)
        uneven = rows[most[rows] * active[rows] > 1.001 * total[rows]]
        if exponent is not None:
            tokens[uneven] = _power_law(total[uneven] / active[uneven], most[uneven], exponent)
        elif routing == UNIFORM:
            tokens[uneven] = _random(total[uneven] / active[uneven])
        else:
            continue
        count[uneven] = active[uneven, None] / COLUMNS
    return tokens, count


def _exponent(routing: str) -> float | None:
    """Return the exponent of a power law, not 1; None for another routing."""
    try:
        found = float(routing.removeprefix(POWER_LAW)) if routing.startswith(POWER_LAW) else None
    except ValueError:
        return None
    return found if found is None or abs(found - 1) > 1e-3 else 1.001


def _even(active: FloatArray, total: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return loads that differ by at most one token."""
    low = np.floor(total / np.maximum(active, 1e-9))
    more = total - active * low
    tokens, count = np.zeros((len(active), COLUMNS)), np.zeros((len(active), COLUMNS))
    tokens[:, 0], tokens[:, 1] = low, low + 1
    count[:, 0], count[:, 1] = active - more, more
    return tokens, count


def _power_law(mean: FloatArray, most: FloatArray, exponent: float) -> FloatArray:
    shares = (np.arange(COLUMNS) + 0.5) / COLUMNS
    means = _curve(_RATIOS, shares, exponent).mean(axis=1)
    ratio = np.exp(np.interp(mean / most, means, np.log(_RATIOS)))
    curve = _curve(ratio, shares, exponent) * most[:, None]
    return _with_mean(curve, mean)


def _curve(least: FloatArray, shares: FloatArray, exponent: float) -> FloatArray:
    """Return the loads at *shares* of the experts over the most, [least, shares]."""
    low = least[:, None] ** (1 - exponent)
    result: FloatArray = ((1 - low) * shares + low) ** (1 / (1 - exponent))
    return result


def _random(mean: FloatArray) -> FloatArray:
    """Return loads with the mean and, if it is large, the variance of a Poisson distribution, spread evenly."""
    shares = 2 * (np.arange(COLUMNS) + 0.5) / COLUMNS - 1
    return _with_mean(np.maximum(mean[:, None] + np.sqrt(3 * mean)[:, None] * shares, 0.0), mean)


def _with_mean(loads: FloatArray, mean: FloatArray) -> FloatArray:
    result: FloatArray = loads * (mean / loads.mean(axis=1))[:, None]
    return result
