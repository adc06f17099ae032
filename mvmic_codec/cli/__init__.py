"""The `mvmic` command. Each subcommand is a module, imported when it is asked for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import click

from mvmic_codec import __version__
from mvmic_codec.cli import batch

_COMMANDS = (
    *("encode", "decode", "info", "features", "demo"),
    *("eval", "compare", "report", "train", "tasks"),
)


# What ends a process from outside: kill, a batch system, or a terminal that goes away.
_ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Ended(BaseException):
    """A signal that ends the process came. As Ctrl-C, so that nothing half-written is left."""

    def __init__(self, number: int) -> None:
        self.number = number


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
            with _endings_raised():
                return super().main(*args, **options)
        except _Ended as ended:
            batch.note("terminated")
            # As shells have it, too.
            sys.exit(128 + ended.number)
        except batch.KNOWN_ERRORS as error:
            batch.note(batch.sentence(error))
            sys.exit(1)
        except AttributeError as error:
            if not batch.is_stale(error):
                raise
            batch.note(batch.sentence(error))
            sys.exit(1)
        finally:
            _drop_unwritten()


@contextmanager
def _endings_raised() -> Iterator[None]:
    """Raise `_Ended` for signals that would end the process without a word.

    Whoever runs the command within a program of theirs keeps what they set, and gets it back.
    """
    changed: list[signal.Signals] = []

    def end(number: int, frame: FrameType | None) -> None:
        # What cleans up now is not to be disturbed again.
        for ending in changed:
            signal.signal(ending, signal.SIG_IGN)
        raise _Ended(number)

    # Python sets handlers in its main thread only.
    if current_thread() is main_thread():
        changed = [each for each in _ENDINGS if signal.getsignal(each) == signal.SIG_DFL]
    try:
        for ending in changed:
            signal.signal(ending, end)
        yield
    finally:
        for ending in changed:
            signal.signal(ending, signal.SIG_DFL)


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
    130 interrupted, 143 terminated.
    """
