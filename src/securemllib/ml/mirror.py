"""The one place where a class here takes over its pyspark.ml original's public face: constructor, Params and setters.

pyspark.ml writes each list of Params several times, and its classes create Java objects; here the lists are read from the originals, so
that names, documentation and converters are theirs by construction.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from pyspark.ml.linalg import Matrix, Vector
from pyspark.ml.param import Param, Params

from securemllib.errors import SealedError, UsageError

__all__ = ["converted", "frozen", "mirrors", "refuse_sealed"]

C = TypeVar("C", bound=type)

# What Java's long holds from its negative on.
_LONG = 2**63


def mirrors(original: type[Any]) -> Callable[[C], C]:
    """Give a class the Params, their getters and setters, and the constructor signature of its original.

    What the class or its bases define themselves stays as it is.
    """

    def decorate(cls: C) -> C:
        cls.ORIGINAL = original  # type: ignore[attr-defined]
        for name, value in vars(original).items():
            if (isinstance(value, Param) or _is_of_param(name, "get", original)) and not hasattr(cls, name):
                setattr(cls, name, value)
        for name in dir(original):
            if _is_of_param(name, "set", cls) and not hasattr(cls, name):
                setattr(cls, name, _setter(name, _param_of(name)))
        if "__init__" in vars(original) and hasattr(original, "setParams"):
            _take_constructor(cls, original)
        return cls

    return decorate


def refuse_sealed(instance: object, name: str, original: type[Any]) -> Any:
    """Raise `SealedError` for a name that the original has, AttributeError for every other one."""
    if not name.startswith("_") and hasattr(original, name):
        raise SealedError(
            f"`{name}` of a sealed {type(instance).__name__} exists in the clear only inside enclaves.",
            next_step="Use `release()`, if the owners' policies allow it, and read it from the plain model.",
        )
    raise AttributeError(f"{type(instance).__name__!r} object has no attribute {name!r}")


def converted(params: Params, name: str) -> Any:
    """Return a Param's value as a job carries it, None where it is neither set nor has a default.

    Raises:
        UsageError: It is an integer of more than 64 bits.
    """
    if not params.hasParam(name) or not params.isDefined(name):
        return None
    value = params.getOrDefault(name)
    if isinstance(value, int) and not -_LONG <= value < _LONG:
        raise UsageError(f"{name} has more than the 64 bits of Spark's largest integers.", code="usage.param")
    return frozen(value.toArray().tolist() if isinstance(value, (Matrix, Vector)) else value)


def frozen(value: Any) -> Any:
    """Return a value with tuples in the place of lists."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def _param_of(name: str) -> str:
    """Return the name of the Param that a getter or setter would be of."""
    return name[3:4].lower() + name[4:]


def _is_of_param(name: str, prefix: str, cls: type[Any]) -> bool:
    """Return whether a name is that of a Param's getter or setter: a ``getVectors`` of a model is none, and reads its Java object."""
    return name.startswith(prefix) and isinstance(getattr(cls, _param_of(name), None), Param)


def _setter(name: str, param: str) -> Callable[[Any, Any], Any]:
    def set_param(self: Any, value: Any) -> Any:
        return self._set(**{param: value})

    set_param.__name__ = name
    set_param.__qualname__ = name
    set_param.__doc__ = f"Sets the value of `{param}`."
    return set_param


def _take_constructor(cls: type[Any], original: type[Any]) -> None:
    inherited = cls.__init__
    accepted = inspect.signature(original.__init__).parameters.keys() - {"self"}

    def check(given: dict[str, Any], where: str) -> dict[str, Any]:
        if unknown := given.keys() - accepted:
            raise TypeError(f"{cls.__name__}.{where} got an unexpected keyword argument {min(unknown)!r}")
        return {name: value for name, value in given.items() if value is not None}

    def construct(self: Any, **params: Any) -> None:
        given = check(params, "__init__")
        inherited(self)
        self._set(**given)
        if hasattr(self, "_checkThresholdConsistency"):
            self._checkThresholdConsistency()

    def setParams(self: Any, **params: Any) -> Any:
        self._set(**check(params, "setParams"))
        if hasattr(self, "_checkThresholdConsistency"):
            self._checkThresholdConsistency()
        return self

    construct.__signature__ = inspect.signature(original.__init__)  # type: ignore[attr-defined]
    setParams.__signature__ = inspect.signature(original.setParams)  # type: ignore[attr-defined]
    setParams.__doc__ = f"Sets params of {cls.__name__}."
    cls.__init__ = construct  # pyrefly: ignore
    cls.setParams = setParams
