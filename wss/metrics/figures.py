"""The figures of a run: one row a figure, which summary.json, the tables, sweeps, `wss check` and estimates read.

Sums and ratios of sums run over decode layer runs; prefill is separate. A new figure is a row of `FIGURES`, and a line
of docs/reference/results.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple

from wss.hardware.specs import SwitchedSpec
from wss.metrics import energy
from wss.metrics.measures import (
    COMPUTE_SHARE,
    LARGEST_UTILIZATION,
    LINK_BYTES,
    LINK_GINI,
    MEAN_UTILIZATION,
    PAPER_THROUGHPUT,
    SPEEDUP,
    STEP_MEAN,
    THROUGHPUT,
    Measure,
    Totals,
    busiest_link,
    ratio,
    step_percentile,
    total,
)

Interval = tuple[float, float]
Unit = Literal["s", "B", "B hops", "count", "J", "tokens/s", "x", "share", "number", "text", "flag", "list"]
SIGNS: dict[Unit, int] = {"s": -1, "B": -1, "B hops": -1, "J": -1, "tokens/s": 1}  # whether more is better, or less
FORMATS: dict[Unit, str] = {"s": "{:.4g} s", "J": "{:.4g} J", "x": "{:.3g}x", "count": "{:,}", "share": "{:.1%}"}
WIDE = 9  # rank of the columns that are shown with --wide alone
NO_NUMBERS = ("text", "flag", "list")  # units of what is not compared
SUFFIXES = ("low", "high", "seeds_low", "seeds_high")  # of the columns of a sweep that hold the ends of intervals


class Value(NamedTuple):
    """A figure, and its 95% intervals over draws of *layers* and over *seeds*, if any."""

    value: Any
    layers: Interval | None = None
    seeds: Interval | None = None

    @property
    def low(self) -> float | None:
        """Low end of the interval: that over seeds, which includes that over layers, if there are several seeds."""
        interval = self.seeds or self.layers
        return None if interval is None else interval[0]

    @property
    def high(self) -> float | None:
        """High end of the same interval."""
        interval = self.seeds or self.layers
        return None if interval is None else interval[1]


class Bar(NamedTuple):
    """A bar chart of a figure: name of its file, label of its scale, and whether this is logarithmic."""

    file: str
    label: str
    logarithmic: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure of a run.

    Attributes
    ----------
    name, unit, meaning
        Its name in summary.json, its unit, and its meaning in one line.
    measure
        What is summed over layers, and what divides it; None if the experiment gives it.
    scope
        ``layer run`` and ``step``: of the layer runs, or of the steps, of decode. ``run``: describes the run.
    only
        Whether the run has the figure.
    run, sweep
        Heading of its column in the table of a run, and in those of a sweep; empty if it has none.
    rank
        Columns with the highest ranks are left out until a table fits the terminal; those of `WIDE` need ``--wide``.
    note
        What the column shows, in the legend of a run's table.
    form
        Its format in the tables of a sweep, if it is not that of its unit.
    bar
        Its bar chart, if it has one.
    sign
        1 if more is better, -1 if less is better, 0 if neither; None: that of its unit.
    """

    name: str
    unit: Unit
    meaning: str
    measure: Measure | None = None
    _: KW_ONLY
    scope: Literal["layer run", "step", "run"] = "layer run"
    only: Callable[[Totals], bool] = lambda totals: True
    run: str = ""
    sweep: str = ""
    rank: int = 3
    note: str = ""
    form: str = ""
    bar: Bar | None = None
    sign: int | None = None

    @property
    def better(self) -> int:
        """1 if more is better, -1 if less is better, 0 if neither."""
        return SIGNS.get(self.unit, 0) if self.sign is None else self.sign


def _has_all_to_all(totals: Totals) -> bool:
    return totals.ledger.has_all_to_all


def _migrates(totals: Totals) -> bool:
    return totals.ledger.rebalances is not None


def _waits(totals: Totals) -> bool:
    return bool(totals.sum("planning_s").any())


def _has_cards(totals: Totals) -> bool:
    return isinstance(totals.wafer.spec, SwitchedSpec) and totals.wafer.spec.nodes > 1


def _has_overhead(totals: Totals) -> bool:
    return bool(totals.sum("overhead_s").any())


def _fact(name: str, unit: Unit, meaning: str, value: Callable[[Totals], Any] | None = None) -> Figure:
    """Return a row that describes the run."""
    measure = None if value is None else Measure(value=value)
    return Figure(name=name, unit=unit, meaning=meaning, measure=measure, scope="run")


# fmt: off
FIGURES: tuple[Figure, ...] = (
    _fact("policy", "text", "name of the policy"),
    _fact("model", "text", "name of the model; (modified) marks a preset with changes"),
    _fact("wafer", "text", "name of the wafer; (modified) marks a preset with changes"),
    _fact("physics", "text", "rules of the simulation: wss, or paper for those of the paper's simulator"),
    _fact("network", "text", "kind of the network"),
    _fact("gemm", "text", "GEMM model"),
    _fact("precision", "text", "precision of weights and activations"),
    _fact("synthetic", "flag", "whether the routing is synthetic"),
    _fact("batch", "count", "requests that decode together"),
    _fact("unique_requests", "count", "how many of them are different"),
    _fact("layers_run", "count", "MoE layers that were run"),
    _fact("layers_total", "count", "MoE layers of the model"),
    _fact("layers_sampled", "list", "absolute indices of the layers run, if layers are sampled"),
    _fact("steps_run", "count", "decode steps that were run"),
    _fact("seeds_run", "count", "number of seeds, if several"),
    _fact("baseline", "text", "the policy that `speedup` compares with"),
    _fact("kernels", "count", "decode layer runs, `layers_run` x `steps_run`; an old name: no GPU kernels are meant",
          lambda totals: sum(row.phase == "decode" for row in totals.ledger.rows)),
    Figure("decode_time_s", "s", "sum of the times of decode layer runs, and of migrations that steps wait for",
           total("time_s"), sweep="decode time", rank=1),
    Figure("prefill_time_s", "s", "sum of the times of prefill layer runs", total("time_s", phase="prefill")),
    Figure("prefill_hops", "count", "hops of prefill, not part of `hops` (the paper's simulator counts both together)",
           total("hops", phase="prefill"), sign=-1),
    Figure("step_time_mean_s", "s", "mean time of a decode step", STEP_MEAN, scope="step", run="step mean",
           rank=1, note="step: all MoE layers of one decode step"),
    Figure("step_time_p50_s", "s", "median of the times of decode steps", step_percentile(50), scope="step"),
    Figure("step_time_p95_s", "s", "95th percentile of the times of decode steps", step_percentile(95), scope="step"),
    Figure("step_time_p99_s", "s", "99th percentile of the times of decode steps", step_percentile(99), scope="step",
           run="p99", rank=5),
    Figure("throughput_tokens_per_s", "tokens/s", "decode tokens over `decode_time_s`; null where layers are listed",
           THROUGHPUT, run="tokens/s", rank=4, note="tokens/s: over MoE time",
           bar=Bar("throughput", "tokens/s of the MoE layers")),
    Figure("speedup", "x", "`decode_time_s` of the policy named `baseline` over this policy's", SPEEDUP,
           run="speedup", sweep="speedup", rank=1, note="speedup: over {baseline}",
           bar=Bar("speedup", "speedup over the baseline (x)"), sign=1),
    Figure("remote_reads", "count", "reads over D2D links", total("remote_reads")),
    Figure("hops", "count", "hops of these reads", total("hops"),
           run="link traversals", sweep="link traversals", rank=WIDE,
           note="link traversals: links crossed, summed over remote reads",
           bar=Bar("hops", "link traversals of remote reads", logarithmic=True), sign=-1),
    Figure("byte_hops", "B hops", "bytes of these reads times their hops", total("byte_hops")),
    Figure("link_bytes", "B", "bytes over all links, summed over links: weights, read requests and activations",
           LINK_BYTES, run="link bytes", rank=WIDE, note="link bytes: summed over links"),
    Figure("request_bytes", "B", "bytes of read requests over links, part of `link_bytes`", total("request_bytes")),
    Figure("max_link_utilization", "share", "bytes / (bandwidth x `decode_time_s`) of the busiest link",
           LARGEST_UTILIZATION, run="busiest link", sweep="busiest link", rank=2,
           note="busiest link: share of its bandwidth used"),
    Figure("mean_link_utilization", "share", "bytes / (bandwidth x `decode_time_s`), mean of all links",
           MEAN_UTILIZATION),
    Figure("link_gini", "number", "Gini coefficient of the bytes per link: 0 even, near 1 all on one link", LINK_GINI),
    Figure("busiest_link", "text", "the ends of the busiest link, (x,y)->(x,y); null if nothing crossed a link",
           Measure(value=busiest_link)),
    Figure("local_read_bytes", "B", "weights that dies read from their own HBM or LLC", total("local_read_bytes"),
           run="local reads", rank=WIDE, note="local reads: weights read from the die's own HBM or LLC"),
    Figure("remote_read_bytes", "B", "weights that dies read from another die's HBM or LLC",
           total("remote_read_bytes"), run="remote reads", note="remote reads: weights read from other dies"),
    Figure("local_write_bytes", "B", "weights written to HBM: copies, and experts moved by rebalancing",
           total("local_write_bytes"), run="HBM writes", rank=WIDE, note="HBM writes: copies and migrated experts"),
    Figure("compute_share", "share", "share of the decode time in which dies compute, mean of all dies", COMPUTE_SHARE),
    Figure("imbalance", "x", "`decode_time_s` over the sum of the mean times at which dies finish their layer runs",
           ratio("time_s", "mean_die_time_s"), run="slowest die", rank=2,
           note="slowest die: its time / the average die's", sign=-1),
    Figure("llc_hits", "count", "reads served by an LLC", total("llc_hits")),
    Figure("llc_hit_bytes", "B", "bytes of these reads, part of the local and remote reads", total("llc_hit_bytes")),
    Figure("prefetched_bytes", "B", "bytes read from HBM into LLCs for the next layer, used or not; not part of the "
           "local reads", total("prefetched_bytes")),
    Figure("evictions", "count", "copies evicted", total("evictions")),
    Figure("hbm_peak_bytes", "B", "largest use of any die's HBM, prefill included: experts, copies, activation buffers",
           Measure(value=lambda totals: max(row.hbm_used_bytes for row in totals.ledger.rows))),
    Figure("placement_load_correlation", "number", "Spearman's correlation of the placement's loads with decode's; "
           "see below", Measure(value=lambda totals: totals.ledger.placement_correlation)),
    Figure("lower_bound_s", "s", "sum of the lower bounds of layer runs ([lower bound](../model/bounds.md))",
           total("lower_bound_s")),
    Figure("bound_ratio", "x", "`decode_time_s` over `lower_bound_s`, at least 1", ratio("time_s", "lower_bound_s"),
           run="x bound", sweep="x bound", rank=4, form="{:.2f}x", sign=-1,
           note="x bound: time / lower bound for its expert placement (not for comparing policies)",
           bar=Bar("bound", "decode time over the lower bound (x)")),
    Figure("dispatch_time_s", "s", "with `dispatch`: sum of the times before the experts", total("dispatch_s"),
           only=_has_all_to_all),
    Figure("combine_time_s", "s", "with `dispatch`: sum of the times after the experts", total("combine_s"),
           only=_has_all_to_all),
    Figure("exchange_share", "share", "with `dispatch`: sum of these times over `decode_time_s`",
           ratio(("dispatch_s", "combine_s"), "time_s"), only=_has_all_to_all, run="exchange", rank=2,
           note="exchange: share of time in dispatch and combine"),
    Figure("activation_bytes", "B", "with `dispatch`: bytes of tokens that left a die; see below",
           total("activation_bytes"), only=_has_all_to_all),
    Figure("planning_time_s", "s", "if planning is charged: time that layer runs waited for plans; see below",
           total("planning_s"), only=_waits, run="planning", note="planning: time that layers wait for plans"),
    Figure("overhead_time_s", "s", "with `layer_overhead`: time of a layer's small kernels around its experts",
           total("overhead_s"), only=_has_overhead),
    Figure("overhead_share", "share", "with `layer_overhead`: `overhead_time_s` over `decode_time_s`",
           ratio("overhead_s", "time_s"), only=_has_overhead, run="overhead", rank=2,
           note="overhead: share of time in small kernels around the experts"),
    Figure("rebalances", "count", "if the policy rebalances: how often its placement was computed again",
           Measure(value=lambda totals: totals.ledger.rebalances), only=_migrates),
    Figure("moved_bytes", "B", "if the policy rebalances: bytes of migrated experts, part of the other bytes and hops",
           total("local_write_bytes", phase="rebalance"), only=_migrates, run="moved", rank=6,
           note="moved: bytes of migrated experts"),
    Figure("rebalance_time_s", "s", "if the policy rebalances: time that steps waited for migrations; see below",
           total("time_s", phase="rebalance"), only=_migrates, run="migration",
           note="migration: time that steps wait for it"),
    Figure("throughput_paper_tokens_per_s", "tokens/s", "`physics: paper`: `batch` x 128 / `decode_time_s`",
           PAPER_THROUGHPUT, only=lambda totals: "throughput_paper_tokens_per_s" in totals.ledger.extra,
           bar=Bar("paper_throughput", "tokens/s, as the paper counts")),
    Figure("hbm_excess_bytes", "B", "under `physics: paper`: bytes by which weights and copies exceed the usable HBM",
           Measure(value=lambda totals: max(0.0, totals.ledger.excess_bytes)),
           only=lambda totals: "hbm_excess_bytes" in totals.ledger.extra),
    Figure("energy_j", "J", "estimated energy of decode, the sum of the kinds below ([energy](../model/energy.md))",
           energy.TOTAL),
    Figure("energy_compute_j", "J", "of it, FLOP of experts", energy.COMPUTE),
    Figure("energy_hbm_j", "J", "of it, bytes out of and into HBMs: reads that no LLC served, prefetches and writes",
           energy.HBM),
    Figure("energy_llc_j", "J", "of it, bytes that LLCs served", energy.LLC),
    Figure("energy_links_j", "J", "of it, bytes over D2D links, or over NVLink ports, each link counted",
           energy.LINKS),
    Figure("energy_network_j", "J", "of it, with several nodes of GPUs: bytes through network cards", energy.NETWORK,
           only=_has_cards),
    Figure("energy_per_step_j", "J", "`energy_j` over decode steps", energy.STEP, run="J/step", rank=WIDE,
           note="J/step: estimated energy of what is counted"),
    Figure("energy_per_token_j", "J", "`energy_j` over decode tokens; null where layers are listed", energy.TOKEN,
           run="J/token", rank=WIDE, note="J/token: the same, a decode token"),
)
# fmt: on


def plain(values: Mapping[str, Value]) -> dict[str, Any]:
    """Return figures as a row of summary.json; ``ci95`` and ``ci95_seeds`` have the intervals by name."""
    row = {name: each.value for name, each in values.items()}
    layers = {name: list(each.layers) for name, each in values.items() if each.layers}
    seeds = {name: list(each.seeds) for name, each in values.items() if each.seeds}
    return row | ({"ci95": layers} if layers else {}) | ({"ci95_seeds": seeds} if seeds else {})


def by_name() -> dict[str, Figure]:
    """Return the figures by name."""
    return {figure.name: figure for figure in FIGURES}


def facts() -> list[str]:
    """Return the names of what describes the run itself."""
    return [figure.name for figure in FIGURES if figure.scope == "run"]


def numbers() -> list[str]:
    """Return the names of the figures that are numbers."""
    return [figure.name for figure in FIGURES if figure.unit not in NO_NUMBERS]


def checkable() -> list[str]:
    """Return the names that `wss check` compares: figures that are numbers, and the ends of their intervals."""
    names = numbers()
    return [*names, *(f"{name}_{suffix}" for name in names for suffix in SUFFIXES)]
