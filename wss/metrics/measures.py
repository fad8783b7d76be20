"""How figures are measured: what is summed over layers, and what divides it.

Where the layers run are a sample of all, both are sums by layer, and the figure is their estimate for all layers.
Figures that are neither sums over layers nor ratios of such sums are estimated to first order. The estimate decides
which steps a percentile lies between, which link is the busiest, and the order of the links in the Gini coefficient.
Few layers use links less evenly than many do, so the bias of the last two is subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wss.hardware.wafer import Wafer
from wss.metrics.ledger import Ledger
from wss.metrics.sampling import Sample
from wss.records import FloatArray

PAPER_TOKENS = 128  # decode tokens of a request that the paper's simulator counts, whatever was run


@dataclass(frozen=True, eq=False, kw_only=True)
class Totals:
    """What the figures of one policy are computed from.

    Its sums are by part of the run, [parts]: the layers run if they are a sample, else the whole run alone.

    Attributes
    ----------
    ledger, wafer
        The policy's rows and sums, and the wafer it ran on.
    tokens, batch
        Tokens decoded in the steps run, and requests that decode together.
    layers_total
        Number of MoE layers of the model.
    baseline
        The totals of the baseline; None if the policy is the baseline.
    """

    ledger: Ledger
    wafer: Wafer
    tokens: int
    batch: int
    layers_total: int
    baseline: Totals | None = None

    def sum(self, *columns: str, phase: str = "decode") -> FloatArray:
        """Return the sum of *columns* over the rows of *phase*, [parts]; ``decode`` includes migrations."""
        is_decode, sample = phase == "decode", self.ledger.sample
        rows = self.ledger.decode if is_decode else [row for row in self.ledger.rows if row.phase == phase]
        if sample is None:
            return np.array([float(sum(sum(getattr(row, column) for row in rows) for column in columns))])
        index = sample.index
        at = np.array([index[row.layer] for row in rows], np.int64)
        sums = [np.bincount(at, [getattr(row, column) for row in rows], len(index)) for column in columns]
        return np.array(np.sum(sums, axis=0), np.float64)

    def spread(self, number: float) -> FloatArray:
        """Return *number*, which all layers have together, in equal shares, [parts]."""
        sample = self.ledger.sample
        return np.array([number]) if sample is None else np.full(len(sample.layers), number / self.layers_total)

    @property
    def weights(self) -> FloatArray:
        """How many layers each part stands for, [parts]; only if layers are sampled."""
        assert self.ledger.sample is not None
        return self.ledger.sample.weights

    @property
    def link_bytes(self) -> FloatArray:
        """Bytes over each link in decode, [parts, links]."""
        ledger, sample = self.ledger, self.ledger.sample
        return np.array([ledger.link_bytes] if sample is None else [ledger.layer_links[at] for at in sample.layers])

    @property
    def compute(self) -> FloatArray:
        """Seconds that dies computed in decode, mean of all dies, [parts]."""
        ledger, sample = self.ledger, self.ledger.sample
        each = [ledger.die_compute] if sample is None else [ledger.layer_compute[layer] for layer in sample.layers]
        return np.array([seconds.mean() for seconds in each])

    @property
    def step_times(self) -> FloatArray:
        """Time of each decode step, [steps, parts]."""
        rows, index = self.ledger.decode, self.ledger.sample and self.ledger.sample.index
        times = np.zeros((max(row.step for row in rows), len(index or (0,))))
        for row in rows:
            times[row.step - 1, index[row.layer] if index else 0] += row.time_s
        return times

    @property
    def utilization(self) -> FloatArray:
        """Utilization of each link; estimated for all layers if they are sampled, [links]."""
        return link_utilization(self.ledger, self.wafer, self.ledger.sample)


@dataclass(frozen=True)
class Measure:
    """How a figure is measured.

    Attributes
    ----------
    above, below
        What is summed over layers, and what divides it; without *below*, it is a sum. Without *above*, it has no
        estimate and no interval.
    value
        The value if layers are not sampled, unless it is *above* / *below*.
    bias
        What is subtracted from the estimate.
    rare
        Whether both are times of the same layers, which may differ in a few layers alone.
    """

    above: Callable[[Totals], FloatArray] | None = None
    below: Callable[[Totals], FloatArray] | None = None
    value: Callable[[Totals], Any] | None = None
    bias: Callable[[Totals, Sample], float] | None = None
    rare: bool = False


def total(*columns: str, phase: str = "decode") -> Measure:
    """Return the measure that sums *columns* of layers.parquet over the rows of *phase*."""
    return Measure(lambda totals: totals.sum(*columns, phase=phase))


def ratio(above: str | tuple[str, ...], below: str) -> Measure:
    """Return the measure that divides the sum of the columns *above* by that of the column *below*, both in decode."""
    columns = (above,) if isinstance(above, str) else above
    return Measure(lambda totals: totals.sum(*columns), lambda totals: totals.sum(below))


def step_percentile(percent: int) -> Measure:
    """Return the measure of a percentile of the times of decode steps."""

    def above(totals: Totals) -> FloatArray:
        times = totals.step_times
        ascending = times[np.argsort(times @ totals.weights, kind="stable")]
        at = percent / 100 * (len(times) - 1)
        low, high = ascending[int(at)], ascending[min(int(at) + 1, len(times) - 1)]
        return np.array(low + (at - int(at)) * (high - low))

    return Measure(above, value=lambda totals: float(np.percentile(totals.step_times, percent)))


def decode_time(totals: Totals) -> FloatArray:
    """Return the time of decode, s, [parts]."""
    return totals.sum("time_s")


def _throughput(totals: Totals) -> float | None:
    """Return decode tokens over their time; None unless all layers were run."""
    is_whole = len(totals.ledger.layer_links) == totals.layers_total
    return float(totals.tokens / decode_time(totals)[0]) if is_whole else None


def _used(totals: Totals) -> FloatArray:
    """Return the seconds that the bytes take on each link, [parts, links]."""
    return totals.link_bytes / totals.wafer.link_bandwidth


def _largest(totals: Totals) -> FloatArray:
    used = _used(totals)
    return used[:, int((totals.weights @ used).argmax())] if used.size else np.zeros(len(used))


def _excess(totals: Totals, sample: Sample) -> float:
    """Return how far the utilization of the busiest link of few layers exceeds that of all."""
    used, time = _used(totals), decode_time(totals)
    return sample.bias(lambda weights: float((weights @ used).max() / (weights @ time))) if used.size else 0.0


def _unevenness(totals: Totals) -> FloatArray:
    carried = totals.link_bytes
    links = carried.shape[1]
    rank = np.argsort(np.argsort(totals.weights @ carried, kind="stable"), kind="stable")
    return np.array(carried @ ((2 * rank + 1 - links) / max(1, links)))


STEP_MEAN = Measure(
    lambda totals: totals.step_times.mean(axis=0), value=lambda totals: float(totals.step_times[:, 0].mean())
)
THROUGHPUT = Measure(lambda totals: totals.spread(totals.tokens), decode_time, _throughput)
PAPER_THROUGHPUT = Measure(lambda totals: totals.spread(totals.batch * PAPER_TOKENS), decode_time)
SPEEDUP = Measure(lambda totals: decode_time(totals.baseline or totals), decode_time, rare=True)
COMPUTE_SHARE = Measure(lambda totals: totals.compute, decode_time)
LINK_BYTES = Measure(lambda totals: totals.link_bytes.sum(axis=1))
LARGEST_UTILIZATION = Measure(_largest, decode_time, lambda totals: float(totals.utilization.max(initial=0.0)), _excess)
MEAN_UTILIZATION = Measure(
    lambda totals: _used(totals).sum(axis=1) / max(1, totals.wafer.num_links),
    decode_time,
    lambda totals: float(totals.utilization.mean()) if totals.wafer.num_links else 0.0,
)
LINK_GINI = Measure(
    _unevenness,
    lambda totals: totals.link_bytes.sum(axis=1),
    lambda totals: gini(totals.ledger.link_bytes),
    lambda totals, sample: sample.bias(lambda weights: gini(weights @ totals.link_bytes)),
)


def busiest_link(totals: Totals) -> str | None:
    """Return the name of the busiest link; None if nothing crossed a link."""
    used = totals.utilization
    return totals.wafer.link_name(int(used.argmax())) if used.any() else None


def link_utilization(ledger: Ledger, wafer: Wafer, sample: Sample | None) -> FloatArray:
    """Return the utilization of each link, of the layers run or, with a *sample*, estimated for all layers, [links]."""
    if sample is None:
        return ledger.link_bytes / (wafer.link_bandwidth * sum(row.time_s for row in ledger.decode))
    index = sample.index
    times = np.zeros(len(index))
    for row in ledger.decode:
        times[index[row.layer]] += row.time_s
    carried = np.array([ledger.layer_links[layer] for layer in sample.layers])
    return sample.weights @ (carried / wafer.link_bandwidth) / float(sample.weights @ times)


def gini(amounts: FloatArray) -> float:
    """Return the Gini coefficient of *amounts* [n]: 0 if all are equal, near 1 if one has everything."""
    if not amounts.sum():
        return 0.0
    ascending = np.sort(amounts)
    rank = np.arange(1, len(ascending) + 1)
    return float(
        2 * (rank * ascending).sum() / (len(ascending) * ascending.sum()) - (len(ascending) + 1) / len(ascending)
    )
