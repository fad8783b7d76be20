"""The closing sentences of a run's table: true for ties, oracles, intervals, and each thing that may limit a policy."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from wss.metrics.figures import Value
from wss.report.verdict import fastest, marks, verdict

MESH, NODES = (), ("switch(0)", "nic(0,0)", "fabric")


@dataclass
class Run:
    """A policy's result with the figures that the verdict reads."""

    time: float
    low: float | None = None
    high: float | None = None
    imbalance: float = 1.0
    bound: float = 1.0
    remote: float = 0.0
    link: str = "(0,0)->(1,0)"
    switches: tuple[str, ...] = MESH
    more: dict[str, float] = field(default_factory=dict)

    @property
    def wafer(self):
        return SimpleNamespace(switches=self.switches)

    @property
    def figures(self):
        interval = None if self.low is None else (self.low, self.high)
        return {
            "decode_time_s": Value(self.time),
            "step_time_mean_s": Value(self.time),
            "speedup": Value(1 / self.time, layers=interval),
            "baseline": Value("base"),
            "imbalance": Value(self.imbalance),
            "bound_ratio": Value(self.bound),
            "remote_read_bytes": Value(self.remote),
            "local_read_bytes": Value(1 - self.remote),
            "max_link_utilization": Value(0.64),
            "busiest_link": Value(self.link),
            **{name: Value(value) for name, value in self.more.items()},
        }


BASE = Run(1.0, bound=4.0, remote=0.9, imbalance=1.16)
EP = Run(0.5, bound=1.3, imbalance=1.28)


def test_who_wins_by_how_much_and_what_limits_the_rest():
    assert verdict({"base": BASE, "ep": EP, "ours": Run(0.4)}) == (
        "ours is fastest: 2.50x base, 1.25x ep. base waits for remote reads over D2D links (busiest link 64%); "
        "ep waits for its slowest die (1.28x the average)."
    )


def test_policies_within_one_percent_share_the_first_place():
    runs = {"base": BASE, "near": Run(0.4039), "ours": Run(0.4), "far": Run(0.4041, imbalance=1.2, bound=1.2)}
    assert fastest({name: run.time for name, run in runs.items()}, ()) == ["ours", "near"]
    assert verdict(runs).startswith(
        "ours and near are fastest, within 1% of each other: ours is 2.50x base, 1.01x far. "
    )
    both = verdict({"base": Run(1.0, bound=1.2, imbalance=1.2), "pred": Run(1.005, bound=1.2, imbalance=1.2)})
    assert (
        both
        == "base and pred are equally fast, within 1%. base and pred wait for their slowest die (1.20x the average)."
    )


def test_an_oracle_neither_wins_nor_is_explained():
    runs = {"base": BASE, "ep": EP, "belady": Run(0.25)}
    said = verdict(runs, {"belady"})
    assert said.startswith("ep is fastest: 2.00x base. The oracle belady is 2.00x ep. base waits for remote reads")
    assert "The oracle" not in verdict(runs | {"belady": Run(0.8)}, {"belady"})
    assert marks({name: run.time for name, run in runs.items()}, {"belady"}) == ["ep"]


def test_without_two_policies_that_are_no_oracles_none_is_marked():
    runs = {"base": BASE, "belady": Run(0.5)}
    assert marks({"base": 1.0, "belady": 0.5}, {"belady"}) == []
    assert verdict(runs, {"belady"}).startswith(
        "base is the only policy that is not an oracle. The oracle belady is 2.00x"
    )
    assert verdict({"a": Run(1.0), "b": Run(0.5)}, {"a", "b"}).startswith(
        "All policies are oracles. b is fastest: 2.00x a."
    )


def test_one_policy_is_described_alone():
    assert verdict({"ep": EP}) == "ep takes 500 ms a decode step. It waits for its slowest die (1.28x the average)."
    assert verdict({"belady": EP}, {"belady"}).startswith("belady, an oracle, takes 500 ms a decode step. It waits")


@pytest.mark.parametrize(("high", "overlaps"), [(2.2, True), (1.7, False)])
def test_overlapping_intervals_are_said(high, overlaps):
    runs = {"base": BASE, "ep": Run(0.55, low=1.5, high=high, imbalance=1.3, bound=1.3), "ours": Run(0.5, 1.8, 2.3)}
    said = "The 95% intervals of ours and ep overlap, so their order is uncertain."
    assert (said in verdict(runs)) is overlaps


@pytest.mark.parametrize("low", [0.9, 1.1])
def test_the_baseline_has_no_width(low):
    """It is 1 by definition: an interval that includes 1 may hide a loss."""
    said = verdict({"base": BASE, "ours": Run(0.8, low, 1.5)})
    assert ("overlap" in said) is (low < 1)


LIMITS = {
    "slowest die": (Run(1, imbalance=1.3, bound=1.4), "waits for its slowest die (1.30x the average)"),
    "remote": (Run(1, imbalance=1.1, bound=2.0, remote=0.5),
               "waits for remote reads over D2D links (busiest link 64%)"),
    "local": (Run(1, imbalance=1.1, bound=2.0), "waits for reads from its own HBM (2.00x its lower bound)"),
    "nothing": (Run(1, imbalance=1.02, bound=1.03), "is 3% above its lower bound, set by HBM and compute"),
    "exchange": (Run(1, imbalance=1.1, bound=1.2, more={"exchange_share": 0.3}),
                 "spends 30% of its time in dispatch and combine"),
    "planning": (Run(1, imbalance=1.1, bound=1.5, more={"planning_time_s": 0.3}), "waits for plans 30% of its time"),
    "migration": (Run(1, imbalance=1.1, bound=1.5, more={"rebalance_time_s": 0.3}),
                  "waits for migrations 30% of its time"),
    "overhead": (Run(1, imbalance=1.1, bound=2.0, more={"overhead_time_s": 0.4}),
                 "spends 40% of its time in small kernels around its experts"),
    "nodes": (Run(1, bound=2.0, remote=0.5, link="(0,0)->nic(0,0)", switches=NODES),
              "waits for remote reads over InfiniBand (busiest link 64%)"),
    "a node": (Run(1, bound=2.0, remote=0.5, link="(0,0)->switch(0)", switches=NODES),
               "waits for remote reads over NVLink (busiest link 64%)"),
}  # fmt: skip


@pytest.mark.parametrize("limit", LIMITS)
def test_what_costs_most_is_what_limits(limit):
    run, said = LIMITS[limit]
    assert verdict({"base": run, "ours": Run(0.5)}) == f"ours is fastest: 2.00x base. base {said}."
