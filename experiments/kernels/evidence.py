"""Write docs/evidence/kernels.md: the errors of the kernel models on all measurements, by family.

python experiments/kernels/evidence.py
"""

from __future__ import annotations

from typing import Any

from data import ROOT, SHARED

from wss.report.kernels.check import KINDS, check
from wss.report.kernels.text import FIGURES, telling

HEAD = """# Kernel times against measurements

Written by [experiments/kernels](../../experiments/kernels/README.md) (`evidence.py`); do not edit. It holds what
`wss kernels check` prints for each table of measurements on an H100 ([kernel times](../model/kernels.md)). The rows
include those that parameters were fitted to. Errors on shapes that were left out of the fits, noise floors and
ablations are in the pages of [experiments/kernels](../../experiments/kernels/README.md).

An error is predicted / measured - 1. Mean and p90 are of absolute errors; worst and bias have their sign.

Do not rely on:

- 256 to 1,024 tokens an expert;
- DeepGEMM's contiguous products, which were measured without CUDA graphs;
- grouped-query decode of TensorRT-LLM, which has kernels for many special cases;
- any GPU of another generation than Hopper: its times are scaled by peaks, and nothing is validated.
"""


def main() -> None:
    """Check every table that is there."""
    parts = [HEAD]
    for kind in KINDS:
        path = SHARED / "reference" / "kernels" / f"{kind.name}.parquet"
        if not path.exists():
            raise SystemExit(f"{path} is absent: measurements are not shipped; set WSS_SHARED to their folder")
        parts.append(section(check(path)))
    (ROOT / "docs/evidence/kernels.md").write_text("\n".join(parts), encoding="utf-8")


def section(found: dict[str, Any]) -> str:
    """Return the families of one table, and what was left out, as Markdown."""
    names = [*telling(found["families"]), "parameters"]
    lines = [f"## `{found['table']}`", "", f"{found['rows']:,} rows, of which {found['counted']:,} count.", ""]
    lines += _grid(names, found["families"])
    if found["fastest"]:
        lines += ["", "The fastest kernel of each shape:", "", *_grid(["precision"], found["fastest"])]
    if found["left_out"]:
        lines += ["", "Left out:", "", *(f"- {row['rows']:,} rows: {row['reason']}" for row in found["left_out"])]
    return "\n".join([*lines, ""])


def _grid(names: list[str], rows: list[dict[str, Any]]) -> list[str]:
    head = ["| " + " | ".join([*names, *FIGURES]) + " |", "|" + "---|" * (len(names) + len(FIGURES))]
    texts = ([_short(str(row[name])) for name in names] for row in rows)
    return head + ["| " + " | ".join([*own, *_cells(row)]) + " |" for own, row in zip(texts, rows, strict=True)]


def _cells(row: dict[str, Any]) -> list[str]:
    signed = [f"{100 * row[name]:+.1f}%" for name in ("worst", "bias")]
    return [f"{row['rows']:,}", *(f"{100 * row[name]:.1f}%" for name in ("mean", "p90")), *signed]


def _short(text: str) -> str:
    """Return *text*, which may be the long name of a kernel, in 32 letters."""
    return text if len(text) <= 32 else f"{text[:14]}...{text[-15:]}"


if __name__ == "__main__":
    main()
