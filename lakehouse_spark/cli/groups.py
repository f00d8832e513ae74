"""Groups of commands: how they answer a wrong name or none, and how one is imported when it is asked for."""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from lakehouse_spark.cli.failures import unknown
from lakehouse_spark.errors import UsageError

HELP = {"help_option_names": ["--help", "-h"]}
OF_JOBS: Mapping[str, Any] = {
    "context_settings": HELP,
    "subcommand_metavar": "JOB [OPTIONS]",
    "help": "Run a job here and now; JOB --help lists its options.",
}
"""What a group of jobs is made with."""


class Group(TyperGroup):
    """Commands under one name; a wrong one is answered with the nearest."""

    kind: ClassVar[str] = "command"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not ctx.resilient_parsing:  # completion asks about half a name
            raise unknown(self.kind, args[0], self.commands)
        return super().resolve_command(ctx, args)


class LaterGroup(Group):
    """A group whose commands are those of a module's `app`, which is imported when they are asked for: nobody waits for
    Spark's modules who does not need them."""

    module: ClassVar[str]

    @property
    def commands(self) -> Any:
        return _commands_of(self.module)

    @commands.setter
    def commands(self, given: Any) -> None:
        """There are none before."""


@cache
def _commands_of(module: str) -> Mapping[str, Any]:
    return typer.main.get_group(import_module(module).app).commands


def list_commands(context: typer.Context) -> None:
    """Without a command, what there is; that nothing was asked for is wrong use all the same."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help())  # empty where the page was printed by the making of it
        raise typer.Exit(UsageError.exit_code)


def completing(names: Iterable[str]) -> Callable[[str], list[str]]:
    """What the shell proposes for the beginning of a name."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]
