"""The ledger of a run: a row for each layer run, and the bytes of each link in decode."""

from __future__ import annotations

from typing import Any

import numpy as np

from wss.hardware.gemm import GemmModel
from wss.hardware.wafer import Wafer
from wss.metrics.bounds import Bounds, WeightLocations, least_exchange
from wss.metrics.sampling import Sample
from wss.metrics.traffic import TrafficTotals, check_conservation, check_exchange, traffic
from wss.models import AnyPrecision, ModelShape
from wss.records import Exchanged, FloatArray, IntArray, LayerRow, LayerRun, Plan


class Ledger:
    """Rows of one policy's layer runs, and sums over its decode layer runs by link and by die.

    *exchanges* is whether layer runs dispatch and combine token activations.
    """

    def __init__(
        self,
        policy: str,
        model: ModelShape,
        wafer: Wafer,
        precision: AnyPrecision,
        gemm: GemmModel,
        *,
        exchanges: bool = False,
    ) -> None:
        self.policy, self.exchanges = policy, exchanges
        self.rows: list[LayerRow] = []
        self.link_data: FloatArray = np.zeros(wafer.num_links)
        self.link_request: FloatArray = np.zeros(wafer.num_links)
        self.link_activation: FloatArray = np.zeros(wafer.num_links)
        self.link_busy: FloatArray = np.zeros(wafer.num_links)
        self.die_compute: FloatArray = np.zeros(wafer.num_dies)
        self.layer_links: dict[int, FloatArray] = {}  # bytes over each link in decode, by layer
        self.layer_compute: dict[int, FloatArray] = {}  # seconds that each die computed in decode, by layer
        self._wafer, self._expert_bytes = wafer, model.expert_bytes(precision)
        self._bounds = Bounds(model, wafer, precision, gemm)
        self.seed = 0  # seed of the run
        self.sample: Sample | None = None  # the sampled layers; None if all layers are run
        self.placement_correlation: float | None = None  # of the loads behind the placement and those served
        self.excess_bytes: float | None = None  # bytes beyond the usable HBM; None if these are not allowed
        self.rebalances: int | None = None  # number of rebalances; None if the policy does not rebalance

    @property
    def decode(self) -> list[LayerRow]:
        """The rows of decode: layer runs, and expert migrations between or beside them."""
        return [row for row in self.rows if row.phase != "prefill"]

    @property
    def link_bytes(self) -> FloatArray:
        """Bytes over each link in decode: weights, requests and activations, [links]."""
        return self.link_data + self.link_request + self.link_activation

    def enter(
        self,
        step: int,
        layer: int,
        counts: IntArray,
        plan: Plan,
        compute: FloatArray,
        run: LayerRun,
        *,
        where: WeightLocations,
        exchanged: Exchanged | None = None,
        planned: float = 0.0,
        evictions: int,
        hbm_used: float,
    ) -> None:
        """Check that the layer run conserved all bytes and kept its bound, and append its row; *layer* is absolute.

        *where* is the locations of its experts' weights when it began. *exchanged* is its all-to-all, and *planned* the
        seconds it waited for its plan. *hbm_used* is the bytes in the fullest HBM: experts, copies and activation
        buffers.
        """
        check_conservation(plan, run, self._wafer, self._expert_bytes)
        bound = self._bounds.of(counts, where)
        time, mean = planned + run.time, planned + float(run.die_end.mean())
        carried, activation, busy = run.carried, np.zeros_like(self.link_data), run.carried.link_busy
        sent: dict[str, Any] = {}
        if exchanged is not None:
            check_exchange(plan, exchanged, self._wafer)
            bound += least_exchange(exchanged, self._wafer)
            around = exchanged.dispatch + exchanged.combine
            time, mean = time + around, mean + around
            activation, busy = exchanged.link_bytes, busy + exchanged.link_busy
            sent = {"dispatch_s": exchanged.dispatch, "combine_s": exchanged.combine}
            sent["activation_bytes"] = exchanged.activation_bytes
        if time < bound * (1 - 1e-12):
            raise AssertionError(f"step {step}, layer {layer}: {time} s beats the lower bound of {bound} s")
        die_compute = np.bincount(plan.die, compute, self._wafer.num_dies).astype(np.float64)
        row = LayerRow(
            policy=self.policy,
            phase="decode" if step > 0 else "prefill",
            step=step,
            layer=layer,
            tokens=int(counts.sum()),
            active_experts=int((counts > 0).sum()),
            max_expert_tokens=int(counts.max()),
            tasks=len(plan.expert),
            time_s=time,
            lower_bound_s=bound,
            mean_die_time_s=mean,
            compute_time_s=float(die_compute.max()),
            request_bytes=float(carried.link_request.sum()),
            max_link_bytes=float((carried.link_data + carried.link_request + activation).max(initial=0.0)),
            evictions=evictions,
            hbm_used_bytes=hbm_used,
            **vars(traffic(plan, run, self._wafer, self._expert_bytes)),
            planning_s=planned,
            **sent,
        )
        self.add(row, carried.link_data, carried.link_request, busy, die_compute, activation)

    def enter_moves(self, step: int, layer: int, plan: Plan, run: LayerRun, *, evictions: int, hbm_used: float) -> None:
        """Check and append the migrations of *layer* that *step* waited for; all are reads that are kept."""
        check_conservation(plan, run, self._wafer, self._expert_bytes)
        self.add_moves(
            step,
            layer,
            traffic(plan, run, self._wafer, self._expert_bytes),
            run.carried.link_data,
            run.carried.link_request,
            run.carried.link_busy,
            seconds=run.time,
            evictions=evictions,
            hbm_used=hbm_used,
        )

    def add_moves(
        self,
        step: int,
        layer: int,
        moved: TrafficTotals,
        link_data: FloatArray,
        link_request: FloatArray,
        link_busy: FloatArray,
        *,
        seconds: float = 0.0,
        evictions: int = 0,
        hbm_used: float,
    ) -> None:
        """Append a row of migrations of *layer*; *moved* is their traffic, and the arrays are per link, [links].

        All dies count as busy for the whole time, as nothing else runs. The bound of a layer run excludes migrations.
        """
        row = LayerRow(
            policy=self.policy,
            phase="rebalance",
            step=step,
            layer=layer,
            tokens=0,
            active_experts=0,
            max_expert_tokens=0,
            tasks=moved.remote_reads,
            time_s=seconds,
            lower_bound_s=0.0,
            mean_die_time_s=seconds,
            compute_time_s=0.0,
            request_bytes=float(link_request.sum()),
            max_link_bytes=float((link_data + link_request).max(initial=0.0)),
            evictions=evictions,
            hbm_used_bytes=hbm_used,
            **vars(moved),
        )
        self.add(row, link_data, link_request, link_busy, np.zeros(self._wafer.num_dies))

    def add(
        self,
        row: LayerRow,
        link_data: FloatArray,
        link_request: FloatArray,
        link_busy: FloatArray,
        compute: FloatArray,
        link_activation: FloatArray | float = 0.0,
    ) -> None:
        """Append a row, and in decode add bytes and busy time of links, [links], and compute time of dies, [dies]."""
        self.rows.append(row)
        if row.phase != "prefill":
            self.link_data += link_data
            self.link_request += link_request
            self.link_activation += link_activation
            self.link_busy += link_busy
            self.die_compute += compute
            of_layer = self.layer_links.setdefault(row.layer, np.zeros_like(link_data))
            of_layer += link_data + link_request + link_activation
            of_layer = self.layer_compute.setdefault(row.layer, np.zeros_like(compute))
            of_layer += compute
