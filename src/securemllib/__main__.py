"""The `securemllib` program: the command line, or what to install where this machine has no part of it."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; where a package that it needs is not installed, say which extra brings it, and exit with 2."""
    try:
        from securemllib.cli import main as run

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "securemllib":
            raise
        sys.stderr.write(
            f"error usage.missing_extra\n  This command needs the Python package {error.name}, which is not installed here.\n"
            "  next: Install the extra of this machine's role: `pip install 'securemllib[owner]'` for owners and analysts, "
            "`[broker]` for a key broker, `[demo]` for `securemllib demo`.\n"
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
