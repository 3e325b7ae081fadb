"""What each encoding answers and reveals, in the words of its own module: the command, the documentation and errors print just that."""

from types import ModuleType

from securemllib.crypto.encodings import additive, clear, deterministic, homomorphic, order, token
from securemllib.wire.companion import EncodingName

__all__ = ["answers", "reveals"]

_MODULES: dict[EncodingName, ModuleType] = {
    EncodingName.DETERMINISTIC: deterministic,
    EncodingName.ORDER: order,
    EncodingName.ADDITIVE: additive,
    EncodingName.TOKEN: token,
    EncodingName.HOMOMORPHIC: homomorphic,
    EncodingName.CLEAR: clear,
}


def answers(encoding: EncodingName) -> str:
    """Return what Spark can do with a column in an encoding."""
    return _paragraph(encoding, "Answers:")


def reveals(encoding: EncodingName) -> str:
    """Return what a column in an encoding tells whoever holds the companion."""
    return _paragraph(encoding, "Reveals:")


def _paragraph(encoding: EncodingName, label: str) -> str:
    """Return the lines of a module's docstring from a label to the next label or paragraph, as one; `LookupError` where it has none."""
    found: list[str] = []
    for line in (_MODULES[encoding].__doc__ or "").splitlines():
        if found and (not line or line.startswith(("Answers:", "Reveals:"))):
            break
        if found or line.startswith(label):
            found.append(line.removeprefix(label).strip())
    if not found:
        raise LookupError(f"{encoding.value} has no paragraph {label}")
    return " ".join(found)
