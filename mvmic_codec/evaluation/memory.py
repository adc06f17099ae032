"""Peak memory of a piece of work in this process, as Linux counts it (man 5 proc)."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
# Written to _CLEAR: the peak starts anew at what is in memory.
_RESET_PEAK = "5"


class Peak:
    """How far the memory of the process rises while the block runs, above what it held before.

    mib  MiB, after the block; None on systems other than Linux, or where it may not be asked
    """

    mib: float | None = None

    def __enter__(self) -> Peak:
        _give_back()
        try:
            _CLEAR.write_text(_RESET_PEAK)
            self._before: int | None = _kib("VmRSS")
        except OSError:
            self._before = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._before is not None:
            self.mib = max(_kib("VmHWM") - self._before, 0) / 1024


def _give_back() -> None:
    """Give free memory back to the system: what the C library keeps would hide later use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _CLEAR.exists() else None
    if trim is not None:
        trim(0)


def _kib(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {name}")
