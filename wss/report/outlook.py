"""The outlook of a run, before it starts, as lines for the terminal."""

from __future__ import annotations

from typing import Any

from wss.report.words import counted
from wss.units import duration, show


def outlook_lines(found: dict[str, Any], factor: float) -> list[str]:
    """Return the result of `wss.execution.outlook`, *found*, as lines; its time may be off by a *factor*."""
    return [*_memory(found), *_work(found), took(found["seconds"], factor), *(f"note: {n}" for n in found["notes"])]


def _memory(found: dict[str, Any]) -> list[str]:
    """Return lines on the use of a die's HBM, once for policies with the same use."""
    size, reserve, usable = (show(found[f"{what}_bytes"], "size") for what in ("hbm", "reserve", "usable"))
    lines = [f"HBM of each of {found['dies']} dies: {size}, of which {reserve} are reserved and {usable} can be used"]
    alike: dict[float, list[str]] = {}
    for policy, nbytes in found["weight_bytes"].items():
        alike.setdefault(nbytes, []).append(policy)
    for nbytes, policies in alike.items():
        room = max(0.0, found["usable_bytes"] - nbytes - found["buffer_bytes"])
        each = show(found["expert_bytes"], "size")
        lines += [
            f"fits ({', '.join(policies)}): experts take {_size(nbytes)} on the fullest die, activations about "
            f"{_size(found['buffer_bytes'])}; room for {room // found['expert_bytes']:.0f} copies of {each} is left"
        ]
    return lines if alike else [*lines, "this physics has no capacity limit: the HBM's size is not checked"]


def _size(nbytes: float) -> str:
    return show(nbytes, "size") if nbytes else "0 B"


def _work(found: dict[str, Any]) -> list[str]:
    """Return lines on what would be run."""
    of = "" if found["layers"] == found["layers_total"] else f" of {found['layers_total']}"
    prefill = " and the prefill" if found["prefill"] else ""
    seeds = f", with each of {found['seeds']} seeds" if found["seeds"] > 1 else ""
    layers = f"{found['layers']}{of} MoE layer{'' if found['layers_total'] == 1 else 's'}"
    policies = f"{len(found['policies'])} {'policy' if len(found['policies']) == 1 else 'policies'}"
    kind = "SYNTHETIC" if found["synthetic"] else "recorded"
    return [
        f"would run {policies} ({', '.join(found['policies'])}) over {layers} in "
        f"{counted(found['steps'], 'decode step')}{prefill}{seeds}: {counted(found['layer_runs'], 'layer run')}",
        f"batch of {found['batch']:,}, of {counted(found['requests'], 'different request')}; {kind} routing: "
        f"{found['source']}",
    ]


def took(seconds: float, factor: float, cores: int = 1) -> str:
    """Return the estimated time, with its uncertainty, as text."""
    low, high = (duration(seconds / cores * share) for share in (1 / factor, factor))
    return (
        f"estimate: about {duration(seconds / cores)} on {cores} core{'s' if cores > 1 else ''} ({low} to {high}), "
        "and up to half a minute more where nothing is compiled yet"
    )
