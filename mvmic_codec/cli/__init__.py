"""The `mvmic` command. Each subcommand is a module, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

from mvmic_codec import __version__

_COMMANDS = ("encode", "decode", "info", "eval", "compare", "report", "train")


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


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mvmic")
def main() -> None:
    """Medical images to small .mvm files and back.

    Exit codes: 0 all done, 1 an input failed (the others are done), 2 wrong usage.
    """
