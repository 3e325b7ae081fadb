"""Rows that a host scores without an enclave: the client encrypts them under CKKS, and opens the scores.

What the host sees: the model, whose coefficients it multiplies with; how many rows and features there are; and ciphertexts. It sees no row
and no score. Opened scores stay with the client: a CKKS result tells about the key to whoever knows the ciphertext and the exact numbers
behind the opened ones (Li and Micciancio, EUROCRYPT 2021), so nothing is opened into a directory that the host reads.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from securemllib.crypto.encodings.homomorphic import BLOCK_ROWS, SecretContext
from securemllib.errors import CoverError, DataError, FormatError, IntegrityError
from securemllib.owner.atomic import new_directory, outside
from securemllib.owner.keystore import Keystore
from securemllib.wire.companion import PUBLIC_CONTEXT, SECRET_CONTEXT
from securemllib.wire.encrypted_rows import REQUEST, ROWS_FILE, SCORE_COLUMNS, request_context

__all__ = ["encrypt_rows", "open_scores", "write_scores"]

_SCORES = pa.schema(list(zip(SCORE_COLUMNS, (pa.string(), pa.int64(), pa.int64(), pa.float64(), pa.binary()), strict=True)))


def encrypt_rows(table: pa.Table, features: list[str], directory: str | Path, *, keystore: Keystore) -> str:
    """Encrypt the features of rows into a new directory, for a host to score, and return the request's id.

    Args:
        table: The rows.
        features: The columns that the model reads: numbers without nulls.
        directory: The new directory.
        keystore: Keeps the request's secret.

    Raises:
        DataError: A feature is missing, holds a null, or a number beyond 2**30 or not finite.
    """
    for name in features:
        if name not in table.column_names or table[name].null_count:
            raise DataError(f"The feature {name!r} is missing, or null in some row.", code="data.features")
    if not features or not table.num_rows:
        raise DataError("A request has a row and a feature at least.", code="data.no_rows")
    request = os.urandom(16).hex()
    secret = keystore.add(request, "scores")
    pair = SecretContext.generate()
    metadata = {
        REQUEST: request,
        PUBLIC_CONTEXT: pair.public().hex(),
        SECRET_CONTEXT: pair.seal(secret, request_context(request)).hex(),
    }
    fields = [("block", pa.int64()), ("rows", pa.int64()), *((name, pa.large_binary()) for name in features)]
    schema = pa.schema(fields).with_metadata(metadata)
    try:
        with (
            new_directory(Path(directory)) as temporary,
            pq.ParquetWriter(temporary / ROWS_FILE, schema, compression="none", use_dictionary=False) as writer,
        ):
            for block, start in enumerate(range(0, table.num_rows, BLOCK_ROWS)):
                rows = table.slice(start, BLOCK_ROWS)
                ciphertexts = [pair.encode(rows[name].combine_chunks()).field("ciphertext") for name in features]
                writer.write_table(pa.table([pa.array([block]), pa.array([rows.num_rows]), *ciphertexts], schema=schema))
    except BaseException:
        keystore.forget(request)
        raise
    return request


def open_scores(scores: str | Path, request: str | Path, *, keystore: Keystore) -> NDArray[np.float64]:
    """Return the scores of a request's rows, in their order: the model's linear predictor, without a link function.

    1. The scores name this request, and each of its blocks once with as many rows as it has.
    2. Each score opens with the request's key, and its error is within the bound of `SecretContext.open`.

    Args:
        scores: The directory of the host's Parquet files.
        request: The directory that `encrypt_rows` made.
        keystore: Has the request's secret.

    Raises:
        IntegrityError: 1 or 2 does not hold.
    """
    source = pq.ParquetFile(Path(request) / ROWS_FILE)
    expected = source.read(columns=["block", "rows"])
    metadata = {name.decode(): value.decode() for name, value in (source.schema_arrow.metadata or {}).items()}
    identifier = metadata.get(REQUEST, "")
    try:
        sealed = bytes.fromhex(metadata[SECRET_CONTEXT])
        found = pq.read_table(Path(scores), columns=list(SCORE_COLUMNS)).cast(_SCORES).sort_by("block")
    except (KeyError, ValueError, pa.ArrowException):
        raise FormatError("The scores, or the rows that they are of, are not in the expected form.", code="integrity.result") from None
    if any(column.null_count for column in found.columns):
        raise FormatError("A score lacks a number, or its ciphertext.", code="integrity.result")
    if set(found["request"].to_pylist()) != {identifier}:  # 1
        raise IntegrityError(f"The scores are not those of request {identifier}.", code="integrity.result")
    if found.select(["block", "rows"]).to_pylist() != expected.to_pylist():
        raise CoverError(f"{found.num_rows} blocks of scores came, not each of the {expected.num_rows} once.", code="integrity.cover")
    pair = SecretContext.unseal(keystore.secret(identifier), request_context(identifier), sealed)
    blocks = zip(*(found[name].to_pylist() for name in ("score", "weight", "rows")), strict=True)
    return np.concatenate([pair.open(score, weight=weight)[:rows] for score, weight, rows in blocks])  # 2


def write_scores(scores: str | Path, request: str | Path, destination: str | Path, *, keystore: Keystore, probability: bool = False) -> int:
    """Write the opened scores to a new Parquet file of the client's and return their number.

    Args:
        scores: See `open_scores`.
        request: See `open_scores`.
        destination: The file; not within a directory that the host reads.
        keystore: See `open_scores`.
        probability: Whether the scores are a logistic model's, of which the file holds the probability of class 1.

    Raises:
        UsageError: The file would lie where the host reads.
        IntegrityError: See `open_scores`.
    """
    target = outside(Path(destination), [Path(scores), Path(request)])
    margins = open_scores(scores, request, keystore=keystore)
    values = pa.array(margins)
    if probability:
        # 1 / (1 + exp(-m)), and zero where the exponential overflows.
        values = pc.divide(1.0, pc.add(1.0, pc.exp(pc.negate(values))))
    pq.write_table(pa.table({"probability" if probability else "prediction": values}), target)
    return len(margins)
