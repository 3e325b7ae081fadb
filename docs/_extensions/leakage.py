"""Writes security/leakage.md from the ``Reveals:`` of algorithms and column encodings: the page cannot say anything else than the code."""

import sys
from pathlib import Path
from typing import Any

from securemllib.algorithms.registry import ALGORITHMS
from securemllib.crypto.encodings import cards
from securemllib.wire.companion import EncodingName

__all__ = ["reveals", "setup"]

_INTRODUCTION = """\
# What each algorithm reveals

Generated from the algorithms' sources: each states what the host learns from a training beside sizes and timing. In
`mode="partitioned"` the host adds the statistics of some rounds as masked integers, see [](../adr/0009-masked-sums.md). It sees
which rounds these are, how many numbers they have, and, by a measured round, that they left their scale; never a number or a sum.

"""


_ENCODINGS = """\
# What each column encoding reveals

Of columns in a companion, to whoever reads it (see [](../encodings.md)). `securemllib data plan` measures it on an owner's own rows.
`sealed` columns are in no companion.

| encoding | answers | reveals |
|---|---|---|
"""


def reveals(algorithm: type[Any]) -> str:
    """Return the paragraph of an algorithm's module that begins with ``Reveals:``, on one line; `LookupError` where it has none."""
    text = sys.modules[algorithm.__module__].__doc__ or ""
    for paragraph in text.split("\n\n"):
        line = " ".join(paragraph.split())
        if line.startswith("Reveals:"):
            return line.removeprefix("Reveals:").strip()
    raise LookupError(f"{algorithm.__module__} does not say what it reveals.")


def _write(app: Any) -> None:
    entries = [f"## {name}\n\n{reveals(algorithm)}\n" for name, algorithm in sorted(ALGORITHMS.items())]
    entries.append(_ENCODINGS + "\n".join(f"| `{name}` | {cards.answers(name)} | {cards.reveals(name)} |" for name in EncodingName) + "\n")
    page = Path(app.srcdir) / "security" / "leakage.md"
    text = _INTRODUCTION + "\n".join(entries)
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register the extension."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
