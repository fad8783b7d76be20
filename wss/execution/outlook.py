"""Preview of a run without running it: whether it fits, its number of layer runs, and its approximate CPU time.

The time is the number of layer runs times seconds per layer run, plus the time to generate synthetic routing. Seconds
per layer run are means of the paper's five policies, measured on one core of a shared machine: 1.5 ms, plus 1.1 us per
expert and die (3.4 ms for 32 experts on 25 dies, 7.6 ms for 256, 18 ms for 256 on 64). Policies differ by a factor of
five. Without compiled code a layer run takes 4.5 times as long. The packet network adds 6.5 us per chunk of all
experts.
"""

from __future__ import annotations

from typing import Any

from wss.config import Experiment, TraceFile
from wss.config.experiment import LayerSample
from wss.engine.specs import NETWORKS, PacketSpec
from wss.execution.check import tried
from wss.hardware import SwitchedSpec
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.scheduler import schedule_of
from wss.workload.fixed_batch import open_batch

LAYER_S, EXPERT_AND_DIE_S = 1.5e-3, 1.1e-6
SIMPY, CHUNK_S = 2.4, 1.9e-6
TOKEN_S, SKIPPED_S = 3e-7, 4e-8  # to generate synthetic routing: per token and layer that is run, or that is not
FACTOR = 2.0  # likely error of the estimate, as a factor


def outlook_of(experiment: Experiment) -> dict[str, Any]:
    """Return the preview of a run of *experiment* as plain data; nothing is written.

    Raises
    ------
    WssError
        If the experiment cannot be run.
    """
    wafer, executors = tried(experiment)
    batch, _ = open_batch(experiment.trace, experiment.model, experiment.batch, experiment.steps, experiment.seed)
    prefill = schedule_of(batch).has_prefill
    hbm, model = experiment.wafer.die.hbm, experiment.model
    buffers = experiment.batch * model.top_k * model.buffer_bytes(experiment.precision) / wafer.num_dies
    return {
        "hbm_bytes": hbm.size,
        "reserve_bytes": hbm.size - wafer.usable_hbm,
        "usable_bytes": wafer.usable_hbm,
        "dies": wafer.num_dies,
        "expert_bytes": model.expert_bytes(experiment.precision),
        "buffer_bytes": buffers,
        "weight_bytes": {
            executor.recorder.policy: executor.weight_bytes
            for executor in executors
            if isinstance(executor, MoeLayerExecutor)
        },
        "policies": [policy.name for policy in experiment.policies],
        "layers": _num_layers(experiment),
        "layers_total": len(model.moe_layers),
        "steps": batch.steps,
        "prefill": prefill,
        "seeds": experiment.replications,
        "batch": experiment.batch,
        "requests": len(batch.requests),
        "source": batch.meta.source,
        "synthetic": batch.meta.synthetic,
        "layer_runs": layer_runs(experiment, batch.steps + prefill),
        "seconds": seconds_of(experiment, batch.steps + prefill),
        "notes": list(batch.notes),
    }


def _num_layers(experiment: Experiment) -> int:
    layers, moe_layers = experiment.layers, experiment.model.moe_layers
    return min(layers.sample, len(moe_layers)) if isinstance(layers, LayerSample) else len(experiment.layers_run)


def layer_runs(experiment: Experiment, steps: int) -> int:
    """Return the number of layer runs of *experiment*, over all policies and seeds; *steps* include the prefill."""
    return len(experiment.policies) * _num_layers(experiment) * steps * experiment.replications


def seconds_of(experiment: Experiment, steps: int) -> float:
    """Return the approximate CPU seconds of *experiment* on one core; *steps* include the prefill."""
    return layer_seconds(experiment, steps) + trace_seconds(experiment, steps)


def layer_seconds(experiment: Experiment, steps: int) -> float:
    """Return the approximate CPU seconds of all layer runs of *experiment*; *steps* include the prefill."""
    spec = experiment.wafer
    dies = spec.nodes * spec.gpus if isinstance(spec, SwitchedSpec) else spec.mesh[0] * spec.mesh[1]
    each = LAYER_S + EXPERT_AND_DIE_S * experiment.model.num_experts * dies
    compiled = experiment.engine != "simpy" and experiment.network_kind in NETWORKS
    times = 1.0 if compiled else SIMPY
    packets = 0.0
    if isinstance(experiment.network, PacketSpec):
        nbytes = experiment.model.expert_bytes(experiment.precision)
        packets = CHUNK_S * experiment.model.num_experts * nbytes / experiment.network.chunk
    return (each * times + packets) * layer_runs(experiment, steps)


def trace_seconds(experiment: Experiment, steps: int) -> float:
    """Return the approximate seconds to generate synthetic routing, once for all policies; 0 for recorded routing."""
    spec, layers = experiment.trace, _num_layers(experiment)
    if isinstance(spec, TraceFile):
        return 0.0
    skipped = len(experiment.model.moe_layers) - layers
    tokens = experiment.batch * ((spec.prompt_min + spec.prompt_max) / 2 + steps)
    return tokens * (layers * TOKEN_S + skipped * SKIPPED_S) * experiment.replications
