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

from importlib import import_module  # noqa: E402 - from here on modules are imported
from typing import TYPE_CHECKING, Any  # noqa: E402

from wss.compile_cache import prepare as _prepare  # noqa: E402

COMPILE_CACHE_NOTE = _prepare()  # before numba is imported
"""Why compiled code is not kept from one command to the next; None if it is."""

_HOMES = {
    "Experiment": "wss.config",
    "MODELS": "wss.models",
    "POLICIES": "wss.policies",
    "Policy": "wss.policies",
    "Result": "wss.execution",
    "WAFERS": "wss.hardware",
    "WssError": "wss.errors",
    "load": "wss.api",
    "open_trace": "wss.api",
    "run": "wss.api",
    "run_many": "wss.api",
    "sweep": "wss.api",
    "write_trace": "wss.api",
}
__all__ = [
    "MODELS",
    "POLICIES",
    "WAFERS",
    "Experiment",
    "Policy",
    "Result",
    "WssError",
    "__version__",
    "load",
    "open_trace",
    "run",
    "run_many",
    "sweep",
    "write_trace",
]

if TYPE_CHECKING:
    from wss.api import load, open_trace, run, run_many, sweep, write_trace
    from wss.config import Experiment
    from wss.errors import WssError
    from wss.execution import Result
    from wss.hardware import WAFERS
    from wss.models import MODELS
    from wss.policies import POLICIES, Policy
else:

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used, so that importing wss is fast."""
        if name not in _HOMES:
            raise AttributeError(f"module 'wss' has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
