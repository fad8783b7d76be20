"""The decorator of all compiled functions. numba is imported, and a function compiled, when it is first called.

Compiling is most of a first run, so each function gets only what is used of it. Called from Python, it is kept on disk
(see `wss.compile_cache`), and gets the wrapper that converts Python's arguments. Called from compiled code, it gets no
wrapper, and becomes part of its caller there.

numba counts the references of each array that a call passes, 20 ns each, and compiles code for that. A function that
makes and returns no arrays only borrows those of its caller: `borrowing` leaves the counting out.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any


class compiled:  # noqa: N801 -- used as a decorator
    """A function that numba compiles.

    Parameters
    ----------
    function
        In the part of Python that numba compiles.
    counts
        Whether references of arrays are counted; without, it makes and returns no arrays (see `borrowing`).

    Attributes
    ----------
    py_func
        The same function in plain Python; it calls the others in compiled code.
    """

    def __init__(self, function: Callable[..., Any], counts: bool = True) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        self._counts = counts
        self._called: Callable[..., Any] | None = None  # from Python
        self._inner: Any = None  # from compiled code

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, compiled for these types of arguments."""
        if self._called is None:
            self._called = _compiled(self.py_func, _nrt=self._counts, cache=True)
        return self._called(*arguments)

    # What follows is for numba, which finds a dispatcher where compiled code calls the function.

    @property
    def _numba_type_(self) -> Any:
        from numba import types  # noqa: PLC0415

        return types.Dispatcher(self)

    @property
    def is_compiling(self) -> bool:
        """Whether the function is being compiled, so that a call of it is a recursion."""
        return bool(self._dispatcher().is_compiling)

    def get_call_template(self, arguments: Sequence[Any], keywords: Any) -> Any:
        """Return the template for types of *arguments*; constants count as variables: one version is enough."""
        from numba import types  # noqa: PLC0415

        found = self._dispatcher().get_call_template(tuple(map(types.unliteral, arguments)), keywords)
        result = found[0].cases[0].return_type
        if not self._counts and "array(" in str(result):
            raise TypeError(f"{self.py_func.__qualname__} returns {result}; use `compiled` for it")
        return found

    def get_overload(self, arguments: Sequence[Any]) -> Any:
        """Return the function that was compiled for types of *arguments*."""
        return self._dispatcher().get_overload(arguments)

    def _dispatcher(self) -> Any:
        if self._inner is None:
            self._inner = _compiled(self.py_func, _nrt=self._counts, no_cpython_wrapper=True)
        return self._inner


def borrowing(function: Callable[..., Any]) -> compiled:
    """Compile a function without counting references: it makes and returns no arrays, which compiling it checks."""
    return compiled(function, counts=False)


def switched_off() -> bool:
    """Whether NUMBA_DISABLE_JIT switches compiling off, so that everything runs as plain Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def _compiled(function: Callable[..., Any], **options: bool) -> Any:
    import numba  # noqa: PLC0415 -- half a second

    njit: Any = numba.njit  # its types lack some options
    return njit(nogil=True, no_cfunc_wrapper=True, **options)(function)
