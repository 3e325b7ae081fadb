"""Opening sums of a ``homomorphic`` column, which a host made of ciphertexts and the rows that a query chose.

A sum is one ciphertext: the blocks of the column, each multiplied with 1 where a row is added and with 0 elsewhere, added up. So its slots
are the sums of the added rows that have the same place in their blocks, and slots of no added row are zero.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.crypto.encodings.homomorphic import GUARD_SLOTS, LIMIT, block_guards
from securemllib.errors import CoverError, IntegrityError, UsageError
from securemllib.owner.encoded_columns import KeyedColumn

__all__ = ["open_encrypted_sums", "present_counts"]

# Guards of a sum of 10,000 blocks are off by about 2**-21; a slot's sum is at least as close where its values are small.
_PRECISION = 2.0**-18
# A value that a mask of 0 leaves out still adds up to 2**-32 of itself, because plain numbers are rounded when they are encoded.
_STRAY = LIMIT * 2.0**-32


def present_counts(column: KeyedColumn, groups: NDArray[np.int64], covers: NDArray[np.int64], sums: int) -> NDArray[np.int64]:
    """Return how many rows of each sum are not null.

    Args:
        column: The column.
        groups: Of each added row the sum's position.
        covers: Of each added row its number.
        sums: How many sums there are.
    """
    if column.blocks is None:
        raise UsageError(f"Column {column.description.column!r} is not homomorphic here.", code="usage.encoding")
    return np.bincount(groups[column.blocks.present[covers - 1]], minlength=sums)


def open_encrypted_sums(
    column: KeyedColumn, ciphertexts: pa.Array, groups: NDArray[np.int64], covers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the sums of a column over groups of rows; a group of no rows has the sum zero.

    1. Each is a ciphertext of the column's key, made of just the blocks that have rows of the group, and off by little: its guards say so.
    2. No slot holds anything that belongs to no row of the group.

    Args:
        column: The column.
        ciphertexts: A sum each.
        groups: Of each added row the sum's position, in order.
        covers: Of each added row its number.

    Raises:
        IntegrityError: 1 or 2 does not hold.
    """
    if column.secret is None or column.blocks is None:
        raise UsageError(f"Column {column.description.column!r} is not homomorphic here.", code="usage.encoding")
    block = np.searchsorted(column.blocks.first_rows, covers, side="right") - 1
    slot = covers - column.blocks.first_rows[block]
    guards: dict[int, NDArray[np.float64]] = {}
    found = np.zeros(len(ciphertexts))
    for group in np.unique(groups):
        rows = slice(*np.searchsorted(groups, [group, group + 1]))
        touched = np.unique(block[rows])
        for number in map(int, touched):
            if number not in guards:
                guards[number] = block_guards(column.key, int(column.blocks.first_rows[number]))
        expected = np.sum([guards[int(number)] for number in touched], axis=0).reshape(GUARD_SLOTS)
        ciphertext = ciphertexts[int(group)].as_py()
        if ciphertext is None:
            raise IntegrityError(f"A sum of {column.description.column} is missing.", code="integrity.result")
        slots = column.secret.open(ciphertext, guards=expected, precision=_PRECISION)  # 1
        used = np.unique(slot[rows])
        if np.abs(np.delete(slots, used)).max(initial=0.0) > _STRAY * len(touched):  # 2
            raise CoverError(f"A sum of {column.description.column} adds rows that it does not name.", code="integrity.cover")
        found[group] = slots[used].sum()
    return found
