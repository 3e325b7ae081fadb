"""The files of rows that a host scores without an enclave: Parquet of CKKS ciphertexts, by column and by block of rows.

``rows.parquet`` in the request's directory has a row a block: ``block`` (from 0), ``rows`` (how many it holds) and a ciphertext a feature,
under the feature's name. The schema's metadata names the request, and holds the public context, which computes, and the sealed secret one,
which opens. Scores are Parquet with ``request``, ``block``, ``rows``, ``weight`` (the sum of the coefficients) and ``score``.
"""

from securemllib.wire.encoding import length_prefixed

__all__ = ["REQUEST", "ROWS_FILE", "SCORE_COLUMNS", "request_context"]

ROWS_FILE = "rows.parquet"
REQUEST = "securemllib.request"
SCORE_COLUMNS = ("request", "block", "rows", "weight", "score")


def request_context(request: str) -> bytes:
    """Return the associated data of a request's sealed context."""
    return length_prefixed("securemllib/score-request/v1", request)
