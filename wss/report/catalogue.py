"""The presets and policies by name, with a line on each: what `wss list` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import wrap
from typing import NamedTuple, get_args

from wss.engine.specs import NETWORKS
from wss.hardware import WAFERS, SwitchedSpec, SystemSpec
from wss.models import MODELS, ModelShape, PrecisionName
from wss.models.precision import BITS
from wss.policies import KINDS, POLICIES, SEAMS
from wss.report.words import MOST
from wss.traces.synthetic.spec import SYNTHS
from wss.units import show

# Descriptions of synthetic presets that are not simply fitted to the figures reported of their model.
SYNTH_ABOUT = {
    "gpt_oss_20b": "plausible only: there are no published statistics of gpt_oss_20b",
    "qwen3_235b": "fitted to the reported coverage of qwen3_235b: few experts get most tokens",
    "qwen3_235b_flat": "fitted to the reported load balance of qwen3_235b, which is flatter",
}


class Entry(NamedTuple):
    """An entry: its name, a line on it, and where its figures come from."""

    name: str
    line: str
    source: str = ""


def sections() -> dict[str, Callable[[bool], str]]:
    """Return by heading a function that returns the section as text; its argument is whether sources are shown."""
    tables = {
        "models": [Entry(name, _model(m), f"{m.name}; {m.source}") for name, m in MODELS.items()],
        "precision": [Entry(name, _precision(name, bits)) for name, bits in BITS.items()],
        "wafers": [Entry(name, _wafer(w), w.source) for name, w in WAFERS.items()],
        **{name: _first_lines(seam.classes) for name, seam in SEAMS.items()},
        "network": _first_lines(NETWORKS),
        "gemm": [
            Entry("h800", "fitted to GEMMs measured on an H800, scaled by peak rates"),
            Entry("measured", "fitted to expert kernels measured on H100s, FP8 and BF16, scaled by peak rates"),
            Entry("ideal", "FLOP over peak FLOP/s"),
        ],
        "synth": [
            Entry(name, SYNTH_ABOUT.get(name, f"synthetic routing fitted to published statistics of {name}"))
            for name in SYNTHS
        ],
    }
    found: dict[str, Callable[[bool], str]] = {}
    for heading, entries in tables.items():
        found[heading] = lambda long, heading=heading, entries=entries: _section(heading, entries, long)  # type: ignore[misc]
        if heading == "wafers":
            found["policies"] = _policies
    return found


def _section(heading: str, entries: list[Entry], long: bool) -> str:
    """Return a section as text; *long*: with sources."""
    width = max(len(entry.name) for entry in entries)
    lines = [heading]
    for entry in sorted(entries):
        lines.append(f"  {entry.name.ljust(width)}  {entry.line}")
        if long and entry.source:
            indent = " " * (width + 4)
            lines += wrap(entry.source, MOST, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
    return "\n".join(lines)


def _policies(long: bool) -> str:
    """Return the policies as text, by kind."""
    width = max(map(len, POLICIES))
    lines = ["policies"]
    for kind, names in KINDS.items():
        lines += [f"  {kind}", *(f"    {name.ljust(width)}  {POLICIES[name].about}" for name in names)]
    return "\n".join(lines)


def _model(model: ModelShape) -> str:
    """Return the shape of *model*, and what is unusual about it."""
    groups = f", in {model.expert_groups} groups" if model.expert_groups > 1 else ""
    zero = f", {model.zero_experts} zero-computation experts" if model.zero_experts else ""
    more = groups + zero + (", two matrices an expert" if model.matrices == 2 else "")
    return (
        f"{len(model.moe_layers)} MoE layers, top-{model.top_k} of {model.num_experts} experts, hidden "
        f"{model.hidden_size}, intermediate {model.moe_intermediate_size}{more}"
    )


def _precision(name: str, bits: float) -> str:
    return f"{bits:g} bits a weight" + ("" if name in get_args(PrecisionName) else ", as precision.weights alone")


def _wafer(wafer: SystemSpec) -> str:
    """Return the shape and the rates of *wafer*."""
    hbm, die, shape = wafer.die.hbm, wafer.die, "{} x {} dies"
    shape = f"{wafer.gpus} GPUs a node" if isinstance(wafer, SwitchedSpec) else shape.format(*wafer.mesh)
    return (
        f"{shape}, HBM {show(hbm.size, 'size')} at {show(hbm.bandwidth, 'bandwidth')}, links "
        f"{show(wafer.link.bandwidth, 'bandwidth')}, FP16 {show(die.flops['fp16'], 'compute rate')}"
    )


def _first_lines(table: Mapping[str, object]) -> list[Entry]:
    return [Entry(name, (thing.__doc__ or "").strip().split("\n")[0]) for name, thing in table.items()]
