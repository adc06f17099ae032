"""Which files a command reads, and how it names those that it writes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from mvmic_codec.cli import files
from mvmic_codec.cli.files import STDIO, Job, shown
from mvmic_codec.errors import InputError


@dataclass
class Plan:
    """The jobs of a run; what folders hold beside them, with the reason; what cannot be read."""

    jobs: list[Job] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Naming:
    """What a command takes from folders, and how an output's name is made from an input's.

    taken      suffixes of files to take from folders
    replaced   suffixes that `suffix` takes the place of; to other names it is added, so that
               IM.0001 and IM.0002 do not get one name

    All suffixes are lower case and have their dot. `what` says in a word what is taken.
    """

    what: str
    taken: Collection[str]
    replaced: Collection[str]
    suffix: str

    def target(self, source: Path) -> Path:
        """The name of the output, beside the input."""
        known = source.suffix.lower() in self.replaced
        return source.with_name((source.stem if known else source.name) + self.suffix)


def plan(inputs: Sequence[str], output: str | None, naming: Naming) -> Plan:
    """Jobs for files and folders, in order; "-" is standard input or output.

    A folder stands for all files below it that `naming` takes, and its tree is kept. Without
    `output`, targets lie beside their sources. `output` is a folder if it is one, if it ends with
    a separator or has no suffix, or if there is anything but one file to write. Otherwise it is
    the target itself. Raises InputError where two sources have the same target, UsageError where
    an output has no name or has more than one input.
    """
    given = [path_of(name) for name in inputs]
    folders = [path for path in given if path != STDIO and os.path.isdir(path)]
    target = None if output is None else path_of(output)
    if target is not None and files.is_stream(target) and (len(given) > 1 or folders):
        raise click.UsageError(f"{shown(target)} holds one image; give a folder with -o")
    to_folder = output is not None and _is_folder(output, given, folders)
    made = Plan()
    for path in given:
        sources = _below(path, naming, made) if path in folders else [path]
        for source in sources:
            beside = naming.target(source)
            if (target is None or to_folder) and files.is_nameless(source):
                raise click.UsageError(
                    f"{shown(source)} gives the output no name; name a file with -o"
                )
            if target is None:
                made.jobs.append(Job(source, beside))
            elif to_folder:
                below = beside.relative_to(path) if path in folders else beside.name
                made.jobs.append(Job(source, target / below))
            else:
                made.jobs.append(Job(source, target))
    # What is given twice is done once.
    made.jobs = list(dict.fromkeys(made.jobs))
    _refuse_clashes(made.jobs)
    return made


def path_of(name: str) -> Path:
    """The path that a name on the command line means; "-" alone is STDIO, "./-" is a file."""
    if not name:
        raise click.UsageError("a name is empty")
    path = Path(name)
    return path.absolute() if path == STDIO and name != str(STDIO) else path


def _is_folder(output: str, inputs: Sequence[Path], folders: Sequence[Path]) -> bool:
    path = path_of(output)
    if files.is_stream(path):
        return False
    return (
        len(inputs) != 1
        or bool(folders)
        or os.path.isdir(path)
        or not path.suffix
        or output.endswith(tuple(filter(None, (os.sep, os.altsep))))
    )


def _below(folder: Path, naming: Naming, made: Plan) -> list[Path]:
    """Files to take from a folder; what is left out or cannot be read is added to the plan."""
    sources = []
    before = len(made.failed)
    for path, reason in _walk(folder, naming, made):
        if reason is None:
            sources.append(path)
        else:
            made.skipped.append((path, reason))
    if not sources and len(made.failed) == before:
        made.failed.append((folder, f"the folder holds no {naming.what}"))
    return sorted(sources)


def _walk(folder: Path, naming: Naming, made: Plan) -> Iterator[tuple[Path, str | None]]:
    """Every file below a folder, with the reason why it is left out, or None."""

    def failed(error: OSError) -> None:
        made.failed.append((Path(error.filename), (error.strerror or str(error)).lower()))

    for root, names, file_names in os.walk(folder, onerror=failed):
        inner = [Path(root, name) for name in sorted(names)]
        # A link may lead back to where it lies.
        links = [path for path in inner if path.is_symlink()]
        hidden = [path for path in inner if path.name.startswith(".") and path not in links]
        names[:] = [path.name for path in inner if path not in links and path not in hidden]
        yield from ((path, "link to a folder") for path in links)
        yield from ((path, "hidden") for path in hidden)
        for name in sorted(file_names):
            path = Path(root, name)
            if name.startswith("."):
                yield path, "hidden"
            elif path.suffix.lower() not in naming.taken:
                yield path, f"not named as {naming.what}"
            elif not os.path.isfile(path):
                yield path, "no regular file"
            else:
                yield path, None


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    sources: dict[Path, Path] = {}
    for job in jobs:
        first = sources.setdefault(job.target, job.source)
        if first != job.source:
            raise InputError(
                f"{shown(first)} and {shown(job.source)} would both be written to "
                f"{shown(job.target)}"
            )
