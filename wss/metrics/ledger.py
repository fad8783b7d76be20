"""The ledger of a run: a row for each layer run, and the bytes of each link in decode."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import numpy as np

from wss.hardware.gemm import GemmModel
from wss.hardware.wafer import Wafer
from wss.metrics.bounds import Bounds, least_all_to_all
from wss.metrics.sampling import Sample
from wss.metrics.traffic import check_all_to_all, check_conservation, moved_traffic, traffic
from wss.models import AnyPrecision, ModelShape
from wss.models.precision import peak_of
from wss.records import FloatArray, LayerRecord, LayerRow, LayerRun, LinkLoad, MoveRecord


class Ledger:
    """Rows of one policy's layer runs, and sums over its decode layer runs by link and by die.

    *has_all_to_all* is whether tokens are dispatched and combined; *fixed* is the least time of a layer around its
    experts, s; *extra* are the figures of some physics alone.
    """

    def __init__(
        self,
        policy: str,
        model: ModelShape,
        wafer: Wafer,
        precision: AnyPrecision,
        gemm: GemmModel,
        *,
        has_all_to_all: bool = False,
        fixed: float = 0.0,
        extra: Set[str] = frozenset(),
    ) -> None:
        self.policy, self.has_all_to_all, self.extra = policy, has_all_to_all, extra
        self.rows: list[LayerRow] = []
        self.link_data: FloatArray = np.zeros(wafer.num_links)
        self.link_request: FloatArray = np.zeros(wafer.num_links)
        self.link_activation: FloatArray = np.zeros(wafer.num_links)
        self.link_busy: FloatArray = np.zeros(wafer.num_links)
        self.die_compute: FloatArray = np.zeros(wafer.num_dies)
        self.layer_links: dict[int, FloatArray] = {}  # bytes over each link in decode, by layer
        self.layer_compute: dict[int, FloatArray] = {}  # seconds that each die computed in decode, by layer
        self._wafer, self._expert_bytes = wafer, model.expert_bytes(precision)
        self.flop_per_token, self.peak = model.flop_per_token, peak_of(precision)  # of one expert; name of the FLOP/s
        self._bounds, self._fixed = Bounds(model, wafer, precision, gemm), fixed
        self.seed = 0  # seed of the run
        self.sample: Sample | None = None  # the sampled layers; None if all layers are run
        self.placement_correlation: float | None = None  # of the loads behind the placement and those served
        self.excess_bytes = 0.0  # bytes beyond the usable HBM, where these are allowed
        self.rebalances: int | None = None  # number of rebalances; None if the policy does not rebalance

    @property
    def decode(self) -> list[LayerRow]:
        """The rows of decode: layer runs, and expert migrations between or beside them."""
        return [row for row in self.rows if row.phase != "prefill"]

    @property
    def link_bytes(self) -> FloatArray:
        """Bytes over each link in decode: weights, requests and activations, [links]."""
        return self.link_data + self.link_request + self.link_activation

    def layer_run(self, record: LayerRecord) -> None:
        """Check that a layer run conserved all bytes and kept its bound, and append its row.

        Raises AssertionError if not: a bug in wss, not a user error.
        """
        plan, run, all_to_all = record.plan, record.run, record.all_to_all
        check_conservation(plan, run, self._wafer, self._expert_bytes)
        bound = self._fixed + self._bounds.of(record.counts, record.where)
        ends = run.die_end + record.overhead
        time, mean = record.planned + float(ends.max()), record.planned + float(ends.mean())
        links, sent = _carried(run), (0.0, 0.0, 0.0)
        if all_to_all is not None:
            check_all_to_all(plan, all_to_all, self._wafer)
            bound += least_all_to_all(all_to_all, self._wafer)
            around = all_to_all.dispatch + all_to_all.combine
            time, mean = time + around, mean + around
            links = replace(links, activation=all_to_all.link_bytes, busy=links.busy + all_to_all.link_busy)
            sent = all_to_all.dispatch, all_to_all.combine, all_to_all.activation_bytes
        if time < bound * (1 - 1e-12):
            where = f"step {record.step}, layer {record.layer}"
            raise AssertionError(f"{where}: {time} s beats the lower bound of {bound} s")
        compute = np.bincount(plan.die, record.compute, self._wafer.num_dies).astype(np.float64)
        self._add(
            record,
            links,
            compute,
            phase="decode" if record.step > 0 else "prefill",
            tokens=int(record.counts.sum()),
            active_experts=int((record.counts > 0).sum()),
            max_expert_tokens=int(record.counts.max()),
            tasks=len(plan.expert),
            time_s=time,
            lower_bound_s=bound,
            mean_die_time_s=mean,
            compute_time_s=float(compute.max()),
            **traffic(plan, run, self._wafer, self._expert_bytes),
            dispatch_s=sent[0],
            combine_s=sent[1],
            activation_bytes=sent[2],
            planning_s=record.planned,
            overhead_s=float(ends.max()) - run.time,
        )

    def migration(self, record: MoveRecord) -> None:
        """Append a row of migrations; check that those that were run conserved all bytes.

        All dies count as busy while they are run, as nothing else runs. The bound of a layer run excludes migrations.
        """
        if record.run is None:
            seconds, (moved, links) = 0.0, moved_traffic(record, self._wafer)
        else:
            check_conservation(record.plan, record.run, self._wafer, self._expert_bytes)
            seconds, links = record.run.time, _carried(record.run)
            moved = traffic(record.plan, record.run, self._wafer, self._expert_bytes)
        compute, tasks = np.zeros(self._wafer.num_dies), moved["remote_reads"]
        self._add(
            record, links, compute, phase="rebalance", tasks=tasks, time_s=seconds, mean_die_time_s=seconds, **moved
        )

    def _add(self, record: LayerRecord | MoveRecord, links: LinkLoad, compute: FloatArray, **fields: Any) -> None:
        """Append the row of *record* with *fields*; rest as in `row`."""
        row = LayerRow(
            policy=self.policy,
            step=record.step,
            layer=record.layer,
            request_bytes=float(links.request.sum()),
            max_link_bytes=float(links.total.max(initial=0.0)),
            evictions=record.evictions,
            hbm_used_bytes=record.hbm_used,
            **fields,
        )
        self.row(row, links, compute)

    def row(self, row: LayerRow, links: LinkLoad, compute: FloatArray) -> None:
        """Append a row, and in decode add what links carried, and the compute time of dies, [dies]."""
        self.rows.append(row)
        if row.phase != "prefill":
            self.link_data += links.data
            self.link_request += links.request
            self.link_activation += links.activation
            self.link_busy += links.busy
            self.die_compute += compute
            for by_layer, own in ((self.layer_links, links.total), (self.layer_compute, compute)):
                by_layer[row.layer] = by_layer.get(row.layer, 0.0) + own


def _carried(run: LayerRun) -> LinkLoad:
    """Return what links carried in *run*."""
    return LinkLoad(data=run.traffic.link_data, request=run.traffic.link_request, busy=run.traffic.link_busy)
