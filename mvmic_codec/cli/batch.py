"""Doing something to many inputs: progress on stderr, and one sentence for each that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

# Every error of this package and of Pillow's opening of files is an OSError. Anything else is a
# bug and keeps its traceback.
KNOWN_ERRORS = (OSError, MemoryError)


def run(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    name_of: Callable[[Item], Path],
    *,
    label: str,
    quiet: bool,
) -> tuple[list[Result], list[tuple[Path, str]]]:
    """Results of `work` on the items, and (name, sentence) for each that failed."""
    results: list[Result] = []
    failures: list[tuple[Path, str]] = []
    with progress(label, "file", hide=quiet, total=len(items)) as bar:
        for item in items:
            try:
                results.append(work(item))
            except KNOWN_ERRORS as error:
                failure = (name_of(item), sentence(error))
                failures.append(failure)
                with bar.external_write_mode(file=sys.stderr):
                    complain(*failure)
            bar.update()
    return results, failures


def progress(label: str, unit: str, *, hide: bool, total: int | None = None) -> tqdm[NoReturn]:
    """A bar on stderr that shows after a second, if that is a terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        delay=1.0,
        file=sys.stderr,
        # None: where stderr is no terminal.
        disable=True if hide else None,
        leave=False,
    )


def sentence(error: BaseException) -> str:
    """What an error says, on one line and without Python's decoration."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for this image"
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror.lower()
        if error.filename is not None:
            text = f"{error.filename}: {text}"
    return " ".join(text.split()) or type(error).__name__


def complain(name: Path, message: str) -> None:
    """One line on stderr; a message that begins with the name already is not given it twice."""
    prefix = "" if message.startswith(str(name)) else f"{name}: "
    click.echo(f"mvmic: {prefix}{message}", err=True)


def stop(error: BaseException) -> click.exceptions.Exit:
    """Say what stopped the whole command; raise what is returned."""
    click.echo(f"mvmic: {sentence(error)}", err=True)
    return click.exceptions.Exit(1)
