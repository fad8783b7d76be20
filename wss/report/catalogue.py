"""The presets and policies by name, with a line on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from wss.engine.specs import NETWORKS
from wss.hardware import WAFERS, SwitchedSpec, SystemSpec
from wss.models import MODELS, ModelShape, PrecisionName
from wss.models.precision import BITS
from wss.policies import POLICIES, SEAMS
from wss.traces.synthetic.spec import SYNTHS
from wss.units import show

# Descriptions of synthetic presets that are not simply fitted to the figures reported of their model.
SYNTH_ABOUT = {
    "gpt_oss_20b": "synthetic routing, plausible; nothing is reported to fit it to",
    "qwen3_235b": "synthetic routing fitted to the coverage reported of qwen3_235b",
    "qwen3_235b_flat": "the same, but fitted to the load balance reported of it: flatter",
}


def catalogue() -> str:
    """Return the list as text."""
    tables: dict[str, dict[str, str]] = {
        "models": {
            name: f"{m.name}: {len(m.moe_layers)} MoE layers, {m.num_experts} experts, top-{m.top_k}, "
            f"hidden {m.hidden_size}, intermediate {m.moe_intermediate_size}{_more(m)} ({m.source})"
            for name, m in MODELS.items()
        },
        "precision": {
            name: f"{bits:g} bits a weight"
            + ("" if name in get_args(PrecisionName) else ", as precision.weights alone")
            for name, bits in BITS.items()
        },
        "wafers": {
            name: f"{_shape(w)}, HBM {show(w.die.hbm.size, 'size')} at "
            f"{show(w.die.hbm.bandwidth, 'bandwidth')}, links {show(w.link.bandwidth, 'bandwidth')}, "
            f"FP16 {show(w.die.flops['fp16'], 'compute rate')} ({w.source})"
            for name, w in WAFERS.items()
        },
        "policies": {name: policy.about for name, policy in POLICIES.items()},
        **{name: _first_lines(seam.classes) for name, seam in SEAMS.items()},
        "network": _first_lines(NETWORKS),
        "gemm": {"h800": "fitted to GEMMs measured on an H800, scaled by peaks", "ideal": "FLOP over peak FLOP/s"},
        "synth": {
            name: SYNTH_ABOUT.get(name, f"synthetic routing fitted to what is reported of {name}") for name in SYNTHS
        },
    }
    blocks = []
    for heading, table in tables.items():
        width = max(len(name) for name in table)
        blocks.append("\n".join([heading, *(f"  {name.ljust(width)}  {line}" for name, line in sorted(table.items()))]))
    return "\n\n".join(blocks)


def _more(model: ModelShape) -> str:
    """Return what is unusual about *model*, as text."""
    groups = f", {model.expert_groups} groups of experts" if model.expert_groups > 1 else ""
    zero = f", {model.zero_experts} zero-computation experts" if model.zero_experts else ""
    return groups + zero + (", two matrices an expert" if model.matrices == 2 else "")


def _shape(wafer: SystemSpec) -> str:
    if isinstance(wafer, SwitchedSpec):
        return f"{wafer.gpus} GPUs behind a switch, any number of such nodes"
    return f"{wafer.mesh[0]} x {wafer.mesh[1]} dies"


def _first_lines(table: Mapping[str, object]) -> dict[str, str]:
    return {name: (thing.__doc__ or "").strip().split("\n")[0] for name, thing in table.items()}
