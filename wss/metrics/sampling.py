"""Estimates for all layers from a stratified sample of them: the draw, the estimates, and 95% intervals.

Layers are sorted by skew, which is known before the run. The most skewed layers are always included. The others are cut
into strata of similar skew; within a stratum, layers are drawn at random without replacement. After Cochran, Sampling
Techniques, 3rd edition (1977), with N_h layers in stratum h and n_h of them run, of mean y_h:

* total: Y = sum over strata of N_h · y_h, of variance sum of N_h (N_h - n_h) / n_h · s_h² (5.3, 5.4);
* ratio: R = Y / X, both totals estimated so, the *combined* ratio estimate (6.11). To first order, its variance is that
  of the total of d = (y - R · x) / X;
* 95%: Student's t with the variance s² pooled over the strata, as each alone has only three or four layers to estimate
  it from. The degrees of freedom are (1 + sum of (n_h - 1)) / 2, at least 2. The whole sum would be right for normal
  values, but layer run times have a long tail: if a few large ones are not drawn, the variance is too small;
* rare events: a policy that equals the baseline in most layers differs in a few. If these are not drawn, d hardly
  varies. So if the ratio of times is the same in half of the layers drawn, to within `TIED` of the spread of times
  between layers, the spread of d is at least `LEAST_SPREAD` of what independent times would give;
* experiments/sampling/README.md reports 200 draws on four models;
* bias of figures that are neither sums nor ratios of sums: by the jackknife, leaving out one layer at a time, sum over
  strata of (N_h - n_h) / N_h · (n_h - 1) · (mean without one - value).

A stratum that is run completely, such as the most skewed one, adds no variance. The intervals cover only the choice of
layers, not the choice of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wss.records import FloatArray
from wss.rng import stream, uniform

LEAST = 4  # layers in a sample: one that is always included, and three to estimate a variance
TIED = 0.02  # ratios of two policies count as equal within this share of the relative spread of times
LEAST_SPREAD = 0.2  # of the spread that independent times would give, where events are rare
_A_STRATUM = 3  # least number of layers drawn in a stratum


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Layers of similar skew, and those of them that are run; absolute layer indices, ascending."""

    layers: tuple[int, ...]
    run: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """A stratified sample of layers. Arrays by layer follow the order of `layers`."""

    strata: tuple[Stratum, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are run, ascending."""
        return tuple(sorted(layer for stratum in self.strata for layer in stratum.run))

    @property
    def weights(self) -> FloatArray:
        """How many layers each layer run stands for, [layers run]."""
        stands = {layer: len(each.layers) / len(each.run) for each in self.strata for layer in each.run}
        return np.array([stands[layer] for layer in self.layers])

    @property
    def index(self) -> dict[int, int]:
        """The index of each layer run in arrays by layer."""
        return {layer: i for i, layer in enumerate(self.layers)}

    def bias(self, figure: Callable[[FloatArray], float]) -> float:
        """Return how far *figure*, a function of weights [layers run], exceeds its value for all layers."""
        weights, value, found = self.weights, figure(self.weights), 0.0
        index = self.index
        for stratum in self.strata:
            size, drawn = len(stratum.layers), len(stratum.run)
            if drawn == size:
                continue
            own = np.array([index[layer] for layer in stratum.run])
            for without in own.tolist():
                fewer = weights.copy()
                fewer[own] = size / (drawn - 1)
                fewer[without] = 0.0
                found += (size - drawn) / size * (drawn - 1) / drawn * (figure(fewer) - value)
        return found

    def estimate(
        self, above: FloatArray, below: FloatArray | None = None, bias: float = 0.0
    ) -> tuple[float, float, float]:
        """Return value, low and high end of the 95% interval of a total over all layers, or of a ratio of totals.

        Parameters
        ----------
        above, below
            Numerator and denominator by layer, both [layers run]; a total has no denominator.
        bias
            Subtracted from the value.
        """
        value = float(self.weights @ above)
        deviation = above
        if below is not None:
            total = float(self.weights @ below)
            if total == 0:
                return 0.0, 0.0, 0.0
            value /= total
            deviation = (above - value * below) / total
        return self._interval(max(0.0, value - bias), self._spread(deviation))

    def speedup(self, before: FloatArray, now: FloatArray) -> tuple[float, float, float]:
        """Return the ratio of the totals of times *before* and *now*, [layers run], and the ends of its 95% interval.

        Two policies may differ in only a few layers, so the interval allows for rare events. It has no width if the
        times are the same.
        """
        value, low, high = self.estimate(before, now)
        if before is now or not now.any():
            return value, low, high
        total = float(self.weights @ now)
        spread = self._spread(before / total)
        ratios = before / now
        close = TIED * spread * float(self.weights.sum())
        if (np.abs(ratios - np.median(ratios)) <= close).mean() < 0.5:
            return value, low, high
        least = LEAST_SPREAD * math.hypot(spread, self._spread(value * now / total))
        return self._interval(value, max(self._spread((before - value * now) / total), least))

    def _drawn(self, values: FloatArray) -> list[tuple[int, FloatArray]]:
        """Return the size of each stratum that is not run completely, and the *values* of its layers run."""
        index = self.index
        return [
            (len(stratum.layers), values[[index[layer] for layer in stratum.run]])
            for stratum in self.strata
            if len(stratum.run) < len(stratum.layers)
        ]

    def _spread(self, values: FloatArray) -> float:
        """Return the standard deviation of *values* [layers run] within strata, pooled over the strata."""
        drawn = [own for _, own in self._drawn(values)]
        squares = sum(float(((own - own.mean()) ** 2).sum()) for own in drawn)
        return math.sqrt(squares / max(1, sum(len(own) - 1 for own in drawn)))

    def _interval(self, value: float, spread: float) -> tuple[float, float, float]:
        """Return *value* and the ends of its 95% interval; *spread* is the standard deviation of the layers' terms."""
        from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, and seldom needed

        sizes = [(size, len(own)) for size, own in self._drawn(self.weights)]
        known = sum(drawn - 1 for _, drawn in sizes)
        if not known:
            return value, value, value
        freedom = min(known, max(2.0, (known + 1) / 2))
        scale = sum(size * (size - drawn) / drawn for size, drawn in sizes)
        half = float(stdtrit(freedom, 0.975)) * math.sqrt(scale) * spread
        return value, max(0.0, value - half), value + half


def draw(layers: Sequence[int], skew: FloatArray, count: int, seed: int) -> Sample:
    """Draw *count* of *layers*, at least `LEAST` and fewer than all.

    An eighth of them, at least one, are the most skewed. The others come from two strata of equally many layers, or
    from one if they are fewer than six.

    Parameters
    ----------
    layers
        Absolute indices of all layers.
    skew
        Largest over mean tokens per expert, [layers]; ties rank in layer order.
    count
        Number of layers to draw.
    seed
        Seed of the draw.
    """
    order = np.array(layers)[np.argsort(-skew, kind="stable")]
    chance = dict(zip(layers, uniform(stream(seed, "layers", "sample"), len(layers)).tolist(), strict=True))
    certain = max(1, count // 8)
    parts = 2 if count - certain >= 2 * _A_STRATUM else 1
    sizes = [len(part) for part in np.array_split(np.arange(count - certain), parts)]
    strata = [Stratum(layers=_ascending(order[:certain]), run=_ascending(order[:certain]))]
    for part, size in zip(np.array_split(order[certain:], parts), sizes, strict=True):
        chosen = sorted(part.tolist(), key=chance.__getitem__)[:size]
        strata.append(Stratum(layers=_ascending(part), run=tuple(sorted(chosen))))
    return Sample(tuple(strata))


def _ascending(layers: np.typing.NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(sorted(layers.tolist()))
