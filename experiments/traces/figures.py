"""The figures of the paper's figures 6, 8b and 9 for presets of synthetic routing, or for trace files.

    python experiments/traces/figures.py                all presets, 4,096 requests of 32 decode tokens, seed 0; writes
                                                        results.json here
    python experiments/traces/figures.py FILE...        these traces

Fewer requests make the correlation of pairs lower than it is: most of the pairs that prefill could have are then seen
a few times or never.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from wss.files import json_text
from wss.models import MODELS
from wss.traces import TraceReader
from wss.traces.analysis.counts import Counts, count_trace
from wss.traces.analysis.statistics import CORRELATED, statistics
from wss.traces.synthetic.spec import SYNTHS, synth_meta, synthesise

HEADS = (
    "Spearman of frequency; strong / moderate / weak layers",
    "of pairs of adjacent tokens",
    "of adjacent layers",
    "pairs over uniform chance: 99.9th percentile, largest",
    "over independence",
    "subjects: overlap of top-10s, experts in all",
)


def presets() -> Iterator[tuple[str, Counts]]:
    """Count a trace of every preset; one whose name is no model's is of the model that its name begins with."""
    for name, spec in SYNTHS.items():
        model = next(model for key, model in MODELS.items() if name.startswith(key))
        made = replace(spec, requests=4096, decode_tokens=32)
        meta = synth_meta(made, model, 0)
        subjects = {label.request: label.subject for label in meta.requests}
        yield name, count_trace(meta, synthesise(made, model, 0), subjects)


def files(paths: list[str]) -> Iterator[tuple[str, Counts]]:
    """Count the traces *paths*."""
    for path in paths:
        with TraceReader(Path(path)) as reader:
            yield Path(path).stem, count_trace(reader.meta, reader.requests(), reader.subjects())


def cells(found: dict[str, Any]) -> Iterator[str]:
    """Give the cells of a row."""
    pooled = found["pooled"]
    for name in CORRELATED:
        layers = pooled["layers_by_correlation"][name].values()
        yield "-" if pooled[name] is None else f"{pooled[name]:.2f}; {' / '.join(map(str, layers))}"
    for name in ("pair_over_uniform", "pair_lift"):
        values = [pooled[f"{name}_{end}"] for end in ("p999", "most")]
        yield "-" if None in values else ", ".join(f"{value:.0f}x" for value in values)
    subjects = found["subjects"]
    yield f"{100 * subjects['top_10_overlap']:.0f}%, {subjects['in_every_top_10']:.1f}" if subjects else "-"


def main() -> None:
    """Print a table, and of the presets write what it is made of."""
    print("| | " + " | ".join(HEADS) + " |")
    print("|---" * (len(HEADS) + 1) + "|")
    kept = {}
    for name, counts in files(sys.argv[1:]) if sys.argv[1:] else presets():
        found = statistics(counts)
        kept[name] = found["pooled"] | {"subjects": found["subjects"]}
        print(f"| {name} | " + " | ".join(cells(found)) + " |", flush=True)
    if not sys.argv[1:]:
        Path(__file__).with_name("results.json").write_text(json_text(kept, sort_keys=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
