"""String indexing: texts to category indices, ordered by frequency or alphabet.

Objective: with the distinct texts of a column in the chosen order, ``output = position of the text``.

Equivalence: ``pyspark.ml.feature.StringIndexer``: nulls and NaN are not counted, numbers are read as Spark casts them to
text, equal frequencies are ordered by the alphabet, and the alphabet is that of Spark SQL (UTF-8 bytes).

Cost: one pass; each part is dictionary-encoded, so that only its distinct texts are compared. Statistics are the distinct texts and
their counts, at most `MAX_VALUES` of them a column.

Reveals: with mode="enclave" the number of rows, and by the size of sealed messages about how much text the distinct values hold.
With mode="partitioned" the same: texts and their counts are merged inside enclaves, and leave only with a released model.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.counts import TextCounts
from securemllib.algorithms.feature.values import index_in, inputs_of, refuse_invalid, texts
from securemllib.algorithms.params import require_choice
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import DataError, UsageError

__all__ = ["StringIndexer", "StringIndexerModel", "StringIndexerState", "StringIndexerStatistics"]

_ORDERS = ("frequencyDesc", "frequencyAsc", "alphabetDesc", "alphabetAsc")
_INVALID = ("error", "skip", "keep")

# What MLlib calls the category of unseen labels.
_UNKNOWN = "__unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class StringIndexerStatistics:
    """The counted texts of each column."""

    columns: tuple[TextCounts, ...]

    def __add__(self, other: Self) -> Self:
        return type(self)(columns=tuple(one + two for one, two in zip(self.columns, other.columns, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StringIndexerState:
    """The counted texts of all rows, None before the only round."""

    total: StringIndexerStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StringIndexerModel:
    """The ordered labels of each column.

    Attributes:
        labels: Of each column.
        handle_invalid: What happens to unseen labels and nulls.
        present: Which columns there are to be indexed, where some are missing (a label, when predictions are made); None for all.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("handle_invalid", "present")

    labels: tuple[tuple[str, ...], ...]
    handle_invalid: str
    present: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require_choice(self, "handle_invalid", _INVALID)
        if self.present is not None and not all(0 <= index < len(self.labels) for index in self.present):
            raise UsageError(f"The model has {len(self.labels)} columns.", code="usage.param")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: the index of each label; unseen ones as `handle_invalid` says."""
        present = range(len(self.labels)) if self.present is None else self.present
        if len(columns) != len(present):
            raise DataError(f"The model indexes {len(present)} columns, not {len(columns)}.", code="data.length")
        outputs: dict[str, Column] = {}
        kept = np.ones(columns[0].rows if columns else 0, dtype=bool)
        for index, column in zip(present, columns, strict=True):
            labels = self.labels[index]
            found, unseen = index_in(texts(column, f"input{index}"), pa.array(labels, pa.large_string()))
            if self.handle_invalid == "error":
                refuse_invalid(unseen, "a null, or a label that the StringIndexer has not seen")
            elif self.handle_invalid == "keep":
                found, labels = np.where(unseen, len(labels), found), (*labels, _UNKNOWN)
            else:
                kept &= ~unseen
            outputs[f"output{index}"] = Column(pa.array(found.astype(np.float64)), arity=np.array([len(labels)]), labels=labels)
        return Transformed(columns=outputs, keep=kept if self.handle_invalid == "skip" else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StringIndexer:
    """Params of ``pyspark.ml.feature.StringIndexer``."""

    string_order_type: str = "frequencyDesc"
    handle_invalid: str = "error"

    def __post_init__(self) -> None:
        require_choice(self, "string_order_type", _ORDERS)
        require_choice(self, "handle_invalid", _INVALID)

    def initial(self, summary: Summary, seed: Seed) -> StringIndexerState:
        """Return the empty state."""
        del summary, seed
        return StringIndexerState()

    def is_done(self, state: StringIndexerState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: StringIndexerState, block: Block) -> StringIndexerStatistics:
        """Return the counted texts of the block."""
        del state
        columns = (texts(array, f"input{index}") for index, array in enumerate(inputs_of(block)))
        return StringIndexerStatistics(columns=tuple(map(TextCounts.of, columns)))

    def update(self, state: StringIndexerState, total: StringIndexerStatistics) -> StringIndexerState:
        """Return the finished state."""
        del state
        return StringIndexerState(total=total)

    def to_model(self, state: StringIndexerState) -> StringIndexerModel:
        """Return the model."""
        if state.total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        return StringIndexerModel(labels=tuple(map(self._ordered, state.total.columns)), handle_invalid=self.handle_invalid)

    def _ordered(self, counted: TextCounts) -> tuple[str, ...]:
        pairs = list(zip(counted.values.to_pylist(), counted.counts[:, 0].tolist(), strict=True))
        if self.string_order_type == "alphabetDesc":
            pairs.reverse()
        elif self.string_order_type != "alphabetAsc":
            sign = 1 if self.string_order_type == "frequencyAsc" else -1
            pairs.sort(key=lambda pair: sign * pair[1])
        return tuple(label for label, _ in pairs)
