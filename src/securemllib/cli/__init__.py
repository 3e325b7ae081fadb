"""The `securemllib` command.

Runs in: whatever machine its user types it on: an owner's, an analyst's, a broker's, or a cluster node's.
Sees: what the role that a subcommand belongs to sees.
"""

from importlib import import_module
from importlib.util import find_spec

import typer

from securemllib.cli import agent, data, home, policy
from securemllib.cli.failure import failures_are_told

__all__ = ["app", "main"]

app = typer.Typer(
    name="securemllib",
    help="Spark's MLlib on private data: encrypt data, state who may do what with it, and open results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
home.register(app)
policy.register(app)
agent.register(app)
app.add_typer(data.app, name="data")

# Subcommands of other roles, each where its module is installed together with what it needs.
for _name in ("broker", "audit", "enclave", "doctor", "demo"):
    if find_spec(f"securemllib.cli.{_name}") is not None:
        app.add_typer(import_module(f"securemllib.cli.{_name}").app, name=_name)


def main() -> None:
    """Run the command; an error of ours becomes three lines and exit code 1, a wrong call exit code 2."""
    with failures_are_told():
        app()
