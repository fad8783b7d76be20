"""wss: a discrete-event simulator of wafer-scale GPU serving of Mixture-of-Experts LLMs."""

from wss.compile_cache import prepare as _prepare

__version__ = "0.1.0"

COMPILE_CACHE_NOTE = _prepare()  # before numba is imported
"""Why compiled code is not kept from one command to the next; None if it is."""
