"""A rate-distortion chart as inline SVG: bits per pixel on a log axis against a figure in dB.

Colours, fonts and what happens under the pointer belong to the page (page.css, page.js): here are
only places. A codec's lines and points have the class cK, K its place among the page's codecs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 440, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 12, 40
_SIZE = 3.6  # half of a marker's width


@dataclass(frozen=True)
class Mark:
    """A point of a curve, and the text that is shown under the pointer."""

    bpp: float
    value: float
    text: str


@dataclass(frozen=True)
class Curve:
    """The marks of a codec by rising rate; `marker` is a letter of `palette.Style`."""

    number: int
    marker: str
    marks: Sequence[Mark]


# What a chart's lines are cut at; a page with charts holds it once.
CLIP = (
    '<svg class="clip" width="0" height="0" aria-hidden="true"><clipPath id="frame"><rect '
    f'x="{_LEFT}" y="{_TOP - 5}" width="{WIDTH - _LEFT - _RIGHT}" '
    f'height="{HEIGHT - _TOP - _BOTTOM + 5}"/></clipPath></svg>'
)


def svg(
    curves: Sequence[Curve], rates: tuple[float, float], values: tuple[float, float], label: str
) -> str:
    """The chart, from the lower to the upper end of `rates` and `values`.

    Marks outside are left out and lines are cut; `label` describes it to those who cannot see it.
    """
    x = _Scale(*rates, _LEFT, WIDTH - _RIGHT, log=True)
    y = _Scale(*values, HEIGHT - _BOTTOM, _TOP, log=False)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
        f'aria-label="{escape(label)}">',
        '<g class="grid">',
        *(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="y" x="{_LEFT - 7}" y="{y(value) + 4:.1f}">{value:g}</text>'
            for value in y.ticks
        ),
        *(
            f'<line y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" x1="{x(value):.1f}" x2="{x(value):.1f}"/>'
            f'<text class="x" x="{x(value):.1f}" y="{HEIGHT - _BOTTOM + 17}">{value:g}</text>'
            for value in x.ticks
        ),
        f'<text class="x" x="{(_LEFT + WIDTH - _RIGHT) / 2:.0f}" y="{HEIGHT - 6}">'
        f"bits per pixel</text></g>",
    ]
    # The first codec is the one that matters: it is drawn last, above the others.
    for curve in reversed(curves):
        places = [(x(mark.bpp), y(mark.value)) for mark in curve.marks]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
        parts.append(
            f'<g class="codec c{curve.number}">'
            f'<path class="line" clip-path="url(#frame)" d="M{path}"/>'
        )
        parts += [
            f'<path class="mark" d="{marker(curve.marker, *place)}" data-x="{place[0]:.1f}" '
            f'data-y="{place[1]:.1f}" data-text="{escape(mark.text)}"/>'
            for place, mark in zip(places, curve.marks, strict=True)
            if rates[0] <= mark.bpp <= rates[1] and values[0] <= mark.value <= values[1]
        ]
        parts.append("</g>")
    parts.append('<circle class="ring" r="8"/></svg>')
    return "\n".join(parts)


def marker(letter: str, x: float, y: float, size: float = _SIZE) -> str:
    """Path data of a marker around a place."""
    return (
        "M"
        + "L".join(f"{x + size * px:.1f} {y + size * py:.1f}" for px, py in _OUTLINES[letter])
        + "Z"
    )


def _ring(corners: int, turn: float, radii: Sequence[float]) -> list[tuple[float, float]]:
    """Corners at equal angles, the first one `turn` of a full turn clockwise from the top."""
    angles = [2 * math.pi * (k / corners + turn) for k in range(corners)]
    return [
        (radii[k % len(radii)] * math.sin(angle), -radii[k % len(radii)] * math.cos(angle))
        for k, angle in enumerate(angles)
    ]


_PLUS = [(-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)]
_PLUS += [(-px, -py) for px, py in _PLUS]
# By matplotlib's letters, on a scale on which the circle has radius 1.
_OUTLINES: Mapping[str, Sequence[tuple[float, float]]] = {
    "o": _ring(16, 0, [1]),
    "s": _ring(4, 1 / 8, [1.25]),
    "D": _ring(4, 0, [1.3]),
    "p": _ring(5, 0, [1.15]),
    "^": _ring(3, 0, [1.35]),
    "v": _ring(3, 1 / 2, [1.35]),
    "P": _PLUS,
    "X": [((px - py) * 0.8, (px + py) * 0.8) for px, py in _PLUS],
    "*": _ring(10, 0, [1.6, 0.7]),
}


class _Scale:
    """Maps values to places between two ends, with a margin at both, and finds round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self._log = log
        low, high = self._of(low), self._of(high)
        room = 0.04 * (high - low) or 0.5
        self._low, self._high = low - room, high + room
        self._start, self._end = start, end
        self.ticks = self._decades() if log else self._steps()

    def __call__(self, value: float) -> float:
        share = (self._of(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def _of(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def _decades(self) -> list[float]:
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        # Fewer ticks where there are many decades, or labels would touch.
        digits = (1, 2, 5) if self._high - self._low < 2.6 else (1, 3)
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        return [tick for tick in ticks if self._low <= math.log10(tick) <= self._high]

    def _steps(self) -> list[float]:
        span = self._high - self._low
        step = next(
            size * 10.0**power
            for power in range(-6, 7)
            for size in (1, 2, 5)
            if span / (size * 10.0**power) <= 7
        )
        first, last = math.ceil(self._low / step), math.floor(self._high / step)
        return [round(k * step, 6) for k in range(first, last + 1)]
