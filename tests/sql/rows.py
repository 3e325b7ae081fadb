"""Comparing what was opened with what plain Spark gave."""

import datetime as dt
import decimal
import math

__all__ = ["same_rows"]

# Spark's average of a decimal(12, 2) has six digits after the point, ours is a double.
DIGITS = 6


def same_rows(opened, expected, *, ordered):
    """Check that two tables have the same columns and rows, in the same order where that is asked for."""
    assert opened.column_names == expected.column_names
    ours, theirs = (_rows(table, ordered) for table in (opened, expected))
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert all(map(_same, one, other)), (one, other)


def _rows(table, ordered):
    found = [tuple(map(_plain, row.values())) for row in table.to_pylist()]
    return found if ordered else sorted(found, key=repr)


def _plain(value):
    if isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool):
        return round(float(value), DIGITS)
    return value.isoformat() if isinstance(value, dt.date) else value


def _same(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=2 * 10.0**-DIGITS)
    return one == other
