"""How a codec looks in every chart: one colour, one marker.

The nine colours differ as much as nine can for the common kinds of colour blindness. Markers tell
apart what colours cannot, as in print without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """Colours on white and on near-black as #rrggbb, and a marker by matplotlib's letter."""

    light: str
    dark: str
    marker: str


_TEST = Style("#c8410a", "#ff8a4c", "o")
_KNOWN = {
    "jpeg": Style("#7f8190", "#868ba0", "s"),
    "jpeg2000": Style("#b98400", "#fcd34d", "D"),
    "webp": Style("#6b1f10", "#c4624f", "p"),
    "avif": Style("#1d4ed8", "#5f8dff", "^"),
    "heic": Style("#460f86", "#a15cf2", "X"),
    "jxl": Style("#168fd6", "#8fe3ff", "P"),
    "bpg": Style("#1f5a52", "#2bc4a4", "v"),
    "vvc": Style("#b84fc4", "#e58ae8", "*"),
}


def styles(codecs: Sequence[str], test: str) -> dict[str, Style]:
    """A style for each codec. `test` has its own, and unknown names take styles that are free."""
    taken = {codec: _KNOWN[codec] for codec in codecs if codec in _KNOWN and codec != test}
    free = [style for style in _KNOWN.values() if style not in taken.values()]
    free = free or list(_KNOWN.values())
    others = [codec for codec in codecs if codec not in taken and codec != test]
    taken |= {codec: free[k % len(free)] for k, codec in enumerate(others)}
    return {codec: _TEST if codec == test else taken[codec] for codec in codecs}
