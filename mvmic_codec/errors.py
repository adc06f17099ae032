"""Every error that the package raises on purpose, as one tree under :class:`MvmError`.

``MvmError`` is an ``OSError``, because Pillow and its users catch that around ``Image.open`` and
``Image.load``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MvmError(OSError):
    """Base of all errors of this package."""


class InputError(MvmError, ValueError):
    """An image, array or option given by the caller cannot be used."""


class FormatError(MvmError):
    """The data is damaged, or is not an ``.mvm`` file at all."""


class TruncatedError(FormatError):
    """The data ends before the file is complete."""


class ChecksumError(FormatError):
    """The data is complete, but a checksum does not match: it was altered after it was written."""


class VersionError(FormatError):
    """The file has a container version that this reader does not know, or no longer knows."""


class ModelError(MvmError):
    """The file's model is not installed, or its weights are damaged."""


@contextmanager
def needs_torch(what: str) -> Iterator[None]:
    """Raise MvmError with a clear sentence where torch or scipy is imported and not installed.

    Decoding on the CPU needs neither, so that the package can be installed without them.

    what  needs them, as the beginning of the sentence
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("torch", "scipy"):
            raise
        raise MvmError(
            f"{what} needs torch and scipy, and {library} is not installed: "
            "python -m pip install torch scipy"
        ) from error
