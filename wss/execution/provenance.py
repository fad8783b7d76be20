"""How a result came about: configuration, trace, version, host and times."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

from wss import __version__
from wss.config import Experiment
from wss.config.dependencies import outside_of
from wss.hardware import Wafer
from wss.workload.fixed_batch import FixedBatch

PACKAGES = ("networkx", "numba", "numpy", "pyarrow", "simpy")  # results may depend on their versions
_version = cache(version)


def versions() -> dict[str, str]:
    """Return the version of each of `PACKAGES`."""
    return {name: _version(name) for name in PACKAGES}


def host() -> dict[str, Any]:
    """Return the host's Python, platform and packages."""
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": versions()}


def provenance_of(experiment: Experiment, batch: FixedBatch, wafer: Wafer, times: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance in summary.json, but for its notes; only ``host`` and ``times`` depend on the host."""
    meta = batch.meta
    return {
        "version": __version__,
        "config": experiment.plain(),
        "seed": experiment.seed,
        "trace": {"sha256": batch.digest, "model": meta.model, "source": meta.source, "note": meta.note},
        **({"outside": outside} if (outside := dict(sorted(outside_of(experiment)))) else {}),
        **({"dead": dead} if (dead := _dead(wafer)) else {}),
        "host": host(),
        "times": times,
    }


def _dead(wafer: Wafer) -> dict[str, Any]:
    """Return the dead dies of *wafer*, and the dead links between live dies; empty if nothing is dead."""
    dies, links = wafer.dead_dies, wafer.dead_links
    if not dies and not links:
        return {}
    return {"dies": [list(die) for die in dies], "links": [[list(a), list(b)] for a, b in links]}
