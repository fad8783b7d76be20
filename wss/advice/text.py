"""The advice, and the balancedness of a layout, as text of at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from wss.advice.balance import Balance
from wss.advice.candidates import CONTIGUOUS
from wss.advice.engines import Engine, engine_notes, start_lines
from wss.advice.result import NOISE, Advice, Judged
from wss.hardware import SwitchedSpec
from wss.report.terminal import aligned, filled
from wss.report.words import MOST

MOST_LAYERS = 10  # rows of the table of layers
HEADINGS = ("layout", "redundant", "gain", "95% interval", "balanced", "cross-node", "busiest link", "used", "HBM")


def advice_text(advice: Advice, engine: Engine, out: str | None) -> str:
    """Return the table of layouts, the conclusion, and how to start *engine*; *out* is where the layout was written."""
    start = start_lines(advice, engine, out or "layout.json")
    parts = [
        filled(_heading(advice), ""),
        _points([*advice.about, *advice.notes]),
        aligned([HEADINGS, *(_row(row, row is advice.best) for row in advice.judged)]),
        _legend(advice),
        filled(conclusion(advice), ""),
        "\n".join([f"Start {'SGLang' if engine == 'sglang' else 'vLLM'} with:", " \\\n".join(_indented(start))]),
    ]
    notes = engine_notes(advice, engine)
    if out is None and advice.best.kind != CONTIGUOUS and engine == "sglang":
        notes.append("--out layout.json writes the layout")
    return "\n\n".join([*parts, *([_points(notes)] if notes else [])])


def conclusion(advice: Advice) -> str:
    """Return which layout to serve with, and what it gains, in a few sentences."""
    best, rival = advice.best, advice.rival
    noise = f"Gains below {NOISE:.0%} are noise."
    if best.kind == CONTIGUOUS:
        return f"Keep the contiguous layout: no other is more than {NOISE:.0%} faster. {noise}"
    interval = "" if best.low is None else f" ({best.low:.2f} to {best.high:.2f})"
    text = f"{called(best)} is fastest: {best.gain:.2f}x contiguous{interval}, in MoE layers alone. {noise}"
    if rival is not None and rival.gain > best.gain:
        which = f"{called(best)} is as fast as {called(rival)} to within {NOISE:.0%}, with fewer redundant experts"
        text = f"{which}: {best.gain:.2f}x contiguous{interval}, in MoE layers alone. {noise}"
    elif rival is not None and advice.over_rival is not None and advice.over_rival[0] < 1:
        text += f" {called(rival)} may be as fast."
    if best.low is not None and best.low < 1:
        text += " The interval includes 1: simulate more layers or steps (--layers, --steps) before you rely on it."
    return text


def called(row: Judged) -> str:
    """Return the name of a layout in a sentence."""
    if row.kind in (CONTIGUOUS, "remap"):
        return row.kind
    return f"{row.kind} with {row.redundant or 'no'} redundant expert{'s' * (row.redundant != 1)} per GPU"


def _heading(advice: Advice) -> str:
    experiment = advice.experiment
    wafer, total = experiment.wafer, len(experiment.model.moe_layers)
    where = f"{advice.gpus} dies ({wafer.name})"
    if isinstance(wafer, SwitchedSpec):
        nodes = f"{wafer.nodes} node{'s' * (wafer.nodes > 1)} of {wafer.gpus} GPUs"
        where = f"{nodes} ({wafer.name.removesuffix(' (modified)')})"
    layers = f"all {total}" if advice.layers_run == total else f"{advice.layers_run} of {total}"
    return (
        f"{experiment.model.name} on {where}, {experiment.precision}, {experiment.batch:,} tokens a step; "
        f"simulated: {layers} MoE layers, {experiment.steps} decode steps"
    )


def _row(row: Judged, best: bool) -> list[str]:
    known = row.low is not None and row.kind != CONTIGUOUS
    return [
        f"{'*' if best else ' '} {row.kind}",
        str(row.redundant),
        f"{row.gain:.2f}x",
        f"{row.low:.2f} to {row.high:.2f}" if known else "-",
        f"{row.balancedness:.2f}",
        "-" if row.cross_node_bytes is None else f"{row.cross_node_bytes / 1e6:.4g} MB",
        row.busiest_link or "-",
        f"{row.busiest_share:.0%}" if row.busiest_link else "-",
        f"{row.redundant_bytes / 1e9:.1f} GB" if row.redundant_bytes else "0",
    ]


def _legend(advice: Advice) -> str:
    """Return the meaning of the columns."""
    layers = f"the {advice.layers_run} layers drawn" if advice.over == "layers" else "decode steps"
    return filled(
        "*: the best. redundant: experts per GPU and layer. gain: over contiguous, in the time of MoE layers "
        f"(dispatch, experts, combine); its 95% interval is over {layers}. balanced: mean / max tokens per GPU. "
        "cross-node: bytes between nodes, per step and layer. used: share of the time that the busiest link is busy. "
        "HBM: of redundant experts, per GPU.",
        "",
    )


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {lines[0]}", *(f"    {line}" for line in lines[1:])]


def _points(lines: Sequence[str]) -> str:
    """Return *lines* as a list."""
    fold = textwrap.TextWrapper(
        MOST, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(fold.fill(line) for line in lines)


def balance_text(balance: Balance) -> str:
    """Return the layers with the lowest balancedness, and the mean over all."""
    rows = sorted(zip(balance.by_layer.tolist(), balance.layers, strict=True))
    cells = [["layer", "mean", "min"]]
    cells += [[str(layer), f"{mean:.3f}", f"{least:.3f}"] for (mean, least), layer in rows[:MOST_LAYERS]]
    several = len(balance.values) > 1
    passes = f" and {len(balance.values):,} passes" if several else ""
    layers = f"{len(balance.layers)} layer{'s' * (len(balance.layers) > 1)}"
    lines = [
        f"balancedness {balance.overall:.3f} on {balance.gpus} GPUs: mean / max tokens per GPU, "
        f"mean over {layers}{passes}",
        "",
        aligned([row if several else row[:2] for row in cells], left=0),
    ]
    if len(rows) > MOST_LAYERS:
        lines.append(f"... and {len(rows) - MOST_LAYERS} more even layers; --json lists all")
    if several:
        lines += ["", "mean, min: over the passes; a dump that is one table counts as one pass."]
    return "\n".join(lines)
