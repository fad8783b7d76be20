"""Whether an experiment can be run, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wss import hardware
from wss.config import Experiment
from wss.config.experiment import LayerSample
from wss.execution.memory_use import check_memory
from wss.execution.runner import Executor, build_executors
from wss.serving.placement import RoutingHistory


def check(experiment: Experiment) -> None:
    """Check that *experiment* can be run, without running it.

    Raises
    ------
    WssError
        If its weights do not fit, its faults disconnect the wafer, or its physics does not support a setting.
    """
    tried(experiment)


def tried(experiment: Experiment) -> tuple[hardware.Wafer, Sequence[Executor]]:
    """Return wafer and executors of *experiment* with all MoE layers, without running them; raise as `check` does."""
    everything = replace(experiment, layers="all") if isinstance(experiment.layers, LayerSample) else experiment
    check_memory(experiment, experiment.policies)
    wafer = hardware.build(experiment.wafer, experiment.faults)
    return wafer, build_executors(everything, wafer, list(experiment.policies), RoutingHistory(everything.setup, None))
