"""Keys of encoded columns, and the public names by which a host can tell whether two columns have one key.

A column's key comes from the dataset secret, the column's name, the dataset's version and a fresh salt: the codes of one version say
nothing about those of the next, and a version that was begun twice never uses a mask twice. A column in a join group has the group's key
instead, the same in every dataset and version that names the group; so columns of different groups, or of none, have no equal codes.
"""

from securemllib.crypto.keys import DataKey
from securemllib.errors import UsageError

__all__ = ["column_key", "group_key", "key_id"]

_COLUMN_PURPOSE = "securemllib/encoding/column/v1"
_GROUP_PURPOSE = "securemllib/encoding/group/v1"
_ID_PURPOSE = "securemllib/encoding/key-id/v1"
_ID_BYTES = 16
_JOINED = frozenset({"deterministic", "token"})


def column_key(secret: DataKey, encoding: str, column: str, version: int, salt: bytes) -> DataKey:
    """Return the key of one column in one encoding, in one version of a dataset.

    Args:
        secret: The dataset secret.
        encoding: The encoding's name.
        column: The column's name.
        version: The dataset's version.
        salt: Random bytes, drawn when the companion is written.
    """
    return secret.derive(_COLUMN_PURPOSE, encoding, column, version, salt)


def group_key(group: DataKey, encoding: str) -> DataKey:
    """Return the key of a join group's columns in one encoding.

    Raises:
        UsageError: Columns in the encoding are not joined; under one key the masks of two ``additive`` columns would be the same.
    """
    if encoding not in _JOINED:
        raise UsageError(f"Columns in the encoding {encoding} are in no join group.", code="usage.join_group")
    return group.derive(_GROUP_PURPOSE, encoding)


def key_id(key: DataKey) -> str:
    """Return a key's public name, 32 hexadecimal digits: equal for two columns just if their codes can be compared."""
    return key.derive_bytes(_ID_BYTES, _ID_PURPOSE).hex()
