"""The likelihood of documents under topics that were learned: how well they explain documents, held out or not.

Objective: ``logLikelihood``, the variational bound on the log likelihood of all documents, with the topics' own part once;
``logPerplexity``, its negative divided by the number of tokens.

Equivalence: ``logLikelihood`` and ``logPerplexity`` of ``pyspark.ml.clustering.LDAModel``. An enclave applied the model first; its
output ``likelihood`` holds each document's bound, its tokens and the topics' part.

Cost: none beyond the dataset's summary.

Reveals: with mode="enclave" the number of rows; the metric if the policy releases it. With mode="partitioned" the policy may let the
two sums be added outside, which reveals them.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import numpy as np

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["TopicEvaluation", "TopicEvaluator", "TopicState", "TopicStatistics"]

Metric = Literal["logLikelihood", "logPerplexity"]

_COLUMNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """What the summary says: the bound of all documents and topics, and the tokens."""

    log_likelihood: float
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicStatistics:
    """The number of rows: the summary already holds everything else."""

    rows: int

    def __add__(self, other: Self) -> Self:
        return type(self)(rows=self.rows + other.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicEvaluation:
    """Both metrics, and as ``value`` the one that was asked for."""

    SUMMARY: ClassVar[tuple[str, ...]] = ("value", "log_likelihood", "log_perplexity")

    value: float
    log_likelihood: float
    log_perplexity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicEvaluator:
    """The metric: ``logLikelihood`` or ``logPerplexity``."""

    metric_name: Metric = "logPerplexity"

    def __post_init__(self) -> None:
        if self.metric_name not in get_args(Metric):
            raise UsageError(f"metric_name must be one of {', '.join(get_args(Metric))}, not {self.metric_name!r}.")

    def initial(self, summary: Summary, seed: Seed) -> TopicState:
        """Return the finished state; a dataset without rows, or other columns than a model's likelihood, raise DataError."""
        del seed
        if not summary.weight_sum > 0.0:
            raise DataError("The dataset has no rows.", code="data.no_rows")
        if summary.columns != _COLUMNS:
            raise DataError(f"The likelihood of topics has {_COLUMNS} columns, not {summary.columns}.")
        documents, tokens, topics = (float(value) for value in summary.mean * np.array([summary.rows, summary.rows, 1.0]))
        return TopicState(log_likelihood=documents + topics, tokens=tokens)

    def is_done(self, state: TopicState) -> bool:
        """Return True: no round is needed."""
        del state
        return True

    def statistics(self, state: TopicState, block: Block) -> TopicStatistics:
        """Return the number of rows of the block."""
        del state
        return TopicStatistics(rows=block.rows)

    def update(self, state: TopicState, total: TopicStatistics) -> TopicState:
        """Return the state unchanged."""
        del total
        return state

    def to_model(self, state: TopicState) -> TopicEvaluation:
        """Return the metrics; documents without tokens have a perplexity that is no number, as in MLlib."""
        perplexity = -state.log_likelihood / state.tokens if state.tokens > 0.0 else float("nan")
        values = {"logLikelihood": state.log_likelihood, "logPerplexity": perplexity}
        return TopicEvaluation(value=values[self.metric_name], log_likelihood=state.log_likelihood, log_perplexity=perplexity)
