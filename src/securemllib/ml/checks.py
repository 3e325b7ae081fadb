"""Checks before a job is sent: the conditions that pyspark.ml checks in Scala, and what this package does not support."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pyspark.ml.param import Params

from securemllib.algorithms.registry import ALGORITHMS, TRANSFORMERS, build, build_transformer, param_name
from securemllib.errors import UsageError
from securemllib.ml.mirror import converted
from securemllib.spark.column_types import is_number, is_vector
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.wire.plan import ParamValue

__all__ = ["inputs_of", "job_params", "require_columns", "require_domain", "require_new", "require_sealed"]


def inputs_of(params: Params, roles: dict[str, str]) -> dict[str, str]:
    """Return the columns by role of those column Params that are set or have a default, and are not empty.

    Args:
        params: An estimator, model or evaluator.
        roles: Roles by the names of column Params.
    """
    found = [(role, converted(params, name)) for name, role in roles.items()]
    return {role: column for role, column in found if column}


def require_sealed(dataset: Any, what: str) -> SecureDataFrame:
    """Return the dataset; `UsageError` where it is not sealed."""
    if isinstance(dataset, SecureDataFrame):
        return dataset
    raise UsageError(
        f"{what} takes a SecureDataFrame, not a {type(dataset).__name__}.",
        next_step="Read the encrypted dataset with `SecureSession.read(path)`; use pyspark.ml for data in the clear.",
        code="usage.not_sealed",
    )


def require_columns(frame: SecureDataFrame, inputs: dict[str, str]) -> None:
    """Raise unless each role's column exists and is of its kind; where the owner hides columns the enclave checks.

    Args:
        frame: The rows.
        inputs: Columns by role: ``features`` is a vector (or a number), every other role a number.
    """
    if not frame.has_schema:
        return
    schema = frame.schema
    for role, name in inputs.items():
        if name not in schema.names:
            raise UsageError(f"{name} does not exist. Available: {', '.join(schema.names)}", code="usage.column")
        kind = schema[name].dataType
        fits = is_vector(kind) or is_number(kind) if role == "features" else is_number(kind)
        if not fits:
            wanted = "a vector or a number" if role == "features" else "a number"
            raise UsageError(f"Column {name} must be {wanted} to serve as {role}, but is {kind.simpleString()}.", code="usage.column")


def require_new(frame: SecureDataFrame, *names: str) -> None:
    """Raise where an output column exists already, as pyspark.ml does."""
    if not frame.has_schema:
        return
    for name in names:
        if name in frame.schema.names:
            raise UsageError(f"Column {name} already exists.", next_step="Drop it, or choose another output column.", code="usage.column")


def job_params(operation: str, params: Params) -> dict[str, ParamValue]:
    """Return all Params that the algorithm or transformer of an operation reads, checked against their domains.

    Raises:
        UsageError: A value is out of its domain, or a Param that has no effect here was set.
    """
    known = [param_name(field.name) for field in fields(_class_of(operation)) if field.init]
    values = {name: converted(params, name) for name in known}
    given = {name: value for name, value in values.items() if value is not None or not params.hasParam(name) or not params.hasDefault(name)}
    for param in params.params:
        _refuse_ineffective(params, param.name, known)
    require_domain(operation, given)
    return given


def require_domain(operation: str, values: Mapping[str, ParamValue]) -> None:
    """Raise, by the names of pyspark.ml, unless an algorithm or transformer takes the values of its Params.

    Raises:
        UsageError: A value is out of its domain.
    """
    try:
        (build if operation in ALGORITHMS else build_transformer)(operation, values)
    except UsageError as error:
        raise UsageError(_renamed(operation, error.reason), next_step=error.next_step, code=error.error_code) from None


def _refuse_ineffective(params: Params, name: str, known: list[str]) -> None:
    if name in known or name == "seed" or name.endswith(("Col", "Cols")) or not params.isSet(name):
        return
    if params.hasDefault(name) and params.getOrDefault(name) == params._defaultParamMap[params.getParam(name)]:
        return
    raise UsageError(
        f"{name} has no effect on enclaves, so it is not accepted.", next_step="Leave it at its default.", code="usage.unsupported"
    )


def _renamed(operation: str, reason: str) -> str:
    for field in fields(_class_of(operation)):
        reason = reason.replace(field.name, param_name(field.name))
    return reason


def _class_of(operation: str) -> type[Any]:
    return ALGORITHMS[operation] if operation in ALGORITHMS else TRANSFORMERS[operation]
