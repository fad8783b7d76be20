"""Statistics of traces and of expert loads, as plain data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wss.errors import TraceError
from wss.traces import TraceReader
from wss.traces.analysis.counts import Counts, count_trace
from wss.traces.analysis.statistics import CORRELATED, load_statistics, plain, statistics
from wss.traces.analysis.top_experts import overlap
from wss.traces.loads import is_loads, read_loads

# The columns of the table: heading, figure, whether a percentage or a number.
FIGURES: tuple[tuple[str, str, str], ...] = (
    ("token coverage (next token, from the hottest expert)", "token_coverage", "%"),
    ("  at exactly 20%", "token_interpolated", "%"),
    ("  held out", "token_held_out", "%"),
    ("  every source, weighted", "token_weighted", "%"),
    ("  popularity alone", "token_popularity", "%"),
    ("layer coverage (next layer, from the hottest expert)", "layer_coverage", "%"),
    ("  at exactly 20%", "layer_interpolated", "%"),
    ("  held out", "layer_held_out", "%"),
    ("  every source, weighted", "layer_weighted", "%"),
    ("  popularity alone", "layer_popularity", "%"),
    ("same experts in adjacent tokens", "same_adjacent", "%"),
    ("  if tokens were independent", "same_if_independent", "%"),
    ("Spearman of prefill and decode: frequency", "spearman_frequency", "x"),
    ("  pairs of adjacent tokens", "spearman_pairs", "x"),
    ("  pairs of adjacent layers", "spearman_layer_pairs", "x"),
    ("top-5 overlap of prefill and decode", "top_5_overlap", "%"),
    ("top-10 overlap", "top_10_overlap", "%"),
    ("top-20 overlap", "top_20_overlap", "%"),
    ("hottest expert over the mean", "max_over_mean", "x"),
    ("  in the most skewed layer", "max_over_mean_most", "x"),
    ("entropy, bits", "entropy_bits", "x"),
    ("  of its maximum", "entropy_share", "%"),
    ("Gini coefficient", "gini", "x"),
    ("top 20% of experts hold", "top_20_percent_hold", "%"),
    ("top 10% of pairs hold, of co-activations", "pairs_top_10_percent_hold", "%"),
    ("  if experts were independent", "pairs_if_independent", "%"),
    ("pairs over uniform chance, 99th percentile", "pair_over_uniform_p99", "x"),
    ("  99.9th", "pair_over_uniform_p999", "x"),
    ("  largest", "pair_over_uniform_most", "x"),
    ("pairs over independence, 99th percentile", "pair_lift_p99", "x"),
    ("  99.9th", "pair_lift_p999", "x"),
    ("  largest", "pair_lift_most", "x"),
    ("reuse distance, tokens: mean", "reuse_distance_mean", "x"),
    ("  median", "reuse_distance_median", "x"),
    ("distinct experts of a layer in a request", "distinct_experts_per_request", "x"),
)
EACH = ("token_coverage", "layer_coverage", "same_adjacent", "spearman_frequency", "max_over_mean", "entropy_share")


def trace_statistics(paths: Sequence[Path]) -> tuple[dict[str, Any], list[tuple[Path, Counts]]]:
    """Return the statistics of the files *paths*, traces or loads, and the counts of the traces.

    Raises TraceError if a file cannot be read or is neither.
    """
    found: dict[str, Any] = {"files": []}
    counted: list[tuple[Path, Counts]] = []
    for path in paths:
        if is_loads(path):
            own = load_statistics([dump.with_tokens() for dump in read_loads(path)])
            found["files"].append({"file": str(path), "kind": "loads", **own})
            continue
        with TraceReader(path) as reader:
            counts = count_trace(reader.meta, reader.requests(), reader.subjects())
        counted.append((path, counts))
        found["files"].append({"file": str(path), "kind": "trace", **statistics(counts)})
    if len(counted) > 1:
        shapes = {counts.main.freq.shape for _, counts in counted}
        if len(shapes) > 1:
            raise TraceError(f"{paths[0]}, ...: are traces of models of different shapes; give those of one model")
        found["between_files"] = plain(overlap({str(path): counts.main.freq.copy() for path, counts in counted}))
    return found, counted


def stats_text(found: dict[str, Any], per_layer: bool) -> str:
    """Return the statistics as text, with the figures of every layer if *per_layer*."""
    blocks = [_loads(file) if file["kind"] == "loads" else _trace(file, per_layer) for file in found["files"]]
    if between := found.get("between_files"):
        blocks.append(
            f"between the {between['groups']} files: top-10 experts overlap {_show(between['top_10_overlap'], '%')}, "
            f"{between['in_every_top_10']:.2f} are in every top-10"
        )
    return "\n\n".join(blocks)


def _show(value: float | None, form: str = "x", digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if form == "%" else f"{value:.{digits}f}"


def _trace(file: dict[str, Any], per_layer: bool) -> str:
    kind = "SYNTHETIC" if file["synthetic"] else "recorded"
    pooled = file["pooled"]
    rest = pooled.get("without_layers_of_one_expert")
    lines = [
        f"{file['file']}: {file['model']} ({kind}), {file['benchmark']} / {file['subject']}",
        f"{file['requests']} requests, {file['prefill_tokens']} prefill and {file['decode_tokens']} decode tokens, "
        f"{len(file['layers'])} MoE layers, {file['experts']} experts, top-{file['top_k']}; figures of "
        f"{file['main_phase']}, means over layers",
        "",
    ]
    width = max(len(heading) for heading, _, _ in FIGURES)
    for heading, key, form in FIGURES:
        other = f"{_show(rest.get(key), form):>10}" if rest and key in rest else ""
        lines.append(f"{heading:{width}}  {_show(pooled[key], form):>8}{other}".rstrip())
    if rest:
        lines.append(f"second column: without layers {rest['left_out']}, where one expert has over 90% of tokens")
    lines += _strengths(pooled["layers_by_correlation"])
    if subjects := file["subjects"]:
        lines += _subjects(subjects, per_layer)
    if per_layer:
        lines += ["", "layer  " + "  ".join(EACH)]
        forms = {key: form for _, key, form in FIGURES}
        for row in file["layers"]:
            cells = (f"{_show(row[key], forms[key]):>{len(key)}}" for key in EACH)
            lines.append(f"{row['layer']:5d}  " + "  ".join(cells))
    return "\n".join(lines)


def _strengths(found: dict[str, dict[str, int]]) -> list[str]:
    """Return lines on the correlation of prefill and decode, in numbers of layers; none if a phase is missing."""
    if not any(found[CORRELATED[0]].values()):
        return []
    cells = [
        f"{name} {kind['strong']}/{kind['moderate']}/{kind['weak']}"
        for name, kind in zip(("frequency", "adjacent tokens", "adjacent layers"), found.values(), strict=True)
    ]
    return ["layers of strong (0.7 or more), moderate (0.4) and weak Spearman: " + ", ".join(cells)]


def _subjects(found: dict[str, Any], each: bool) -> list[str]:
    """Return lines on the overlap of the experts of subjects, with the top-10 of each if *each*."""
    common = ", ".join(map(str, found["in_every_top_10_of_the_layer"])) or "none"
    lines = [
        f"{found['groups']} subjects: top-10 experts overlap {_show(found['top_10_overlap'], '%')}, "
        f"{found['in_every_top_10']:.2f} are in every top-10; in layer {found['layer']}: {common}"
    ]
    if each:
        width = max(map(len, found["top_10"]))
        lines += ["", f"top-10 experts of each subject in layer {found['layer']}, the most used first"]
        lines += [
            f"{name:{width}}  " + " ".join(f"{expert:3d}" for expert in tops) for name, tops in found["top_10"].items()
        ]
    return lines


def _loads(file: dict[str, Any]) -> str:
    lines = [f"{file['file']}: expert loads", ""]
    lines.append(f"{'dump':24} {'tokens':>8}  max/mean: mean (min-max over layers)  entropy/max  top-20% hold")
    for row in file["dumps"]:
        tokens = "-" if row["tokens"] is None else f"{row['tokens'] / 1e6:.1f} M"
        skew = (
            f"{row['max_over_mean']:.2f} ({row['max_over_mean_least']:.1f}-{row['max_over_mean_most']:.1f}, "
            f"layer {row['most_skewed_layer']})"
        )
        lines.append(
            f"{row['dump']:24} {tokens:>8}  {skew:37}  {_show(row['entropy_share'], digits=3):>11}  "
            f"{_show(row['top_20_percent_hold'], '%'):>12}"
        )
    for row in file["prefill_and_decode"]:
        tops = "/".join(f"{100 * row[f'top_{n}_overlap']:.0f}" for n in (5, 10, 20))
        lines.append(
            f"prefill and decode of {row['workload']}: Spearman {_show(row['spearman_mean'], digits=3)} "
            f"(least {_show(row['spearman_least'])}), "
            f"{row['layers_with_spearman_at_least_0.7']} layers at 0.7 or more, "
            f"top-5/10/20 overlap {tops}%"
        )
    return "\n".join(lines)
