"""How an error ends a command: its code, its reason, the next step, and an exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from securemllib.errors import DataError, SecureMLlibError, UnavailableError, UsageError

__all__ = ["EXIT_FAILURE", "EXIT_USAGE", "exit_code", "failures_are_told", "printable", "tell"]

EXIT_FAILURE = 1
EXIT_USAGE = 2


def exit_code(error: SecureMLlibError) -> int:
    """Return 2 for a wrong call, 1 for everything else."""
    return EXIT_USAGE if isinstance(error, UsageError) and not isinstance(error, DataError) else EXIT_FAILURE


def tell(error: SecureMLlibError) -> None:
    """Print an error's code, reason and next step on stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error ", "bold red"), (printable(error.error_code), "red")))
    console.print(Text(f"  {printable(error.reason)}"))
    console.print(Text.assemble(("  next: ", "bold"), printable(error.next_step)))


def printable(words: object) -> str:
    """Return words of a broker, or of whoever answers in its place, without characters that move a cursor or begin a line."""
    return "".join(character if character.isprintable() else "?" for character in str(words))


@contextmanager
def failures_are_told() -> Iterator[None]:
    """Tell an error of ours, or of the system, and exit with its code."""
    try:
        yield
    except SecureMLlibError as error:
        tell(error)
        sys.exit(exit_code(error))
    except OSError as error:
        told = UnavailableError(
            f"{error.filename or 'A file or connection'}: {error.strerror or error}.",
            next_step="Check that the path exists, is what the command needs, and that you may use it.",
            code="unavailable.system",
        )
        tell(told)
        sys.exit(exit_code(told))
