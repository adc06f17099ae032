"""Which files a command reads and writes, and how it writes them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mvmic_codec.errors import InputError


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write from it."""

    source: Path
    target: Path


def plan(
    inputs: Sequence[Path], output: str | None, suffixes: Collection[str], target_suffix: str
) -> list[Job]:
    """Jobs for files and folders, in order.

    A folder stands for all files below it with one of `suffixes` (lower case, with the dot), and
    its tree is kept. Without `output`, targets lie beside their sources. `output` is a folder if
    it is one, if it ends with a separator or has no suffix, or if there is anything but one file
    to write; otherwise it is the target itself. Raises InputError where two sources have the same
    target, or a folder holds nothing to do.
    """
    jobs = []
    for given in inputs:
        if given.is_dir():
            sources = _below(given, suffixes)
            if not sources:
                raise InputError(f"{given} holds no {'/'.join(sorted(suffixes))} files")
        else:
            sources = [given]
        for source in sources:
            target = source.with_suffix(target_suffix)
            if output is not None and _is_folder(output, inputs):
                below = target.relative_to(given) if given.is_dir() else target.name
                target = Path(output) / below
            elif output is not None:
                target = Path(output)
            jobs.append(Job(source, target))
    _refuse_clashes(jobs)
    return jobs


def check_target(job: Job, force: bool) -> None:
    """Raise InputError if the target must not or cannot be written, before any work is done.

    Of a source that is not there nothing is said: reading it will.
    """
    if not job.source.exists():
        return
    if job.target.exists():
        if job.target.samefile(job.source):
            raise InputError("the output would replace the input; give another name with -o")
        if job.target.is_dir():
            raise InputError(f"{job.target} is a folder")
        if not force:
            raise InputError(f"{job.target} exists; use --force to overwrite it")
    check_folder(job.target)


def check_folder(target: Path) -> None:
    """Raise InputError if there can be no new file of this name."""
    folder = next(path for path in target.absolute().parents if path.exists())
    if not folder.is_dir():
        raise InputError(f"{target} cannot be written: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{target} cannot be written: {folder} is read-only")


@contextmanager
def atomic(target: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `target` when the block ends well and leaves nothing otherwise.

    Folders on the way to the target are made. The data goes to a hidden file in the target's own
    folder first, as only there a rename is atomic.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(target)
        raise


def write(target: Path, data: bytes) -> None:
    """Write a whole file, or nothing."""
    with atomic(target) as file:
        file.write(data)


def _is_folder(output: str, inputs: Sequence[Path]) -> bool:
    path = Path(output)
    return (
        len(inputs) != 1
        or inputs[0].is_dir()
        or path.is_dir()
        or not path.suffix
        or output.endswith(tuple(filter(None, (os.sep, os.altsep))))
    )


def _below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    sources: dict[Path, Path] = {}
    for job in jobs:
        first = sources.setdefault(job.target, job.source)
        if first != job.source:
            raise InputError(f"{first} and {job.source} would both be written to {job.target}")
