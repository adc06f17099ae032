"""Rate-distortion plots for papers: matplotlib figures of the width of two columns."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from mvmic_codec.evaluation.palette import Style, styles
from mvmic_codec.evaluation.views import FIGURES, View, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = (7.0, 2.9)
_DPI = 300
# Type of a paper's captions; text stays text in the SVG, and a dollar in a name stays a dollar.
PAPER_STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "svg.fonttype": "none",
    "svg.hashsalt": "mvmic",
}


def plot(view: View, test: str) -> dict[str, bytes]:
    """A view's PSNR and MS-SSIM in dB against bpp as files, by suffix: .png and .svg.

    Only what the view has figures of is drawn; without any there are no files.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    heads = [
        head
        for head, value in FIGURES.items()
        if any(value(point) is not None for line in view.lines for point in line.points)
    ]
    if not heads:
        return {}
    looks = styles([line.codec for line in view.lines], test)
    with matplotlib.rc_context(PAPER_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        for axes, head in zip(figure.subplots(1, len(heads), squeeze=False)[0], heads, strict=True):
            _draw(axes, view, test, head)
        figure.legend(
            [Line2D([], [], **_look(looks[line.codec], line.codec == test)) for line in view.lines],
            [line.codec for line in view.lines],
            loc="outside upper center",
            ncols=len(view.lines),
            frameon=False,
            title=f"{view.set}, mean over {view.images} image{'s' * (view.images != 1)}",
        )
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI)
        # No date: the same tables give the same file.
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return {".png": png.getvalue(), ".svg": svg.getvalue()}


def _draw(axes: Axes, view: View, test: str, head: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    looks = styles([line.codec for line in view.lines], test)
    # The first codec is the one that matters: drawn above the others.
    for line in reversed(view.lines):
        known = [
            (point.bpp, value)
            for point in line.points
            if (value := FIGURES[head](point)) is not None
        ]
        axes.plot(
            [bpp for bpp, _ in known],
            [value for _, value in known],
            **_look(looks[line.codec], line.codec == test),
        )
    rates, values = frame(view, test, FIGURES[head])
    room = 0.04 * (values[1] - values[0]) or 0.5
    axes.set_xscale("log")
    axes.set_xlim(rates[0] / 1.1, rates[1] * 1.1)
    axes.set_ylim(values[0] - room, values[1] + room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(f"{head}, dB")
    axes.grid(True)


def _look(style: Style, ours: bool) -> dict[str, Any]:
    return {
        "color": style.light,
        "marker": style.marker,
        "linewidth": 1.8 if ours else 0.9,
        "markersize": 6 if style.marker == "*" else 4,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }
