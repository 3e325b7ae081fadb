"""Checks of Params: each returns None or raises UsageError with the Param's pyspark.ml name and domain."""

import math
from collections.abc import Collection
from typing import Any

from securemllib.errors import UsageError

__all__ = ["require_bool", "require_choice", "require_integer", "require_number"]


def require_number(params: Any, field: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Store an integer as float, and raise unless the Param is a number with ``low <= value <= high``; NaN never is."""
    value = getattr(params, field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{field} must be a number, not a {type(value).__name__}", code="usage.param")
    if not low <= value <= high:
        raise UsageError(f"{field} must be in [{low:g}, {high:g}], not {value}", code="usage.param")
    object.__setattr__(params, field, float(value))


def require_integer(params: Any, field: str, low: int, high: float = math.inf) -> None:
    """Raise unless the Param is an integer with ``low <= value <= high``."""
    value = getattr(params, field)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{field} must be an integer, not a {type(value).__name__}", code="usage.param")
    if not low <= value <= high:
        raise UsageError(f"{field} must be in [{low}, {high}], not {value}", code="usage.param")


def require_bool(params: Any, *names: str) -> None:
    """Raise unless each Param is True or False."""
    for field in names:
        if not isinstance(getattr(params, field), bool):
            raise UsageError(f"{field} must be True or False", code="usage.param")


def require_choice(params: Any, field: str, choices: Collection[str]) -> None:
    """Raise unless the Param is one of the choices."""
    value = getattr(params, field)
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f"{field} must be one of {', '.join(choices)}, not {value!r}", code="usage.param")
