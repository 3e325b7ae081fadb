"""The untrusted side: sessions, sealed data frames, and the engine that carries sealed rounds between enclaves.

Runs in: the Spark driver and its executors' Python tasks; the host.
Sees: ciphertext, sizes, timing, job specifications, and what a job's policy lets out.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securemllib.spark.dataframe import SecureDataFrame
    from securemllib.spark.session import SecureSession
    from securemllib.spark.sink import SealedStream

__all__ = ["SealedStream", "SecureDataFrame", "SecureSession"]

# What a driver works with is imported when it is asked for: a task that carries sealed bytes needs neither pandas nor pyspark.ml.
_MODULES = {"SealedStream": "sink", "SecureDataFrame": "dataframe", "SecureSession": "session"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
