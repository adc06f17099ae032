"""Scores against bits per pixel, as one matplotlib figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from mvmic_codec.evaluation.palette import styles
from mvmic_codec.evaluation.plots import PAPER_STYLE

_INCHES = (7.0, 3.6)
_DPI = 200
# Of judges, in their order.
_LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Curve:
    """A line of the figure.

    codec   which gives the colour and the marker
    judge   which gives the kind of line
    points  bits per pixel, score and its standard error, of each setting. A curve without bits per
            pixel, such as that of originals, has one point at None and is drawn as a level
    """

    codec: str
    judge: str
    points: list[tuple[float | None, float, float]]

    @property
    def label(self) -> str:
        """What the legend says."""
        return f"{self.codec}, {self.judge}"


def draw_scores(curves: Sequence[Curve], score: str, title: str, form: str) -> bytes:
    """The figure as a file, of a form that matplotlib knows: png, svg or pdf.

    The first curve stands out. Bars are standard errors.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    codecs = dict.fromkeys(curve.codec for curve in curves)
    looks = styles(list(codecs), curves[0].codec if curves else "")
    judges = list(dict.fromkeys(curve.judge for curve in curves))
    with matplotlib.rc_context(PAPER_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            look = looks[curve.codec]
            line = _LINES[judges.index(curve.judge) % len(_LINES)]
            known = sorted(point for point in curve.points if point[0] is not None)
            if known:
                rates, values, errors = zip(*known, strict=True)
                axes.errorbar(
                    rates,
                    values,
                    errors,
                    label=curve.label,
                    color=look.light,
                    marker=look.marker,
                    linestyle=line,
                    markersize=4,
                    linewidth=1.8 if curve is curves[0] else 0.9,
                    elinewidth=0.5,
                )
            for rate, value, _ in curve.points:
                if rate is None:
                    axes.axhline(
                        value, label=curve.label, color=look.light, linestyle=line, linewidth=0.9
                    )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(score)
        axes.set_title(title)
        axes.grid(True)
        if curves:
            figure.legend(loc="outside right center", frameon=False)
        file = io.BytesIO()
        # No date: the same tables give the same file.
        dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(file, format=form, dpi=_DPI, metadata=dated.get(form))
    return file.getvalue()
