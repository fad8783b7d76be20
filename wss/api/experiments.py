"""``wss.load``, ``wss.run`` and ``wss.run_many``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

from wss.api.progress import Progress, showing
from wss.api.settings import ExperimentSource, MoreSettings, Settings, all_settings, count_of
from wss.api.workers import by_routing, in_processes
from wss.config import Experiment
from wss.config import load as load_experiment
from wss.errors import ConfigError
from wss.execution import Result
from wss.execution import run as run_experiment
from wss.execution import run_many as run_in_lockstep


def load(
    source: ExperimentSource, settings: MoreSettings = (), *, allow_code: bool = False, **changes: Unpack[Settings]
) -> Experiment:
    """Return the experiment of *source*, changed by keyword arguments and *settings*.

    Parameters
    ----------
    source
        A YAML file, a name of `wss list` such as ``"qwen3_235b"``, a mapping with the keys of a configuration, or an
        `Experiment`.
    settings
        Changes of parts, by path, such as ``{"wafer.link.bandwidth": "3.4 TB/s"}``; applied after the keywords. Text
        as for ``--set`` may be given too, such as ``["wafer.link.bandwidth=3.4 TB/s"]``.
    allow_code
        Whether the code of classes that a file names (``package.module:Class``) may run.
    **changes
        Settings by the keys of a configuration, such as ``batch=1024``; see `Settings`.

    Raises
    ------
    ConfigError
        With one line per error, worded as on the command line.
    """
    return load_experiment(source, all_settings(changes, settings), allow_code=allow_code)


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
        As `run`; nothing is run if one of the experiments is not right.
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
