"""Tokens of each expert on a device, where only a summary of them is known.

The summary is what tables of measurements state: experts with a token, tokens of all experts, and most tokens of one.
Even loads differ by one token at most, and are exact. Skewed loads fall from the most by a constant factor from one
expert to the next, which makes their sum right; this is a power law of exponent 1. Its `SHARES` values stand for equal
numbers of experts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wss.hardware.kernels.sizes import sizes
from wss.records import FloatArray

SHARES = 8
_LEAST = np.logspace(-9, 0, 300)  # fewest tokens over most
_PLACES = (np.arange(SHARES) + 0.5) / SHARES
_MEANS = (_LEAST[:, None] ** _PLACES).mean(axis=1)  # mean over most


def loads(
    experts: npt.ArrayLike,
    active: npt.ArrayLike,
    total: npt.ArrayLike,
    most: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Return the tokens of experts, and how many experts have as many, both [calls, SHARES + 1].

    The last column stands for the experts without a token. Loads are even if *most* is what an even distribution has.

    Parameters
    ----------
    experts, active
        Experts that the device holds, and those with a token, [calls]; they may be means, not whole.
    total, most
        Tokens of all experts, and of the one with most, [calls].

    Raises
    ------
    ConfigError
        A size is negative, or not a number; or shapes differ.
    """
    experts, active, total, most, _ = sizes(experts=experts, active=active, total=total, most=most, calls=np.zeros(1))
    tokens, count = np.zeros((len(total), SHARES + 1)), np.zeros((len(total), SHARES + 1))
    active = np.maximum(active, np.minimum(total, 1.0))
    mean = total / np.maximum(active, 1e-9)
    low = np.floor(mean)
    tokens[:, 0], tokens[:, 1] = low, low + 1
    count[:, 1] = total - active * low
    count[:, 0] = active - count[:, 1]
    skewed = (most > np.ceil(mean)) & (total > 0)
    least = np.exp(np.interp(mean[skewed] / most[skewed], _MEANS, np.log(_LEAST)))
    falling = least[:, None] ** _PLACES
    tokens[skewed, :-1] = falling * (mean[skewed] / falling.mean(axis=1))[:, None]
    count[skewed, :-1] = active[skewed, None] / SHARES
    count[:, -1] = np.maximum(0.0, experts - active)
    return tokens, count
