"""The values of an experiment that executors read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wss.engine.specs import AllToAllSpec, NetworkSpec
from wss.hardware.gemm import GEMMS, GemmModel
from wss.hardware.layer_overhead import OVERHEADS, LayerOverhead
from wss.hardware.specs import DieSpec, SystemSpec
from wss.models import AnyPrecision, ModelShape
from wss.models.precision import Peak, peak_of
from wss.traces.source import TraceFile
from wss.traces.synthetic.spec import SynthSpec


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is served, and by which rules; every field as in `wss.config.Experiment`.

    Attributes
    ----------
    layers_run, layer_share
        Absolute indices of the MoE layers to run, and their share of all; below 1 only if they are a sample.
    all_to_all
        The dispatch with all its bytes set; None if activations are not modelled.
    """

    model: ModelShape
    precision: AnyPrecision
    layers_run: tuple[int, ...]
    layer_share: float
    wafer: SystemSpec
    trace: SynthSpec | TraceFile
    batch: int
    steps: int | Literal["all"]
    seed: int
    network: NetworkSpec
    all_to_all: AllToAllSpec | None
    window: int
    engine: str
    gemm: str
    layer_overhead: str
    planning: float | Literal["free", "charged"]

    @property
    def layer_indices(self) -> tuple[int, ...]:
        """The indices, among all MoE layers, of the layers that are run."""
        at = {layer: i for i, layer in enumerate(self.model.moe_layers)}
        return tuple(at[layer] for layer in self.layers_run)

    @property
    def expert_bytes(self) -> float:
        """Bytes of one expert."""
        return self.model.expert_bytes(self.precision)

    @property
    def largest_buffers(self) -> float:
        """Bytes of the activation buffers of a batch whose tokens are all on one die."""
        return self.batch * self.model.top_k * self.model.buffer_bytes(self.precision)

    @property
    def gemm_model(self) -> GemmModel:
        """The model of a die's computing time."""
        return GEMMS[self.gemm]

    @property
    def overhead(self) -> LayerOverhead | None:
        """What a layer does around its experts; None if it is not modelled."""
        if self.layer_overhead == "none" or (self.layer_overhead == "auto" and self.gemm != "measured"):
            return None
        hidden, intermediate, die, peak, _ = self.gemm_shape
        return LayerOverhead(layer=OVERHEADS[peak], die=die, hidden=hidden, intermediate=intermediate)

    @property
    def hbm_share(self) -> float:
        """The share of peak HBM bandwidth that streaming weights achieves."""
        return self.gemm_model.hbm_share(peak_of(self.precision))

    @property
    def gemm_shape(self) -> tuple[int, int, DieSpec, Peak, int]:
        """What the GEMM model takes: hidden and intermediate size, die, peak, and matrices of an expert."""
        model = self.model
        return model.hidden_size, model.moe_intermediate_size, self.wafer.die, peak_of(self.precision), model.matrices
