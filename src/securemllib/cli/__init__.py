"""The `securemllib` command.

Runs in: whatever machine its user types it on: an owner's, an analyst's, a broker's, or a cluster node's.
Sees: what the role that a subcommand belongs to sees.
"""

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from securemllib.cli import agent, data, encodings, enrol, home
from securemllib.cli.failure import failures_are_told

__all__ = ["app", "main"]

# Subcommands of other roles, imported when they are asked for: a broker's web server would add seconds to every command of an owner.
_OTHER_ROLES = ("policy", "attest", "broker", "keys", "audit", "enclave", "doctor", "demo", "bench")


class _Commands(TyperGroup):
    """The top level: the commands of owners and analysts, and those of other roles on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands that are installed."""
        return [*super().list_commands(ctx), *(name for name in _OTHER_ROLES if find_spec(f"{__name__}.{name}") is not None)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None where there is none of that name."""
        if cmd_name not in _OTHER_ROLES or find_spec(f"{__name__}.{cmd_name}") is None:
            return super().get_command(ctx, cmd_name)
        try:
            group = get_group(import_module(f"{__name__}.{cmd_name}").app)
        except ModuleNotFoundError as error:
            return _Absent(cmd_name, error)
        group.name = cmd_name
        return group


class _Absent(TyperCommand):
    """Stands for a command whose packages are not installed, so that the others can be listed beside it; run, it says what it lacks."""

    def __init__(self, name: str, error: ModuleNotFoundError) -> None:
        super().__init__(name, help=f"Not installed here: it needs the Python package {error.name}.")
        self._error = error

    def make_context(self, *_: object, **__: object) -> NoReturn:
        """Raise what is missing."""
        raise self._error


app = typer.Typer(
    name="securemllib",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"securemllib {version('securemllib')}")
        raise typer.Exit


@app.callback()
def top_level(
    _: Annotated[bool, typer.Option("--version", help="Print the version and end.", callback=_tell_version, is_eager=True)] = False,
) -> None:
    """Spark's MLlib on private data: encrypt data, state who may do what with it, and open results."""


home.register(app)
app.command("enrol")(enrol.enrol)
agent.register(app)
encodings.register(data.app)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command; an error of ours becomes three lines and exit code 1, a wrong call exit code 2."""
    with failures_are_told():
        app()
