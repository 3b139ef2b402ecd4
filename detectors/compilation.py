"""Compilation of loops that numpy cannot express, or not quickly enough for single rows."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """
    Compile with numba, with the machine code cached on disk if a folder is writable.

    A read-only installation for a user without a home directory has none, and compiles in every process instead.
    """
    try:
        return cast(Callable[P, R], numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba: "cannot cache function …: no locator available"
        return cast(Callable[P, R], numba.njit(nogil=True)(function))
