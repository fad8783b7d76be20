"""``wss.run`` and ``wss.run_many``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

from wss.api.loading import load
from wss.api.progress import showing
from wss.api.settings import ExperimentSource, MoreSettings, Settings, count_of
from wss.api.workers import by_routing, in_processes
from wss.config import Experiment
from wss.errors import ConfigError
from wss.execution import Result
from wss.execution import run as run_experiment
from wss.execution import run_many as run_in_lockstep
from wss.execution.replications import Progress


def run(
    source: ExperimentSource,
    settings: MoreSettings = (),
    *,
    progress: bool | Progress = False,
    allow_code: bool = False,
    **changes: Unpack[Settings],
) -> Result:
    """Run the experiment of *source*, changed by keyword arguments and *settings*, and return its result.

    Parameters
    ----------
    source, settings, allow_code, **changes
        As for `load`.
    progress
        True: show a progress bar. A function is called with the kind of work, the units done, all units, and where the
        work is.

    Raises
    ------
    ConfigError
        With one line per error, worded as on the command line.
    CapacityError
        If the weights do not fit the wafer, or the simulation does not fit this machine's memory.
    TraceError
        If the trace cannot be read, does not fit the model, or is shorter than the experiment.

    Examples
    --------
    >>> result = wss.run("qwen3_235b", batch=1024, policies=["base", "ep"])  # doctest: +SKIP
    >>> result.figure("ep", "speedup").value  # doctest: +SKIP
    """
    experiment = load(source, settings, allow_code=allow_code, **changes)
    with showing(progress) as report:
        return run_experiment(experiment, report)


def run_many(
    sources: Iterable[ExperimentSource],
    settings: MoreSettings = (),
    *,
    workers: int = 1,
    progress: bool | Progress = False,
    allow_code: bool = False,
    **changes: Unpack[Settings],
) -> list[Result]:
    """Run several experiments, each changed in the same way, and return their results in the same order.

    Experiments with the same routing (model, trace, batch, steps, layers, seed, replications, physics) run together:
    the routing is read or generated once.

    Parameters
    ----------
    sources
        Experiments in any form that `load` takes.
    workers
        Number of processes. With more than 1, classes of your own must be in a module, not in the script itself.
    settings, progress, allow_code, **changes
        As for `run`.

    Raises
    ------
    WssError
        As for `run`. If one of the experiments has an error, nothing is run.
    """
    if isinstance(sources, str | bytes | dict | Experiment) or not isinstance(sources, Iterable):
        raise ConfigError("run_many: give a list of experiments; for one, use wss.run")
    number = count_of(workers, "workers")
    experiments = [load(source, settings, allow_code=allow_code, **changes) for source in sources]
    groups = by_routing(experiments)
    with showing(progress) as report:
        if number > 1 and len(groups) > 1:
            results = in_processes([[experiments[i] for i in group] for group in groups], number, report)
        else:
            results = [run_in_lockstep([experiments[i] for i in group], report) for group in groups]
    order = [number for group in groups for number in group]
    found = dict(zip(order, [result for own in results for result in own], strict=True))
    return [found[number] for number in range(len(experiments))]
