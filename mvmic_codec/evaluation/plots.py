"""Rate-distortion plots for papers: matplotlib figures of the width of two columns."""

from __future__ import annotations

import io
from typing import Any

from mvmic_codec.evaluation.palette import styles
from mvmic_codec.evaluation.views import View

_INCHES = (7.0, 2.9)
_DPI = 300
# Type of a paper's captions; text stays text in the SVG, and a dollar in a name stays a dollar.
_STYLE: dict[Any, Any] = {
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
    """A view's PSNR and MS-SSIM in dB against bpp as files, by suffix: .png and .svg."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    looks = styles([line.codec for line in view.lines], test)
    heads = {"PSNR, dB": "psnr", "MS-SSIM, dB": "ms_ssim"}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        for axes, (head, field) in zip(figure.subplots(1, 2), heads.items(), strict=True):
            # The first codec is the one that matters: drawn above the others.
            for line in reversed(view.lines):
                known = [point for point in line.points if getattr(point, field) is not None]
                ours, look = line.codec == test, looks[line.codec]
                axes.plot(
                    [point.bpp for point in known],
                    [getattr(point, field) for point in known],
                    color=look.light,
                    marker=look.marker,
                    linewidth=1.8 if ours else 0.9,
                    markersize=4.5 if ours else 4,
                    markeredgecolor="white",
                    markeredgewidth=0.4,
                    label=line.codec,
                )
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("bits per pixel")
            axes.set_ylabel(head)
            axes.grid(True)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles[::-1],
            labels[::-1],
            loc="outside upper center",
            ncols=len(labels),
            frameon=False,
            title=f"{view.set}, mean over {view.images} image{'s' * (view.images != 1)}",
        )
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI)
        # No date: the same tables give the same file.
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return {".png": png.getvalue(), ".svg": svg.getvalue()}
