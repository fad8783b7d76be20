"""The heading of a run's table: what was run, on what, and what the figures stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wss.config import Experiment
from wss.hardware import Wafer
from wss.report.policy_result import PolicyResult
from wss.report.words import counted
from wss.units import show


def heading(
    experiment: Experiment, runs: Mapping[str, PolicyResult], provenance: dict[str, Any], notes: Sequence[str]
) -> list[str]:
    """Return the lines above the table of a run."""
    run = runs[experiment.baseline]
    fact = {name: value.value for name, value in run.figures.items()}
    kind = "SYNTHETIC routing" if fact["synthetic"] else "recorded routing"
    steps, different = counted(fact["steps_run"], "decode step"), counted(fact["unique_requests"], "different request")
    return [
        f"{fact['model']} in {fact['precision']} on {fact['wafer']}, {_network(experiment)} network, "
        f"{fact['gemm']} GEMM",
        *_dead(run.wafer),
        *_dispatch(experiment),
        f"ran {_layers(fact, run)} of {steps}, batch {fact['batch']:,} ({different})",
        *_scale(fact, run),
        f"{kind}: {provenance['trace']['source']}",
        *(f"note: {note}" for note in notes),
    ]


def _is_sampled(run: PolicyResult) -> bool:
    return run.figures["decode_time_s"].layers is not None


def _layers(fact: dict[str, Any], run: PolicyResult) -> str:
    """Return which layers were run."""
    total, count = fact["layers_total"], fact["layers_run"]
    layers = f"all {total} MoE layers" if count == total else f"{count} of {total} MoE layers"
    if "layers_sampled" in fact:
        return f"{layers}, sampled: {_numbers(fact['layers_sampled'])},"
    return f"{layers}, sampled for each seed," if _is_sampled(run) else layers


def _numbers(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers[:12])) + (", ..." if len(layers) > 12 else "")


def _scale(fact: dict[str, Any], run: PolicyResult) -> list[str]:
    """Return lines on the layers and seeds of the figures, unless all layers and one seed are run."""
    lines, count = [], fact["layers_run"]
    if _is_sampled(run):
        lines.append(f"all figures are estimated for all {fact['layers_total']} layers from {count}")
    elif count < fact["layers_total"]:
        lines.append(f"all figures are sums over these {count} layers")
    if len(run.ledgers) > 1:
        first, last = run.ledgers[0].seed, run.ledgers[-1].seed
        lines.append(
            f"all figures are means over {len(run.ledgers)} seeds, {first} to {last}; speedups are means of ratios"
        )
    return lines


def _dead(wafer: Wafer) -> list[str]:
    """Return lines on dead dies and links, if any."""
    dies = [f"({x},{y})" for x, y in wafer.dead_dies]
    links = [f"({a},{b})-({c},{d})" for (a, b), (c, d) in wafer.dead_links]
    parts = [f"{what} {', '.join(named)}" for what, named in (("dies", dies), ("links", links)) if named]
    return [f"dead: {'; '.join(parts)}"] if parts else []


def _dispatch(experiment: Experiment) -> list[str]:
    """Return lines on the dispatch of tokens, if any."""
    dispatch = experiment.dispatch
    if dispatch is None:
        return []
    counting = "" if dispatch.once_per == "expert" else f", {dispatch.counting} counts"
    return [f"tokens go to the experts' dies and back, once per {dispatch.once_per}{counting}"]


def _network(experiment: Experiment) -> str:
    """Return the network's kind and parameters."""
    if experiment.rules.network is not None:
        return experiment.rules.network
    settings = list(experiment.plain()["network"].items())[1:]  # the first is the kind
    said = [f"{key} {_setting(key, value)}" for key, value in settings]
    return experiment.network_kind + (f" ({', '.join(said)})" if said else "")


def _setting(key: str, value: Any) -> str:
    """Return the value of a network's setting as text."""
    if key == "chunk":
        return show(value, "size")
    return f"{value:g}" if isinstance(value, float) else str(value)
