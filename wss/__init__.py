"""wss: a discrete-event simulator of wafer-scale GPU serving of Mixture-of-Experts LLMs."""

import os
import sys

__version__ = "0.1.0"


def _leave_current_folder() -> None:
    """Remove the current folder from the path, where `python -m` puts it first, so that wss imports nothing from it.

    If wss itself is there, the folder goes to the end of the path.
    """
    try:
        here = os.getcwd()
    except OSError:  # it has been removed
        return
    if sys.path[0] == here:
        del sys.path[0]
        sys.path += [here] * (here == os.path.dirname(os.path.dirname(__file__)))


# While `python -m wss` starts, sys.argv is "-m" and the arguments, which follow the name of the module.
if not sys.flags.safe_path and sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in ("wss", "-mwss"):
    _leave_current_folder()

from typing import TYPE_CHECKING  # noqa: E402 - from here on modules are imported

from wss.compile_cache import prepare as _prepare  # noqa: E402

COMPILE_CACHE_NOTE = _prepare()  # before numba is imported
"""Why compiled code is not kept from one command to the next; None if it is."""

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wss.config import Experiment


def load(path: "str | Path", settings: "Sequence[str]" = (), *, allow_code: bool = False) -> "Experiment":
    """Read the experiment of the YAML file *path*, or of a name of `wss list`, changed by *settings*.

    Parameters
    ----------
    path
        The file or the name.
    settings
        Changes such as ``batch=1024``, as for `--set`.
    allow_code
        Whether the code of classes that the file names (``package.module:Class``) may run.

    Raises
    ------
    ConfigError
        With one line per error.
    """
    from wss.config import load as load_experiment  # noqa: PLC0415 - keeps the import of wss fast

    return load_experiment(path, settings, allow_code=allow_code)
