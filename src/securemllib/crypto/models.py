"""Sealed models: whole where they are small, else a root that names the pieces beside it, each opened by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.errors import FormatError, IntegrityError, UnsealError
from securemllib.wire.encoding import Value, decode, encode
from securemllib.wire.result import SealedModel, model_context, piece_context

__all__ = ["PIECE_BYTES", "ModelRoot", "open_piece", "open_root", "pieces_of", "seal_piece", "statistics_key", "whole_tree"]

# A frame of either direction holds a piece easily, and whoever opens a model needs the memory for one at a time.
PIECE_BYTES = 16 * 2**20
# A root travels in the header of a frame, and several of them in one.
_ROOT_BYTES = 2**20
_STATISTICS_PURPOSE = "securemllib/statistics-key/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRoot:
    """What a sealed model says once it is open.

    Attributes:
        tree: The model's tree, or None where the pieces together are its encoding.
        pieces: The SHA-256 of each piece's plaintext.
    """

    tree: Value
    pieces: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the plaintext of the sealed model's envelope."""
        return encode({"tree": self.tree, "pieces": list(self.pieces)}) if self.pieces else encode(self.tree)


def statistics_key(job_key: DataKey, job_id: str) -> DataKey:
    """Return the key of the statistics that a job leaves beside its model, which are no part of what a release hands out the key of."""
    return job_key.derive(_STATISTICS_PURPOSE, job_id)


def pieces_of(tree: Value) -> Iterator[memoryview]:
    """Return the pieces of a tree that is too large for one message; none of a smaller one."""
    raw = memoryview(encode(tree))
    if len(raw) > _ROOT_BYTES:
        for start in range(0, len(raw), PIECE_BYTES):
            yield raw[start : start + PIECE_BYTES]


def seal_piece(key: DataKey, model_id: str, index: int, plaintext: bytes | memoryview) -> tuple[bytes, bytes]:
    """Return a piece's envelope, and the digest that the root names it by."""
    return seal(key, piece_context(model_id, index), plaintext), sha256(plaintext).digest()


def open_root(model: SealedModel, key: DataKey) -> ModelRoot:
    """Return what a sealed model says; `IntegrityError` unless it is what an enclave sealed."""
    context = model_context(model.model_id, model.operation, model.tee, model.lineage)
    plaintext = unseal(key, context, model.envelope)
    tree = decode(plaintext, limit=len(plaintext))
    if not model.pieces:
        return ModelRoot(tree=tree)
    if not isinstance(tree, dict) or tree.keys() != {"tree", "pieces"} or not isinstance(tree["pieces"], list):
        raise FormatError(f"The root of model {model.model_id} names no pieces.")
    pieces = tuple(digest for digest in tree["pieces"] if isinstance(digest, bytes))
    if not len(pieces) == len(tree["pieces"]) == model.pieces:
        raise FormatError(f"The root of model {model.model_id} names {len(pieces)} pieces, not {model.pieces}.")
    return ModelRoot(tree=tree["tree"], pieces=pieces)


def open_piece(model: SealedModel, key: DataKey, root: ModelRoot, index: int, envelope: bytes | memoryview) -> bytes:
    """Return one piece's plaintext; `IntegrityError` where it is another piece or another model's."""
    try:
        plaintext = unseal(key, piece_context(model.model_id, index), envelope)
    except UnsealError:
        plaintext = b""
    if not 0 <= index < len(root.pieces) or sha256(plaintext).digest() != root.pieces[index]:
        raise IntegrityError(f"Piece {index} of model {model.model_id} is not the one that the model names.", code="integrity.model")
    return plaintext


def whole_tree(model: SealedModel, key: DataKey, root: ModelRoot, fetch: Callable[[int], bytes | memoryview]) -> Value:
    """Return a model's tree, from its pieces where it was split."""
    if root.tree is not None or not root.pieces:
        return root.tree
    raw = b"".join(open_piece(model, key, root, index, fetch(index)) for index in range(len(root.pieces)))
    return decode(raw, limit=len(raw))
