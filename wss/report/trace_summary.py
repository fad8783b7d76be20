"""A summary of a trace."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from wss.traces import TraceReader
from wss.traces.importers.common import Common
from wss.units import show


def describe(reader: TraceReader) -> dict[str, Any]:
    """Read and check a whole trace, and return its metadata, sizes and each layer's most popular expert.

    The popularity is that of decode tokens, or of prefill if there are none.
    """
    meta = reader.meta
    shape = (len(meta.moe_layers), meta.num_choices)
    counts = {"prefill": np.zeros(shape, np.int64), "decode": np.zeros(shape, np.int64)}
    prefill, decode = [], []
    common = Common()
    offset = np.arange(shape[0])[None, :, None] * meta.num_choices
    for request in reader.requests():
        common.add(request, meta)
        cut = request.num_prefill
        prefill.append(cut)
        decode.append(request.num_decode)
        for phase, experts in (("prefill", request.experts[:cut]), ("decode", request.experts[cut:])):
            cells = (experts + offset).ravel()
            counts[phase] += np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    phase = "decode" if sum(decode) else "prefill"
    main = counts[phase][:, : meta.num_experts]  # those with weights
    about = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(meta).items()}
    about.pop("requests", None)
    fault = common.fault(meta)  # evidence of filler
    return {
        **about,
        "synthetic": meta.synthetic,
        "num_requests": len(decode),
        "prefill_tokens": _spread(prefill),
        "decode_tokens": _spread(decode),
        "popularity_of": phase,
        "warnings": [] if meta.synthetic else [fault] if fault else common.warnings(meta),
        "choices_without_work": 1.0 - float(main.sum() / counts[phase].sum()),
        "layers": [
            {
                "layer": layer,
                "hottest_expert": int(row.argmax()),
                "hottest_share": float(row.max() / max(row.sum(), 1)),
                "max_over_mean": float(row.max() / max(row.mean(), 1e-300)),
                "unused_experts": int((row == 0).sum()),
            }
            for layer, row in zip(meta.moe_layers, main, strict=True)
        ],
    }


def _spread(lengths: list[int]) -> dict[str, float]:
    return {"total": sum(lengths), "min": min(lengths), "median": float(np.median(lengths)), "max": max(lengths)}


def describe_text(found: dict[str, Any]) -> str:
    """Return the result of `describe` as text."""
    kind = "SYNTHETIC" if found["synthetic"] else "recorded"
    lines = [
        f"{found['model']} ({kind}), {found['benchmark']} / {found['subject']}",
        f"source: {found['source']}",
        f"note: {found['note']}",
        f"{len(found['moe_layers'])} MoE layers of {found['num_layers']}, {found['num_experts']} experts, "
        f"top-{found['top_k']}, {found['num_requests']} requests",
    ]
    for phase in ("prefill", "decode"):
        spread = found[f"{phase}_tokens"]
        lines.append(
            f"{phase}: {spread['total']} tokens, a request {spread['min']} to {spread['max']}, "
            f"median {spread['median']:g}"
        )
    lines += [f"warning: {warning}" for warning in found["warnings"]]
    if found["zero_experts"]:
        share = f"{found['choices_without_work']:.1%} of the choices in {found['popularity_of']}"
        lines.append(f"{share} are of the {found['zero_experts']} experts a layer without weights: no work")
    lines += ["", f"layer  hottest expert   share  max/mean  unused   ({found['popularity_of']})"]
    for row in found["layers"]:
        lines.append(
            f"{row['layer']:5d}  {row['hottest_expert']:14d}  {100 * row['hottest_share']:5.1f}%  "
            f"{row['max_over_mean']:8.2f}  {row['unused_experts']:6d}"
        )
    return "\n".join(lines)


def prediction_text(found: dict[str, Any]) -> str:
    """Return the scores of predictors as text."""
    first = next(iter(found["predictors"].values()))
    heads = [f"{100 * row['budget_share']:g}% ({row['experts']})" for row in first]
    lines = [
        f"{found['tokens']} decode tokens; of the experts that a token uses, how many are among the n that a predictor",
        "names for its layer (recall, cross-validated by request), for n as a share of the layer's experts",
        "",
        f"{'predictor':14}" + "".join(f"{head:>14}" for head in heads),
    ]
    for name, rows in found["predictors"].items():
        lines.append(f"{name:14}" + "".join(f"{100 * row['recall']:13.1f}%" for row in rows))
    if first[0]["bytes_saved_per_token"] is not None:
        lines += ["", "bytes of weights per token already loaded, over all MoE layers"]
        for name, rows in found["predictors"].items():
            cells = "".join(f"{show(row['bytes_saved_per_token'], 'size'):>14}" for row in rows)
            lines.append(f"{name:14}" + cells)
    return "\n".join(lines)
