"""Released feature models in the clear, with the attributes that pyspark.ml's models have."""

from typing import Any

__all__ = ["PlainOneHotEncoderModel", "PlainStringIndexerModel"]


class _Plain:
    """A released model.

    Args:
        model: The algorithm's own model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model


class PlainStringIndexerModel(_Plain):
    """The labels of a string indexing."""

    @property
    def labels(self) -> list[str]:
        """Of the first column, in the order of their indices."""
        return list(self.model.labels[0])

    @property
    def labelsArray(self) -> list[tuple[str, ...]]:
        """Of each column."""
        return list(self.model.labels)


class PlainOneHotEncoderModel(_Plain):
    """The sizes of a one-hot encoding."""

    @property
    def categorySizes(self) -> list[int]:
        """The number of categories of each column, before `dropLast` and `handleInvalid` change it."""
        return [int(size) for size in self.model.sizes]
