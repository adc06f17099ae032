"""The `mvmic` command. Each subcommand is a module, imported when it is asked for."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from mvmic_codec import __version__
from mvmic_codec.cli import batch

_COMMANDS = ("encode", "decode", "info", "features", "eval", "compare", "report", "train")


class _LazyGroup(click.Group):
    """A group whose commands are the `command` objects of the modules beside this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            batch.note("interrupted")
            # As shells have it: 128 and the number of the signal.
            raise click.exceptions.Exit(130) from None

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except batch.KNOWN_ERRORS as error:
            batch.note(batch.sentence(error))
            sys.exit(1)
        finally:
            _drop_unwritten()


def _drop_unwritten() -> None:
    """Forget what stdout has not taken: Python would try again when it ends, and complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mvmic")
def main() -> None:
    """Medical images to small .mvm files and back.

    Exit codes: 0 all done, 1 something failed (the other inputs are done), 2 wrong usage,
    130 interrupted.
    """
