"""The figures of a report, made from rows: mean curves on common images, time and memory.

A curve is the mean over images, so two curves can be compared only where both are means over the
same images. A set of which some codec has only a part is therefore shown in several views: each is
a choice of images and the codecs that have all of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from mvmic_codec.evaluation.curves import in_db
from mvmic_codec.evaluation.rows import Row

# Old and simple first; those that are not named here follow by name.
_ORDER = ("jpeg", "jpeg2000", "webp", "avif", "heic", "jxl", "bpg", "vvc")


@dataclass(frozen=True)
class Point:
    """Means over the images of a view at one setting of a codec.

    psnr and ms_ssim are in dB; None where a row has no figure or an infinite one. MS-SSIM in dB is
    -10 log10(1 - mean MS-SSIM).
    """

    setting: str
    bpp: float
    psnr: float | None
    ms_ssim: float | None


@dataclass(frozen=True)
class Line:
    """A codec's curve, by rising rate."""

    codec: str
    points: list[Point]


@dataclass(frozen=True)
class View:
    """Curves of the codecs that have all of these images of a set."""

    set: str
    images: int
    lines: list[Line]


@dataclass(frozen=True)
class Cost:
    """Time and memory of a megapixel by a codec on a set: medians, None where no row has any.

    encode_s, decode_s      seconds
    encode_mib, decode_mib  MiB of memory at the peak
    """

    set: str
    codec: str
    encode_s: float | None
    decode_s: float | None
    encode_mib: float | None
    decode_mib: float | None


# What is drawn against the rate, in dB.
FIGURES: Mapping[str, Callable[[Point], float | None]] = {
    "PSNR": lambda point: point.psnr,
    "MS-SSIM": lambda point: point.ms_ssim,
}

# How far a chart reaches beyond the curve of the codec under test.
_RATE_MARGIN = 1.5
_FIGURE_MARGIN = 0.2


def frame(
    view: View, test: str, figure: Callable[[Point], float | None]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Least and largest bpp and figure that a chart should show; at least one figure is there.

    The curve of `test` and a little more: a peer's other settings, up to ten times the rate, would
    press together what is to be compared.
    """
    known = [
        (line.codec, point.bpp, value)
        for line in view.lines
        for point in line.points
        if (value := figure(point)) is not None
    ]
    own = [place for place in known if place[0] == test]
    if len(own) < 2:
        own = known
    rates, values = [bpp for _, bpp, _ in own], [value for *_, value in own]
    margin = _FIGURE_MARGIN * (max(values) - min(values))
    return (
        (
            max(min(rates) / _RATE_MARGIN, min(bpp for _, bpp, _ in known)),
            min(max(rates) * _RATE_MARGIN, max(bpp for _, bpp, _ in known)),
        ),
        (
            max(min(values) - margin, min(value for *_, value in known)),
            min(max(values) + margin, max(value for *_, value in known)),
        ),
    )


def codecs_of(rows: Iterable[Row], first: str) -> list[str]:
    """The codecs in the rows: `first`, then the known ones, then others by name."""
    names = {row.codec for row in rows}
    known = [name for name in (first, *_ORDER) if name in names]
    return [*dict.fromkeys(known), *sorted(names.difference(known))]


def sets_of(rows: Iterable[Row]) -> list[str]:
    """The sets in the rows, in the order in which they appear."""
    return list(dict.fromkeys(row.set for row in rows))


def views(rows: Sequence[Row], test: str) -> list[View]:
    """Views of every set, in the order of the sets, the one of most images first.

    Where `test` has rows in a set, only its images count, so that every view shows it. A view of a
    lone codec is left out where the set has another view.
    """
    table: dict[str, dict[str, dict[str, list[Row]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        table[row.set][row.codec][row.image].append(row)
    found = []
    for name in sets_of(rows):
        codecs = table[name]
        order = codecs_of((row for row in rows if row.set == name), test)
        images = {codec: frozenset(codecs[codec]) for codec in order}
        if test in images:
            images = {codec: own & images[test] for codec, own in images.items()}
        of_set = [
            _view(
                name, common, {codec: codecs[codec] for codec in order if common <= images[codec]}
            )
            for common in sorted({*images.values()}, key=lambda some: (-len(some), sorted(some)))
            if common
        ]
        shared = [view for view in of_set if len(view.lines) > 1]
        found += shared or of_set
    return found


def costs(rows: Sequence[Row], test: str) -> list[Cost]:
    """One entry for each set and codec, sets in order of appearance."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.set, row.codec].append(row)
    return [
        Cost(
            name,
            codec,
            _per_megapixel((row.enc_s, row) for row in groups[name, codec]),
            _per_megapixel((row.dec_s, row) for row in groups[name, codec]),
            _per_megapixel((row.enc_mib, row) for row in groups[name, codec]),
            _per_megapixel((row.dec_mib, row) for row in groups[name, codec]),
        )
        for name in sets_of(rows)
        for codec in codecs_of(rows, test)
        if (name, codec) in groups
    ]


def _view(name: str, common: Collection[str], codecs: dict[str, dict[str, list[Row]]]) -> View:
    lines = [
        Line(codec, _points([images[image] for image in common]))
        for codec, images in codecs.items()
    ]
    return View(name, len(common), [line for line in lines if line.points])


def _points(images: Sequence[Sequence[Row]]) -> list[Point]:
    """Means at every setting that all images have, whatever variant was kept for an image."""
    settings: dict[str, list[Row]] = defaultdict(list)
    for rows in images:
        for row in rows:
            settings[row.setting.partition("/")[0]].append(row)
    points = [
        Point(
            setting,
            fmean(row.bpp for row in rows),
            _finite([row.psnr for row in rows]),
            _decibels(_finite([row.ms_ssim for row in rows])),
        )
        for setting, rows in settings.items()
        if len(rows) == len(images)
    ]
    return sorted((point for point in points if point.bpp > 0), key=lambda point: point.bpp)


def _finite(values: Sequence[float | None]) -> float | None:
    """Mean of the values if every one is there and finite."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if len(known) == len(values) else None


def _decibels(ms_ssim: float | None) -> float | None:
    return None if ms_ssim is None or ms_ssim >= 1 else in_db(ms_ssim)


def _per_megapixel(measured: Iterable[tuple[float | None, Row]]) -> float | None:
    known = [1e6 * value / (row.width * row.height) for value, row in measured if value is not None]
    return median(known) if known else None
