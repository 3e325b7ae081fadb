"""Reasons for the error codes that cross from an enclave: only the code does, the words are the host's."""

from securemllib.errors import CapacityError, SecureMLlibError, UnavailableError, error_from_code

__all__ = ["failure", "is_passing"]

_FILTER = "Filter the rows out, or replace the values with `withColumn`."
_TAMPERED = "The files were changed, moved or swapped after their owner made them: fetch the dataset again."

# By code; the longest prefix that is here counts.
_REASONS: dict[str, tuple[str, str | None]] = {
    "data": ("The rows do not fit the algorithm.", None),
    "data.outside": (
        "A value lies outside of a Bucketizer's splits, or a fold number outside of [0, numFolds).",
        "Let the first split be -inf and the last one inf; correct the column that foldCol names.",
    ),
    "data.pattern": (
        "A pattern may match otherwise in Java in some of the texts: letters beyond ASCII with \\b or \\B, or a final line end with $.",
        "Name the letters around the match in the pattern, or filter the rows.",
    ),
    "data.null": ("Columns that the job reads as numbers hold nulls or NaN.", 'Filter the rows, or set handleInvalid to "skip" or "keep".'),
    "data.no_rows": (
        "The rows that are left after all filters are none, or have no positive weight.",
        "Check the filters and the weight column.",
    ),
    "data.one_class": ("The labels have one class only.", "Train on rows of at least two classes."),
    "data.label": (
        "A label is not of the kind that the algorithm takes.",
        "Classifiers take labels 0, 1, 2, ...; regressions finite numbers, of lifetimes only numbers above 0.",
    ),
    "data.censor": ("A value of the censor column is neither 0 nor 1.", _FILTER),
    "data.weight": ("A weight is negative, NaN or infinite.", _FILTER),
    "data.distinct": ("A feature has too many distinct values for this algorithm.", "Round it with `withColumn`."),
    "data.large": (
        "Features, labels or weights are so large, or weights so small, that their squares and sums leave the numbers of float64.",
        "Keep them between 1e-150 and 1e150: scale the column, or filter the rows.",
    ),
    "data.no_columns": ("The vectors have no slots to learn from.", "Assemble at least one column."),
    "data.features": ("A feature is NaN or infinite.", _FILTER),
    "data.not_binary": ("Bernoulli naive Bayes takes features 0 and 1 only.", _FILTER),
    "data.negative": ("A feature is negative, which this algorithm does not take.", _FILTER),
    "data.column": ("A column that the plan reads does not exist, or is of another kind.", "Compare the plan with the dataset's schema."),
    "data.not_numeric": ("A column that is read as a number is none.", "Choose numeric or boolean columns."),
    "data.expression": ("An expression does not fit its columns' types or ranges.", "Cast the columns, or correct the expression."),
    "data.length": ("Vectors of one column differ in length.", None),
    "data.category": (
        "A category is no index, lies outside of the categories that its column has, or there are more than the operation counts.",
        "Index the column with one StringIndexer for all rows, or bucket its values.",
    ),
    "data.collapsed": (
        "A Gaussian component has no variance in any direction: all rows that it holds are equal.",
        "Use a smaller k, or leave out repeated rows.",
    ),
    "data.constant_label": (
        "The label is constant, and a model without intercept cannot be regularised.",
        "Set fitIntercept, or regParam to 0.",
    ),
    "data.diverged": (
        "The model does not fit the rows: its steps left the numbers.",
        "Scale the label and the features, or choose another family or link.",
    ),
    "data.id": ("An id of a user or an item is null, has a fraction or lies beyond 32 bits.", "Index the ids with StringIndexer."),
    "data.invalid": (
        "A value is null, NaN, or was not seen when the transformer was fitted.",
        'Filter the rows out, or set handleInvalid to "skip" or "keep".',
    ),
    "data.items": (
        "A list has an item twice, or there are more frequent sets of items than a model holds.",
        "Make the items of each list distinct, or raise minSupport.",
    ),
    "data.labels": ("The column carries no labels that its indices stand for.", "Set the Param labels."),
    "data.missing_column": ("The operation was not given a column that it reads.", "Set the Param that names the column."),
    "data.nodes": ("The graph has more nodes than a state holds.", "Cluster a part of the graph."),
    "data.output": ("A model does not read these columns, or has no such output.", "Compare the plan with the model's Params."),
    "data.param": ("The model has no such Param that may change.", "Compare the plan with the model's Params."),
    "data.rating": ("A rating is null, NaN or beyond the range of a float.", _FILTER),
    "data.singular": ("The normal equations have no single solution.", "Use a regParam greater than 0, or a lower rank."),
    "data.too_few_columns": ("The vectors have fewer slots than the number of components asked for.", "Use a smaller k."),
    "data.too_few_rows": ("A covariance or a correlation needs at least two rows.", "Check the filters."),
    "data.type": ("A column is of a type that the operation does not read.", "Cast the column, or choose another one."),
    "data.validation": ("No row of positive weight is marked for validation.", "Check the column that validationIndicatorCol names."),
    "data.vocabulary": (
        "A column has more distinct values than the operation counts, or no word is within minDF and maxDF.",
        "Lower minDF or raise maxDF; bucket the values, or use HashingTF.",
    ),
    "data.width": ("The rows have another number of features than those that the model was trained on.", "Assemble the same columns."),
    "data.one_cluster": ("All rows have the same predicted cluster.", "Evaluate a clustering of at least two clusters."),
    "data.zero_vector": ("Cosine distance is not defined for a vector of length zero.", _FILTER),
    "usage": ("The job's Params do not fit the data or each other.", None),
    "usage.param": ("A Param is out of its domain, or does not fit the number of classes or features.", "Correct the Param."),
    "usage.algorithm": (
        "The enclave has no operation of this name.",
        "Install the same version of securemllib everywhere, or take an enclave that was built with this --operation too.",
    ),
    "usage.job": ("The job does not fit what it goes on from, or its dataset.", "Read the dataset again, and train anew."),
    "usage.size": (
        "The terms times the topics, times the iterations of em, are more than a state holds.",
        "Use a smaller vocabulary, fewer topics or, for em, fewer iterations.",
    ),
    "usage.unsupported": ("A pattern or a locale is one that enclaves cannot work with as Java does.", "Write the pattern otherwise."),
    "integrity": ("Bytes are not what their owner or an enclave made.", None),
    "integrity.unseal": ("A part does not open: it is not the one that its owner made.", _TAMPERED),
    "integrity.part": ("A part is not the one that the manifest names.", _TAMPERED),
    "integrity.manifest": ("The manifest is not the one that the job names.", _TAMPERED),
    "integrity.cover": (
        "The statistics of a round were dropped, duplicated, relabelled or stale.",
        "Somebody interferes with the cluster's messages.",
    ),
    "integrity.freshness": ("A message or checkpoint is not the latest.", "Run the job again."),
    "integrity.freshness.checkpoint": (
        "The stored checkpoint is not the one that the broker recorded.",
        "Restore the storage, or run the job again.",
    ),
    "integrity.grant": ("The grant of keys was not for this enclave and job.", "Run the job again; check which broker answers."),
    "integrity.model": ("A sealed model is not the one that the job names.", "Load the model again."),
    "unavailable.capacity": ("A bound is too small for the work.", "Raise spark.securemllib.enclave.memory."),
    "unavailable.capacity.block": (
        "The rows of a part, as the algorithm reads them, are larger than the enclave's memory bound.",
        "Raise spark.securemllib.enclave.memory, or encrypt in smaller parts.",
    ),
    "unavailable.capacity.columns": ("A sparse vector has more columns than 67,108,864.", "Hash the features into fewer columns."),
    "unavailable.capacity.part": (
        "A part is larger than the enclave's memory bound.",
        "Raise spark.securemllib.enclave.memory, or encrypt in smaller parts.",
    ),
    "unavailable.capacity.memory": (
        "The enclave ran out of memory.",
        "Raise spark.securemllib.enclave.memory, set spark.securemllib.shares higher, or use fewer tasks a node.",
    ),
    "unavailable.session": ("The enclave holds no keys of the job.", None),
    "unavailable.storage": (
        "A file of the dataset or of the checkpoints cannot be read or written.",
        "Check that every executor reaches the path.",
    ),
    "unavailable.broker": (
        "The broker did not answer an executor in time.",
        "Check that every executor reaches spark.securemllib.broker.url.",
    ),
    "unavailable.enclave": (
        "An executor's enclave did not start or answer.",
        "Check that securemllib is installed on every node; run `securemllib doctor` there.",
    ),
    "refused": ("The broker refused keys to an enclave of the job.", None),
    "refused.tenant": (
        "An enclave serves another broker's tenant, and a process serves one.",
        "Let the operator start another `securemllib enclave serve` for this broker, and set spark.securemllib.enclave.address to it.",
    ),
    "refused.broker": (
        "An enclave refuses the broker's keys: the dataset's owner endorses other brokers.",
        "Use the broker that the owner names, or ask the owner to endorse this one.",
    ),
    "refused.attestation": ("An enclave's evidence does not satisfy the owner's appraisal policy.", None),
    "refused.policy": ("The owner's policy does not allow the job.", None),
    "refused.policy.group": (
        "A metric, a summary, or a group in a summary would be of fewer rows than the owner's policy asks for.",
        "Use more rows or fewer groups, or set spark.securemllib.summary to false.",
    ),
    "error.enclave": (
        "An enclave failed in a way that it does not name, because a name could hold a value.",
        "Report it with the job's id.",
    ),
}


def failure(code: str, needed: int = 0) -> SecureMLlibError:
    """Return the error of a code that came without words.

    Args:
        code: The code.
        needed: Bytes that would have fitted what did not, where the enclave says so.
    """
    found = [prefix for prefix in _REASONS if code == prefix or code.startswith(f"{prefix}.")]
    reason, step = _REASONS[max(found, key=len)] if found else ("The job failed.", None)
    if needed:
        reason += f" What did not fit has up to {_size(needed)}: spark.securemllib.enclave.memory has to be at least that."
    return error_from_code(code, reason, step)


def _size(count: int) -> str:
    """Return bytes as the settings spell them."""
    units = ("", "k", "m", "g", "t")
    power = min((count.bit_length() - 1) // 10, len(units) - 1)
    return f"{count >> 10 * power}{units[power]}"


def is_passing(error: SecureMLlibError) -> bool:
    """Return whether the same work may succeed when Spark runs it again, because a process was lost."""
    if isinstance(error, CapacityError) or error.error_code in {"unavailable.broker", "unavailable.storage"}:
        return False
    return isinstance(error, UnavailableError)
