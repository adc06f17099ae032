"""How a command reads its inputs and writes its outputs: files, pipes and standard streams."""

from __future__ import annotations

import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mvmic_codec.errors import InputError

# Standard input where it is read, standard output where it is written.
STDIO = Path("-")
# Their entries are open descriptors and devices, whatever these lead to.
_DESCRIPTORS = frozenset(map(Path, ("/dev", "/dev/fd", "/proc/self/fd")))


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write from it."""

    source: Path
    target: Path


def shown(name: object) -> str:
    """A name for people, on one line: characters that cannot be printed are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in str(name)
    )


def is_nameless(path: Path) -> bool:
    """Whether a path has no name that an output's could be made from."""
    return path == STDIO or path.parent in _DESCRIPTORS


def is_stream(path: Path) -> bool:
    """Whether a path is a standard stream, an open descriptor, a pipe or a device.

    Such a path is read once from its start to its end, and written in place.
    """
    if path == STDIO:
        return True
    if os.path.isdir(path) or not os.path.exists(path):
        return False
    return path.parent in _DESCRIPTORS or not os.path.isfile(path)


@contextmanager
def reading(source: Path) -> Iterator[BinaryIO]:
    """The source as a binary file that can seek. A stream is read to its end first."""
    if is_stream(source):
        yield io.BytesIO(_read_stream(source))
    else:
        with open(source, "rb") as file:
            yield file


def _read_stream(source: Path) -> bytes:
    if source != STDIO:
        if stat.S_ISCHR(source.stat().st_mode) or stat.S_ISBLK(source.stat().st_mode):
            raise InputError("is a terminal or another device; give a file or a pipe")
        with open(source, "rb") as file:
            return file.read()
    # Python has None for a stream that was closed before it started.
    if sys.stdin is None:
        raise InputError("standard input is closed")
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal; give it a file or a pipe")
    return sys.stdin.buffer.read()


class Outputs:
    """The files that one run writes.

    None replaces an input or another output of the run. Without `force` none replaces any file.
    """

    def __init__(self, *, force: bool) -> None:
        self._force = force
        self._written: dict[tuple[int, int], Path] = {}

    def check(self, job: Job) -> None:
        """Raise InputError if the target must not or cannot be written, before work is done.

        Of a source that is not there nothing is said: reading it will.
        """
        source, target = job.source, job.target
        if source != STDIO and not os.path.exists(source):
            return
        if is_stream(target):
            _refuse_terminal(target)
            return
        if os.path.exists(target):
            if source != STDIO and target.samefile(source):
                raise InputError("the output would replace the input; give another name with -o")
            if target.is_dir():
                raise InputError(f"{shown(target)} is a folder")
            # Names that differ may mean one file: by links, or where case is not told apart.
            other = self._written.get(_identity(target))
            if other is not None:
                raise InputError(
                    f"{shown(target)} is {shown(other)}, which this run has written already"
                )
            if not self._force:
                raise InputError(f"{shown(target)} exists; use --force to overwrite it")
        check_folder(target)

    def write(self, target: Path, data: bytes) -> None:
        """Write a whole file, or nothing."""
        write(target, data)
        if not is_stream(target):
            self._written[_identity(target)] = target


def check_folder(target: Path) -> None:
    """Raise InputError if there can be no new file of this name."""
    real = _real(target)
    folder = next(path for path in real.parents if os.path.exists(path))
    if not folder.is_dir():
        raise InputError(f"{shown(target)} cannot be written: {shown(folder)} is not a folder")
    limit = _name_limit(folder)
    for name in real.relative_to(folder).parts:
        if len(os.fsencode(name)) > limit:
            raise InputError(
                f"the output's name {shown(name)} is of {len(os.fsencode(name))} bytes, and this "
                f"file system takes {limit}; give a shorter one with -o"
            )
    if not os.access(folder, os.W_OK):
        raise InputError(f"{shown(target)} cannot be written: {shown(folder)} is read-only")


@contextmanager
def atomic(target: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `target` when the block ends well and leaves nothing otherwise.

    Folders on the way to the target are made. The data goes to a hidden file in the target's own
    folder first, as only there a rename is atomic. A link stays one: what it leads to is replaced.
    """
    real = _real(target)
    real.parent.mkdir(parents=True, exist_ok=True)
    # Not made from the target's name, which may be as long as names can be.
    temporary = real.with_name(f".{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, real)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise _named(error, target) from error
        raise


def write(target: Path, data: bytes) -> None:
    """Write a whole file, or nothing; or all bytes to a stream."""
    if not is_stream(target):
        with atomic(target) as file:
            file.write(data)
        return
    try:
        if target == STDIO:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            # A descriptor may be of a file that others have written to.
            with open(target, "ab") as file:
                file.write(data)
    except OSError as error:
        raise _named(error, target) from error


def _named(error: OSError, target: Path) -> OSError:
    """The error, of a file that people know."""
    name = "standard output" if target == STDIO else str(target)
    return OSError(error.errno, error.strerror, name)


def _refuse_terminal(target: Path) -> None:
    if target == STDIO:
        if sys.stdout is None:
            raise InputError("standard output is closed")
        terminal = sys.stdout.isatty()
    elif stat.S_ISCHR(target.stat().st_mode):
        with open(target, "ab", buffering=0) as file:
            terminal = file.isatty()
    else:
        terminal = False
    if terminal:
        raise InputError(
            f"{'standard output' if target == STDIO else shown(target)} is a terminal, which "
            "cannot show an image's bytes; send them to a file or a pipe"
        )


def _identity(target: Path) -> tuple[int, int]:
    """Of two names for one file the same, and of two files never."""
    found = target.stat()
    return found.st_dev, found.st_ino


def _real(target: Path) -> Path:
    return Path(os.path.realpath(target))


def _name_limit(folder: Path) -> int:
    """Bytes that a name in this folder may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    # Windows has no pathconf, and file systems need not know.
    except (AttributeError, OSError, ValueError):
        return 255
