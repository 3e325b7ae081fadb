"""Frozen dataclasses to trees of plain values and back, strictly.

A tree holds only ``dict`` with string keys, ``list``, ``int``, ``float``, ``bool``, ``None``, ``bytes`` and ``str``:
what a canonical binary encoding can carry. The class that is expected is an argument of `from_tree`, never part of the
tree, so bytes cannot choose what they become.

Copying the bytes of large arrays into a tree and out again costs more than adding them up, so `pack` leaves them where they are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from securemllib.errors import FormatError, UsageError

__all__ = ["MAX_DIMENSIONS", "Packed", "from_tree", "pack", "to_tree", "unpack"]

T = TypeVar("T")

# The dtypes that algorithms use, in their little-endian spelling; an object dtype would be a pointer.
_DTYPES = {text: np.dtype(text) for text in ("<f8", "<f4", "<i8", "<i4", "<u8", "<u4", "|u1", "|i1", "|b1")}

# No algorithm has a tensor of a higher order; numpy itself stops at 64.
MAX_DIMENSIONS = 4
_LARGEST_SIZE = int(np.iinfo(np.intp).max)
_ARRAY_FIELDS = {"dtype", "shape", "data"}
# Copying less than this costs less than sealing a message of two parts.
_PACKED_BYTES = 16 << 10

_SCALARS: dict[type[Any], Callable[[Any], bool]] = {
    bool: lambda value: type(value) is bool,
    int: lambda value: type(value) is int,
    float: lambda value: type(value) is float,
    str: lambda value: type(value) is str,
    bytes: lambda value: type(value) is bytes,
    NoneType: lambda value: value is None,
}


@dataclass(frozen=True, slots=True)
class Packed:
    """A tree beside the bytes of its large arrays.

    Attributes:
        tree: The tree; in the place of such bytes it has their position among the arrays.
        arrays: The bytes, not copied.
    """

    tree: Any
    arrays: tuple[memoryview, ...] = ()


def pack(value: Any) -> Packed:
    """Return a value's tree and, beside it, read-only views of its large arrays; arguments and errors as those of `to_tree`."""
    arrays: list[memoryview] = []
    return Packed(to_tree(value, arrays), tuple(arrays))


def unpack(cls: type[T], packed: Packed) -> T:
    """Return the ``cls`` that a packed tree stands for; `FormatError` as from `from_tree`."""
    return from_tree(cls, _filled(packed.tree, packed.arrays))


def _filled(tree: Any, arrays: tuple[memoryview, ...]) -> Any:
    if type(tree) is list:
        return [_filled(item, arrays) for item in tree]
    if type(tree) is not dict:
        return tree
    if tree.keys() == _ARRAY_FIELDS and type(index := tree["data"]) is int:
        if not 0 <= index < len(arrays):
            raise FormatError(f"the tree has {len(arrays)} large arrays, none of them {index}")
        return {**tree, "data": arrays[index]}
    return {name: _filled(item, arrays) for name, item in tree.items()}


def to_tree(value: Any, aside: list[memoryview] | None = None) -> Any:
    """Return the tree of a dataclass, array, tuple or scalar.

    Args:
        value: What it is the tree of.
        aside: Where views of large arrays go, instead of their bytes into the tree.

    Raises:
        UsageError: The value holds something that has no tree.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_tree(getattr(value, field.name), aside) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return _array_tree(value, aside)
    if isinstance(value, tuple):
        return [to_tree(item, aside) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in _SCALARS:
        return value
    raise UsageError(f"a value of type {type(value).__name__} has no tree")


def from_tree(cls: type[T], tree: Any) -> T:
    """Return the ``cls`` that a tree stands for; arrays are read-only views of the tree's bytes.

    Raises:
        FormatError: The tree is not one that `to_tree` makes of a ``cls``.
    """
    value: T = _decode(cls, tree, cls.__name__)
    return value


def _array_tree(array: NDArray[Any], aside: list[memoryview] | None) -> dict[str, Any]:
    little = array.dtype.newbyteorder("<").str
    if little not in _DTYPES or array.ndim > MAX_DIMENSIONS:
        raise UsageError(f"an array of dtype {array.dtype} and {array.ndim} dimensions has no tree")
    whole = np.ascontiguousarray(array, dtype=_DTYPES[little])
    data: bytes | int
    if aside is None or whole.nbytes < _PACKED_BYTES:
        data = whole.tobytes()
    else:
        data = len(aside)
        aside.append(whole.reshape(-1).view(np.uint8).data.toreadonly())
    return {"dtype": little, "shape": list(array.shape), "data": data}


def _array(tree: Any, where: str) -> NDArray[Any]:
    _keys(tree, _ARRAY_FIELDS, where)
    kind, shape, data = tree["dtype"], tree["shape"], tree["data"]
    if type(kind) is not str or kind not in _DTYPES:
        raise FormatError(f"{where} has no known dtype")
    if type(shape) is not list or len(shape) > MAX_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
        raise FormatError(f"{where} has no valid shape")
    if type(data) not in {bytes, memoryview} or len(data) != math.prod(shape) * _DTYPES[kind].itemsize:
        raise FormatError(f"{where} does not have as many bytes as its shape needs")
    # An empty array may claim huge sizes beside its 0: numpy refuses strides that it cannot count.
    if math.prod(max(size, 1) for size in shape) * _DTYPES[kind].itemsize > _LARGEST_SIZE:
        raise FormatError(f"{where} has no valid shape")
    if kind == "|b1" and np.frombuffer(data, dtype=np.uint8).max(initial=0) > 1:
        raise FormatError(f"{where} has a boolean that is neither 0 nor 1")
    return np.frombuffer(data, dtype=_DTYPES[kind]).reshape(shape)


def _keys(tree: Any, expected: set[str], where: str) -> None:
    if type(tree) is not dict or set(tree) != expected:
        raise FormatError(f"{where} does not have exactly its {len(expected)} fields")


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _decode(kind: Any, tree: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _union(get_args(kind), tree, where)
    if origin is tuple:
        return _tuple(get_args(kind), tree, where)
    if kind is np.ndarray or origin is np.ndarray:
        return _array(tree, where)
    if is_dataclass(kind):
        return _dataclass(kind, tree, where)
    if kind in _SCALARS:
        if not _SCALARS[kind](tree):
            raise FormatError(f"{where} is not of type {kind.__name__}")
        return tree
    raise UsageError(f"{where} has a type that no tree can hold")


def _dataclass(kind: Any, tree: Any, where: str) -> Any:
    hints = _hints(kind)
    _keys(tree, set(hints), where)
    values = {name: _decode(hint, tree[name], f"{where}.{name}") for name, hint in hints.items()}
    try:
        return kind(**values)
    except (UsageError, TypeError, ValueError) as error:
        raise FormatError(f"{where} is not a valid {kind.__name__}") from error


def _tuple(kinds: tuple[Any, ...], tree: Any, where: str) -> tuple[Any, ...]:
    if type(tree) is not list:
        raise FormatError(f"{where} is not a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_decode(kinds[0], item, f"{where}[]") for item in tree)
    if len(tree) != len(kinds):
        raise FormatError(f"{where} does not have {len(kinds)} items")
    return tuple(_decode(kind, item, f"{where}[]") for kind, item in zip(kinds, tree, strict=True))


def _union(kinds: tuple[Any, ...], tree: Any, where: str) -> Any:
    if tree is None and NoneType in kinds:
        return None
    for kind in (kind for kind in kinds if kind is not NoneType):
        try:
            return _decode(kind, tree, where)
        except FormatError:
            continue
    raise FormatError(f"{where} is none of its {len(kinds)} types")
