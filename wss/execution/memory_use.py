"""Memory of the host that an experiment needs, estimated from its largest arrays."""

from __future__ import annotations

from collections.abc import Sequence

from wss.config import Experiment, TraceFile
from wss.config.experiment import LayerSample
from wss.hardware import WaferSpec
from wss.host_memory import check_room
from wss.policies import Policy, Signal
from wss.serving.signals import reads_layer_transitions, reads_transitions
from wss.traces.synthetic.spec import bytes_of

PLACED = 10  # bytes per layer, expert and die: replicas and holders


def check_memory(experiment: Experiment, policies: Sequence[Policy]) -> None:
    """Check that the host has enough memory to run *policies* on *experiment*.

    Raises
    ------
    CapacityError
        If not.
    """
    model, layers = experiment.model, len(experiment.model.moe_layers)
    run = layers if isinstance(experiment.layers, LayerSample) else len(experiment.layers_run)
    square = 8 * model.num_choices**2
    wafer = experiment.wafer
    dies = wafer.mesh[0] * wafer.mesh[1] if isinstance(wafer, WaferSpec) else wafer.nodes * wafer.gpus
    longest = sum(wafer.mesh) if isinstance(wafer, WaferSpec) else 6
    parts = {
        "where experts live (policies x layers x experts x dies)": PLACED
        * len(policies)
        * layers
        * model.num_choices
        * dies,
        "which expert follows which (layers x experts x experts)": square
        * (
            run * (any(map(reads_transitions, policies)) + any(map(reads_layer_transitions, policies)))
            + layers * any(Signal.COACTIVATION in policy.placement.signals for policy in policies)
        ),
        "routes between dies": 4.0 * dies**2 * longest,
    }
    if not isinstance(experiment.trace, TraceFile):
        spec = experiment.trace
        count = min(experiment.batch, spec.requests or experiment.batch)
        parts |= bytes_of(spec, model, count, 1)
    check_room("the experiment", parts)
