"""``wss.load``, which imports nothing that only a run needs."""

from __future__ import annotations

from typing import Unpack

from wss.api.settings import ExperimentSource, MoreSettings, Settings, all_settings
from wss.config import Experiment
from wss.config import load as load_experiment


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
