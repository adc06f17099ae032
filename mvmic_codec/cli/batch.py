"""Doing something to many inputs: progress on stderr, and one sentence for each that fails."""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from mvmic_codec.cli.files import shown

if TYPE_CHECKING:
    from tqdm import tqdm

    from mvmic_codec.cli.plan import Plan

Item = TypeVar("Item")
Result = TypeVar("Result")

# Every error of this package and of Pillow's opening of files is an OSError. A library or a part of
# this package that is missing, or cannot be loaded into the memory there is, is an ImportError.
# Anything else is a bug and keeps its traceback.
KNOWN_ERRORS = (OSError, MemoryError, ImportError)
_STALE = (
    "a part of mvmic_codec is missing or out of date; install mvmic_codec again "
    "(python -m pip install -e .)"
)
# How many names a line on stderr gives of what was left out.
_NAMES_SHOWN = 3


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
    if isinstance(error, AttributeError):
        text = f"{_STALE}: {text}"
    if isinstance(error, ImportError):
        text = f"{_import_trouble(error)}: {text}"
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror.lower()
        if error.filename is not None:
            text = f"{shown(error.filename)}: {text}"
    return " ".join(text.split()) or type(error).__name__


def is_stale(error: AttributeError) -> bool:
    """Whether an extension of this package lacks something, as one built for an older version."""
    file = getattr(error.obj, "__file__", None) or ""
    name = getattr(error.obj, "__name__", "")
    return name.startswith("mvmic_codec.") and file.endswith(tuple(EXTENSION_SUFFIXES))


def _import_trouble(error: ImportError) -> str:
    """What a failed import means, and what to do."""
    # What the system's loader says where memory ends; of this package's own parts, too.
    no_memory = "map segment" in str(error) or "allocate memory" in str(error)
    if (error.name or "").partition(".")[0] == "mvmic_codec" and not no_memory:
        return _STALE
    if isinstance(error, ModuleNotFoundError):
        return "a library is missing; install it, or mvmic_codec again"
    return "a library cannot be loaded, perhaps for want of memory"


def complain(name: Path, message: str) -> None:
    """One line on stderr; a message that begins with the name already is not given it twice."""
    prefix = "" if message.startswith(shown(name)) else f"{shown(name)}: "
    note(f"{prefix}{message}")


def tell_unplanned(planned: Plan) -> None:
    """Say on stderr what a plan leaves out: each failure, and a line for each other reason.

    Such a line has the number of files and the first names.
    """
    for path, message in planned.failed:
        complain(path, message)
    paths: dict[str, list[Path]] = defaultdict(list)
    for path, reason in planned.skipped:
        paths[reason].append(path)
    for reason, group in paths.items():
        names = ", ".join(shown(path) for path in group[:_NAMES_SHOWN])
        more = len(group) - _NAMES_SHOWN
        note(f"left out {len(group)}, {reason}: {names}{f' and {more} more' if more > 0 else ''}")


def note(text: str) -> None:
    """One line on stderr. Where stderr takes nothing, that is no reason to stop."""
    with suppress(OSError):
        click.echo(f"mvmic: {text}", err=True)


@contextmanager
def warnings_noted() -> Iterator[None]:
    """Warnings as lines on stderr, each text once."""

    def show(message: Warning | str, *others: Any, **more: Any) -> None:
        note(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("once", UserWarning)
        warnings.showwarning = show
        yield


def images(count: int) -> str:
    """A number of images, for people."""
    return f"{count} image{'' if count == 1 else 's'}"


def say(text: str, *, err: bool = False) -> None:
    """Text on stdout, or stderr, whatever letters that can show. Raises OSError if it is full."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard error" if err else "standard output"
        raise OSError(error.errno, error.strerror, name) from error


def stop(error: BaseException) -> click.exceptions.Exit:
    """Say what stopped the whole command; raise what is returned."""
    note(sentence(error))
    return click.exceptions.Exit(1)
