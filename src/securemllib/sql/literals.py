"""The texts of a query's literals, which an agent encodes as values of the columns that they are compared with."""

import numpy as np
from sqlglot import exp

from securemllib.sql.parsing import number, unsupported

__all__ = ["is_text", "text_of"]

_TIMES = frozenset({exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPLTZ, exp.DType.TIMESTAMPNTZ})
_BITS = {exp.DType.TINYINT: 8, exp.DType.SMALLINT: 16, exp.DType.INT: 32, exp.DType.BIGINT: 64}


def text_of(node: exp.Expr) -> str:
    """Return a literal's text; `UsageError` for an expression that is none."""
    if isinstance(node, exp.Literal):
        return str(node.this)
    if isinstance(node, exp.Boolean):
        return str(node.this).lower()
    if isinstance(node, exp.Neg):
        return f"-{text_of(node.this)}"
    if isinstance(node, exp.Paren):
        return text_of(node.this)
    if isinstance(node, exp.Cast) and (text := _cast(node)):
        return text
    raise unsupported(f"Comparing a column with {node.key.upper()}")


def is_text(node: exp.Expr) -> bool:
    """Return whether an expression is a literal of a text."""
    return isinstance(node, exp.Literal) and bool(node.is_string)


def _cast(node: exp.Cast) -> str:
    """Return the text of a literal's cast that keeps its value, as ``DATE '2024-01-31'`` and ``5L``, or is to FLOAT; else an empty one."""
    target, value = node.to.this, node.this
    if isinstance(value, exp.Neg):
        opposite = _cast(exp.Cast(this=value.this, to=node.to))
        return opposite and f"-{opposite}"
    if not isinstance(value, exp.Literal):
        return ""
    text = str(value.this)
    if value.is_string:
        kept = target in _TIMES or (target == exp.DType.DATE and len(text) == len("2024-01-31"))
    elif target == exp.DType.FLOAT:
        return str(float(np.float32(text)))
    elif target == exp.DType.DOUBLE:
        kept = number(text) == float(text)
    else:
        kept = target in _BITS and text.isdigit() and int(text) < 2 ** (_BITS[target] - 1)
    return text if kept else ""
