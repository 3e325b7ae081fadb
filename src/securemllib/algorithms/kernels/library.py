"""The compiled libraries, one a C file: each loaded once, its functions by name with the types of their arguments.

The only module of the algorithms that calls C. Arrays are checked before their addresses are passed, so that a wrong type is an
error here and not a stray read there. `ctypes` lets go of the interpreter's lock during a call.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["INTEGER", "LANES", "REAL", "array_of", "function", "padded", "status"]

_FOLDER = __file__.rpartition("/")[0]

INTEGER = ctypes.c_int64
REAL = ctypes.c_double

# As in kernel.h: functions that read rows in lanes need as many columns.
LANES = 8


class array_of:  # noqa: N801 - it reads as a type: `array_of(np.float32)`
    """The type of an argument: the address of a C-contiguous array of one dtype.

    Args:
        dtype: Of the array.
        optional: Whether None may be passed, which is the null pointer.
        written: Whether the function writes to it, so that it must be writeable.
    """

    def __init__(self, dtype: DTypeLike, *, optional: bool = False, written: bool = False) -> None:
        self._dtype, self._optional, self._written = np.dtype(dtype), optional, written

    def from_param(self, value: Any) -> ctypes.c_void_p:
        """Return the address, as ctypes asks for it; `TypeError` where the array is another."""
        if value is None and self._optional:
            return ctypes.c_void_p(None)
        if not isinstance(value, np.ndarray) or value.dtype != self._dtype or not value.flags.c_contiguous:
            raise TypeError(f"a kernel needs a C-contiguous array of {self._dtype}")
        if self._written and not value.flags.writeable:
            raise TypeError("a kernel cannot write to this array")
        return ctypes.c_void_p(value.ctypes.data)


def _find() -> str:
    try:
        suffices = ctypes.CDLL(f"{_FOLDER}/libprocessor.so").processor_suffices()
    except OSError:
        return "numpy: no compiler built the kernels"
    return "compiled" if suffices else "numpy: this processor is older than the kernels need (x86-64-v3: AVX2, FMA, BMI2)"


_STATUS = _find()


def padded(columns: int) -> int:
    """Return the number of values in a row of sums in whole lanes."""
    return -(-columns // LANES) * LANES


def status() -> str:
    """Return ``compiled``, or ``numpy:`` and why."""
    return _STATUS


def function(library: str, name: str, *arguments: Any, result: Any = None) -> Callable[..., Any] | None:
    """Return a compiled function, or None where nothing is compiled and its numpy twin must do.

    Args:
        library: The C file's name without its suffix.
        name: As in the C file.
        arguments: `array_of`, `INTEGER` or `REAL`, in the order of the C function.
        result: `REAL`, `INTEGER` or None for nothing.
    """
    if _STATUS != "compiled":
        return None
    try:
        found = getattr(ctypes.CDLL(f"{_FOLDER}/lib{library}.so"), name)
    except (OSError, AttributeError):
        raise ImportError(
            f"The compiled lib{library}.so has no {name}: it is older than its source. Run `make setup`, or install the package again."
        ) from None
    found.argtypes, found.restype = arguments, result
    return found  # type: ignore[no-any-return]
