"""What a data frame of Spark shows, and a sealed one refuses."""

from typing import Any, NoReturn

from pyspark.sql import DataFrame

from securemllib.errors import SealedError, UsageError

__all__ = ["RefusesRows"]

_RELEASE = "Rows leave through `release(to=..., columns=[...])` where the owner's policy names the recipient and the columns."


class RefusesRows:
    """A frame whose rows cannot be seen: whatever Spark's has and this one does not is refused by name, with the way that rows leave."""

    def __getattr__(self, name: str) -> Any:
        if name == "_jdf":
            raise UsageError(
                "The classes of pyspark compute on rows in the clear, in Spark, which gets none of a sealed data frame.",
                next_step="Import the class of the same name from securemllib.ml.",
                code="usage.stage",
            )
        if not name.startswith("_") and hasattr(DataFrame, name):
            raise SealedError(f"A sealed data frame has no `{name}`: its rows exist in the clear only inside enclaves.", next_step=_RELEASE)
        raise AttributeError(f"A sealed data frame has no column or method {name!r}.")

    def __iter__(self) -> NoReturn:
        raise SealedError("The rows are sealed and cannot be iterated over.", next_step=_RELEASE)


def _refusing(name: str) -> Any:
    def refuse(self: RefusesRows, *arguments: Any, **named: Any) -> NoReturn:
        del self, arguments, named
        raise SealedError(f"`{name}` would show rows, which exist in the clear only inside enclaves.", next_step=_RELEASE)

    refuse.__name__ = name
    refuse.__doc__ = f"Refuse: `{name}` would show rows."
    return refuse


# Named one by one so that completion shows them; every other method of a plain data frame is refused by `__getattr__`.
for _name in (
    "collect",
    "foreach",
    "foreachPartition",
    "head",
    "first",
    "show",
    "tail",
    "take",
    "toArrow",
    "toJSON",
    "toLocalIterator",
    "toPandas",
):
    setattr(RefusesRows, _name, _refusing(_name))
