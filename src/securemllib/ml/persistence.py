"""Saved estimators and models: sealed bytes beside JSON that is read strictly; no saved text names a class to import."""

import json
from typing import Any, ClassVar, Self

from pyspark.ml.linalg import DenseMatrix, DenseVector, Matrix, Vector
from pyspark.ml.param import Params

from securemllib.errors import FormatError, UsageError
from securemllib.spark.blocks import copy_pieces, copy_statistics
from securemllib.spark.storage import Folder
from securemllib.wire.result import SealedModel

__all__ = ["KINDS", "Persistent", "Reader", "Writer", "load_any", "write_to"]

_FORMAT = "securemllib/ml/v1"
_METADATA = "metadata.json"
_MODEL = "model.sml"
_FIELDS = frozenset({"format", "kind", "uid", "params", "stages", "extra"})

# Params that hold stages, which are saved as such.
_STAGE_PARAMS = frozenset({"stages", "estimator", "evaluator", "estimatorParamMaps", "classifier"})

# What can be loaded, by its saved name; classes enter themselves when they are defined.
KINDS: dict[str, type["Persistent"]] = {}


class Persistent:
    """A class whose instances can be saved and loaded."""

    KIND: ClassVar[str]

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if not cls.__name__.startswith("Secure"):
            cls.KIND = cls.__name__
            KINDS[cls.__name__] = cls

    def write(self) -> "Writer":
        """Return what saves this instance."""
        return Writer(self)

    def save(self, path: str) -> None:
        """Save to a new folder."""
        self.write().save(path)

    def with_options(self, options: dict[str, str]) -> "Persistent":
        """Return what is saved with options of pyspark.ml's writers, by lower-case name; `UsageError` for one that there is not."""
        if options:
            raise UsageError(f"A saved {type(self).__name__} has no option {min(options)!r}.", code="usage.unsupported")
        return self

    @classmethod
    def read(cls) -> "Reader":
        """Return what loads instances of this class."""
        return Reader(cls)

    @classmethod
    def load(cls, path: str) -> Self:
        """Return the instance that was saved to a folder."""
        loaded: Self = cls.read().load(path)
        return loaded


class Writer:
    """Saves one instance, as pyspark.ml's ``MLWriter``."""

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._overwrites = False
        self._options: dict[str, str] = {}

    def option(self, key: str, value: Any) -> "Writer":
        """Set an option, as pyspark.ml's writers have them: ``persistSubModels`` of tuned models."""
        self._options[key.lower()] = str(value).lower()
        return self

    def format(self, source: str) -> "Writer":
        """Accept ``internal``, the format of this package; `UsageError` for others, which would hold the model in the clear."""
        if source != "internal":
            raise UsageError(
                f"A sealed {type(self._instance).__name__} is not written as {source}.",
                next_step="Release it, if the owners' policies allow it, and write what is released.",
                code="usage.unsupported",
            )
        return self

    def overwrite(self) -> "Writer":
        """Replace what is at the path."""
        self._overwrites = True
        return self

    def save(self, path: str) -> None:
        """Write the folder; `UsageError` where there is one and `overwrite` was not asked for."""
        folder, instance = Folder.of(path), self._instance.with_options(self._options)
        if folder.exists(""):
            if not self._overwrites:
                raise UsageError(
                    f"Path {folder.root} already exists.", next_step="Use write().overwrite().save(path).", code="usage.exists"
                )
            if not folder.exists(_METADATA) and not folder.is_empty():
                raise UsageError(
                    f"{folder.root} holds something else than a saved model.", next_step="Choose another path.", code="usage.exists"
                )
            folder.delete()
        write_to(folder, instance)


class Reader:
    """Loads instances of one class, as pyspark.ml's ``MLReader``."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls

    def load(self, path: str) -> Any:
        """Return the instance; `UsageError` where there is no folder, `FormatError` where it holds another kind."""
        folder = Folder.of(path)
        if not folder.exists(""):
            raise UsageError(f"Path does not exist: {folder.root}", next_step="Load what `save` wrote.", code="usage.not_found")
        return load_any(folder, self._cls)


def write_to(folder: Folder, instance: Any) -> None:
    """Write an instance, its stages first and its metadata last: a folder without metadata is no saved model."""
    stages = _stages_of(instance)
    names = [f"{index}_{stage.uid}" for index, stage in enumerate(stages)]
    for name, stage in zip(names, stages, strict=True):
        if not isinstance(stage, Persistent):
            raise UsageError(f"The stage {stage.uid} is not one of this package and cannot be saved.")
        write_to(folder.child("stages").child(name), stage)
    if hasattr(type(instance), "OPERATION") and getattr(instance, "given", None) is None:
        copy_pieces(instance.sealed, instance._pieces, folder)
        copy_statistics(instance._pieces, folder)
        folder.write(_MODEL, instance.sealed.to_bytes())
    metadata = {
        "format": _FORMAT,
        "kind": type(instance).KIND,
        "uid": instance.uid,
        "params": {param.name: _plain(instance.getOrDefault(param)) for param in instance.params if _is_saved(instance, param)},
        "stages": names,
        "extra": getattr(instance, "saved_extra", None) if hasattr(type(instance), "saved_extra") else None,
    }
    folder.write(_METADATA, json.dumps(metadata, sort_keys=True).encode())


def load_any(folder: Folder, expected: type[Any]) -> Any:
    """Return the instance of a folder, of the expected class or below it.

    Raises:
        FormatError: The metadata is not what `write_to` writes, or of another class.
    """
    metadata = _metadata(folder)
    cls = KINDS.get(metadata["kind"])
    if cls is None or not issubclass(cls, expected):
        advice = None if cls is None else f"Load it with `{cls.__name__}.load`."
        raise FormatError(f"{folder.root} holds a {metadata['kind']!r}, not a {expected.__name__}.", next_step=advice)
    stages = [load_any(folder.child("stages").child(_plain_name(name)), Persistent) for name in metadata["stages"]]
    instance = _instance(cls, folder, stages, metadata["extra"])
    try:
        for name, value in metadata["params"].items():
            instance._set(**{name: _rich(value)})
    except (TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"The metadata in {folder.root} has a Param that a {metadata['kind']} does not take.") from error
    return instance._resetUid(metadata["uid"])


def _instance(cls: Any, folder: Folder, stages: list[Any], extra: Any) -> Any:
    if hasattr(cls, "restored"):
        return cls.restored(stages, extra)
    if hasattr(cls, "restore"):
        instance = cls()
        instance.restore(stages, extra)
        return instance
    if _holds(cls):
        return cls(stages=stages)
    if stages:
        raise FormatError(f"A {cls.KIND} has no stages.")
    if not hasattr(cls, "OPERATION"):
        return cls()
    if extra is not None:
        return cls.from_saved(extra)
    sealed = SealedModel.from_bytes(folder.read(_MODEL))
    if sealed.operation != cls.OPERATION:
        raise FormatError(f"{folder.root} holds a sealed model of {sealed.operation}, not a {cls.KIND}.")
    instance = cls(sealed)
    instance._pieces = folder
    return instance


def _metadata(folder: Folder) -> dict[str, Any]:
    try:
        metadata = json.loads(folder.read(_METADATA))
    except ValueError as error:
        raise FormatError(f"{_METADATA} in {folder.root} is no JSON.") from error
    if not isinstance(metadata, dict) or metadata.keys() != _FIELDS or metadata["format"] != _FORMAT:
        raise FormatError(f"{_METADATA} in {folder.root} is not of the format {_FORMAT}.")
    texts = [metadata["kind"], metadata["uid"], *(metadata["stages"] if isinstance(metadata["stages"], list) else [None])]
    if not all(isinstance(text, str) for text in texts) or not isinstance(metadata["params"], dict):
        raise FormatError(f"{_METADATA} in {folder.root} has a value outside of its field's type.")
    return metadata


def _plain_name(name: str) -> str:
    if not name.replace("_", "").replace("-", "").isalnum():
        raise FormatError(f"{name!r} is no name of a stage.")
    return name


def _stages_of(instance: Any) -> list[Any]:
    return list(instance.saved_stages) if _holds(type(instance)) else []


def _holds(cls: type[Any]) -> bool:
    # Asked of the class: a sealed model refuses names that it does not have.
    return hasattr(cls, "saved_stages")


def _is_saved(instance: Params, param: Any) -> bool:
    return instance.isSet(param) and param.name not in _STAGE_PARAMS


def _plain(value: Any) -> Any:
    if isinstance(value, Vector):
        return {"vector": value.toArray().tolist()}
    if isinstance(value, Matrix):
        return {"matrix": value.toArray().tolist()}
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"vector"}:
        return DenseVector(value["vector"])
    if isinstance(value, dict) and value.keys() == {"matrix"}:
        rows = value["matrix"]
        return DenseMatrix(len(rows), len(rows[0]), [row[column] for column in range(len(rows[0])) for row in rows])
    return value
