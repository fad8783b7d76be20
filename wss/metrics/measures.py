"""How figures are measured: from the sums of a run, and by layer where the layers run are a sample of all.

A figure that is a sum over layers, or a ratio of such sums, has both ways in one `Measure` (`total`, `ratio`). Figures
that are neither are estimated to first order. The estimate decides which steps a percentile lies between, which link is
the busiest, and the order of the links in the Gini coefficient. Few layers use links less evenly than many do, so the
bias of the last two is subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from wss.hardware.wafer import Wafer
from wss.metrics.ledger import Ledger
from wss.metrics.sampling import Sample
from wss.records import FloatArray, LayerRow

PAPER_TOKENS = 128  # decode tokens of a request that the paper's simulator counts, whatever was run


@dataclass(frozen=True, eq=False, kw_only=True)
class Totals:
    """What the figures of one policy are computed from.

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

    def rows(self, phase: str) -> list[LayerRow]:
        """Return the rows of *phase*; those of ``decode`` include expert migrations."""
        if phase == "decode":
            return self.ledger.decode
        return [row for row in self.ledger.rows if row.phase == phase]

    def sum(self, *columns: str, phase: str = "decode") -> float:
        """Return the sum of *columns* over all rows of *phase*."""
        rows = self.rows(phase)
        return float(sum(sum(getattr(row, column) for row in rows) for column in columns))

    def by_layer(self, sample: Sample, *columns: str, phase: str = "decode") -> FloatArray:
        """Return the sums of *columns* over the rows of *phase*, [layers run]."""
        rows, number = self.rows(phase), _numbers(sample)
        at = np.array([number[row.layer] for row in rows], np.int64)
        sums = [np.bincount(at, [getattr(row, column) for row in rows], len(number)) for column in columns]
        return np.sum(sums, axis=0).astype(np.float64) if len(sums) > 1 else sums[0].astype(np.float64)

    def link_bytes(self, sample: Sample) -> FloatArray:
        """Return the bytes over each link in decode, [layers run, links]."""
        return np.array([self.ledger.layer_links[layer] for layer in sample.layers])

    @property
    def utilization(self) -> FloatArray:
        """Utilization of each link; estimated for all layers if they are sampled, [links]."""
        return link_utilization(self.ledger, self.wafer, self.ledger.sample)


class Parts(NamedTuple):
    """A figure by layer: numerator and denominator, both summed over layers, [layers run], and the bias to subtract.

    With *rare*, both are times of one run under two policies, which may differ in a few layers alone.
    """

    above: FloatArray
    below: FloatArray | None = None
    bias: float = 0.0
    rare: bool = False


@dataclass(frozen=True)
class Measure:
    """The value of a figure for the layers run, and its parts by layer; without these it has no interval."""

    value: Callable[[Totals], Any]
    parts: Callable[[Totals, Sample], Parts] | None = None


def total(*columns: str, phase: str = "decode") -> Measure:
    """Return the measure that sums *columns* of layers.parquet over the rows of *phase*."""
    return Measure(
        lambda totals: totals.sum(*columns, phase=phase),
        lambda totals, sample: Parts(totals.by_layer(sample, *columns, phase=phase)),
    )


def ratio(above: str | tuple[str, ...], below: str) -> Measure:
    """Return the measure that divides the sum of the columns *above* by that of the column *below*, both in decode."""
    columns = (above,) if isinstance(above, str) else above
    return Measure(
        lambda totals: totals.sum(*columns) / totals.sum(below),
        lambda totals, sample: Parts(totals.by_layer(sample, *columns), totals.by_layer(sample, below)),
    )


def _throughput_parts(totals: Totals, tokens: float, sample: Sample) -> Parts:
    time = totals.by_layer(sample, "time_s")
    return Parts(np.full(len(time), tokens / totals.layers_total), time)


def _is_whole(totals: Totals) -> bool:
    """Whether all layers were run."""
    return len(totals.ledger.layer_links) == totals.layers_total


THROUGHPUT = Measure(
    lambda totals: totals.tokens / totals.sum("time_s") if _is_whole(totals) else None,
    lambda totals, sample: _throughput_parts(totals, totals.tokens, sample),
)
PAPER_THROUGHPUT = Measure(
    lambda totals: PAPER_TOKENS * totals.batch / totals.sum("time_s"),
    lambda totals, sample: _throughput_parts(totals, PAPER_TOKENS * totals.batch, sample),
)


def _compute_parts(totals: Totals, sample: Sample) -> Parts:
    compute = [totals.ledger.layer_compute[layer].mean() for layer in sample.layers]
    return Parts(np.array(compute), totals.by_layer(sample, "time_s"))


COMPUTE_SHARE = Measure(
    lambda totals: float(totals.ledger.die_compute.mean() / totals.sum("time_s")),
    _compute_parts,
)


STEP_MEAN = Measure(
    lambda totals: float(_steps(totals.ledger.decode).mean()),
    lambda totals, sample: Parts(_step_times(totals, sample).mean(axis=0)),
)


def step_percentile(percent: int) -> Measure:
    """Return the measure of a percentile of the times of decode steps."""

    def parts(totals: Totals, sample: Sample) -> Parts:
        times = _step_times(totals, sample)
        ascending = times[np.argsort(times @ sample.weights, kind="stable")]
        at = percent / 100 * (len(times) - 1)
        low, high = ascending[int(at)], ascending[min(int(at) + 1, len(times) - 1)]
        return Parts(low + (at - int(at)) * (high - low))

    return Measure(lambda totals: float(np.percentile(_steps(totals.ledger.decode), percent)), parts)


def _steps(decode: list[LayerRow]) -> FloatArray:
    """Return the time of each decode step, [steps]."""
    times: FloatArray = np.bincount([row.step for row in decode], [row.time_s for row in decode])[1:].astype(np.float64)
    return times


def _step_times(totals: Totals, sample: Sample) -> FloatArray:
    """Return the time of each decode step in each layer, [steps, layers run]."""
    number, rows = _numbers(sample), totals.ledger.decode
    times = np.zeros((max(row.step for row in rows), len(number)))
    for row in rows:
        times[row.step - 1, number[row.layer]] += row.time_s
    return times


def _numbers(sample: Sample) -> dict[int, int]:
    """Return the index of each layer among the layers run."""
    return {layer: i for i, layer in enumerate(sample.layers)}


LINK_BYTES = Measure(
    lambda totals: float(totals.ledger.link_bytes.sum()),
    lambda totals, sample: Parts(totals.link_bytes(sample).sum(axis=1)),
)


def _mean_parts(totals: Totals, sample: Sample) -> Parts:
    used, time = totals.link_bytes(sample) / totals.wafer.link_bandwidth, totals.by_layer(sample, "time_s")
    return Parts(used.mean(axis=1) if used.size else np.zeros(len(time)), time)


MEAN_UTILIZATION = Measure(
    lambda totals: float(totals.utilization.mean()) if totals.wafer.num_links else 0.0, _mean_parts
)


def _largest_parts(totals: Totals, sample: Sample) -> Parts:
    used, time = totals.link_bytes(sample) / totals.wafer.link_bandwidth, totals.by_layer(sample, "time_s")
    if not used.size:
        return Parts(np.zeros(len(time)), time)
    excess = sample.bias(lambda weights: float((weights @ used).max() / (weights @ time)))
    return Parts(used[:, int((sample.weights @ used).argmax())], time, excess)


LARGEST_UTILIZATION = Measure(lambda totals: float(totals.utilization.max(initial=0.0)), _largest_parts)


def _gini_parts(totals: Totals, sample: Sample) -> Parts:
    carried = totals.link_bytes(sample)
    links = carried.shape[1]
    if links == 0:
        return Parts(np.zeros(len(carried)), carried.sum(axis=1))
    rank = np.argsort(np.argsort(sample.weights @ carried, kind="stable"), kind="stable")
    unevenness = sample.bias(lambda weights: gini(weights @ carried))
    return Parts(carried @ ((2 * rank + 1 - links) / links), carried.sum(axis=1), unevenness)


LINK_GINI = Measure(lambda totals: gini(totals.ledger.link_bytes), _gini_parts)


def busiest_link(totals: Totals) -> str | None:
    """Return the name of the busiest link; None if nothing crossed a link."""
    used = totals.utilization
    return totals.wafer.link_name(int(used.argmax())) if used.any() else None


def _speedup_parts(totals: Totals, sample: Sample) -> Parts:
    now = totals.by_layer(sample, "time_s")
    before = now if totals.baseline is None else totals.baseline.by_layer(sample, "time_s")
    return Parts(before, now, rare=True)


SPEEDUP = Measure(lambda totals: (totals.baseline or totals).sum("time_s") / totals.sum("time_s"), _speedup_parts)


def link_utilization(ledger: Ledger, wafer: Wafer, sample: Sample | None) -> FloatArray:
    """Return the utilization of each link, of the layers run or, with a *sample*, estimated for all layers, [links]."""
    if sample is None:
        return ledger.link_bytes / (wafer.link_bandwidth * sum(row.time_s for row in ledger.decode))
    number = _numbers(sample)
    times = np.zeros(len(number))
    for row in ledger.decode:
        times[number[row.layer]] += row.time_s
    carried = np.array([ledger.layer_links[layer] for layer in sample.layers])
    used: FloatArray = sample.weights @ (carried / wafer.link_bandwidth) / float(sample.weights @ times)
    return used


def gini(amounts: FloatArray) -> float:
    """Return the Gini coefficient of *amounts* [n]: 0 if all are equal, near 1 if one has everything."""
    if not amounts.sum():
        return 0.0
    ascending = np.sort(amounts)
    rank = np.arange(1, len(ascending) + 1)
    return float(
        2 * (rank * ascending).sum() / (len(ascending) * ascending.sum()) - (len(ascending) + 1) / len(ascending)
    )
