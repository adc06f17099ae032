"""Rate-distortion curves and the Bjontegaard differences between them.

BD-rate is the mean difference of log rate at equal quality over the range of quality that both
curves reach, interpolated by PCHIP, as a percentage of the anchor's rate: -30 means 30% fewer bits.
Quality is PSNR, or MS-SSIM in dB. BD-PSNR is the mean difference of PSNR in dB at equal rate, over
the range of log rate that both reach. The `bjontegaard` package computes them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.rows import Row

Curve = Sequence[tuple[float, float]]  # (bits per pixel, PSNR or MS-SSIM in dB)

# Over a shorter common range the figure says more about the settings than about the codecs.
LEAST_OVERLAP_DB = 1.0
# What 1 dB takes in rate, or a little less.
LEAST_OVERLAP_RATE = 1.2


@dataclass(frozen=True)
class Comparison:
    """A codec against an anchor on one set of images.

    bd_rates   percentage for each image whose curves overlap
    bd_psnrs   dB for each of these whose rates overlap too, by a factor of LEAST_OVERLAP_RATE
    ms_ssim_rates  percentage at equal MS-SSIM for each image that has it in rows of both, where
               these curves overlap
    apart      images of both whose curves have less than LEAST_OVERLAP_DB dB in common
    unmatched  images that only one of the two has rows for
    of_means   percentage on the curves of mean bpp and mean PSNR over all images of both, or None
               where these curves do not overlap
    common     mean lower and upper end of the common range in dB, over the images in bd_rates
    """

    set: str
    anchor: str
    bd_rates: dict[str, float]
    bd_psnrs: dict[str, float]
    ms_ssim_rates: dict[str, float]
    apart: list[str]
    unmatched: list[str]
    of_means: float | None
    common: tuple[float, float] | None


def mean(values: dict[str, float]) -> float | None:
    """Mean over the images, None if there are none."""
    return sum(values.values()) / len(values) if values else None


def in_db(ms_ssim: float) -> float:
    """MS-SSIM as -10 log10(1 - MS-SSIM) in dB, infinite at 1: equal steps look alike."""
    return -10 * math.log10(1 - ms_ssim) if ms_ssim < 1 else math.inf


def frontier(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points by rising rate, without those that give no better PSNR than a cheaper one.

    A codec's user would not choose those, and the interpolation needs a rising curve. Exact
    copies (infinite PSNR) have no place on a curve either.
    """
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if math.isfinite(quality) and (not kept or quality > kept[-1][1]):
            kept.append((rate, quality))
    return kept


def common_range(one: Curve, other: Curve) -> tuple[float, float] | None:
    """PSNR range that two curves share, or None if it is shorter than LEAST_OVERLAP_DB."""
    one, other = frontier(one), frontier(other)
    if len(one) < 2 or len(other) < 2:
        return None
    lo = max(one[0][1], other[0][1])
    hi = min(one[-1][1], other[-1][1])
    return (lo, hi) if hi - lo >= LEAST_OVERLAP_DB else None


def bd_rate(anchor: Curve, test: Curve) -> float | None:
    """Percentage of bits that `test` takes more than `anchor`; None without a common range."""
    if common_range(anchor, test) is None:
        return None
    import bjontegaard

    return _difference(bjontegaard.bd_rate, anchor, test)


def bd_psnr(anchor: Curve, test: Curve) -> float | None:
    """Gain of `test` over `anchor` in dB at equal rate; None without a common range of rates."""
    one, other = frontier(anchor), frontier(test)
    if len(one) < 2 or len(other) < 2:
        return None
    if min(one[-1][0], other[-1][0]) < LEAST_OVERLAP_RATE * max(one[0][0], other[0][0]):
        return None
    import bjontegaard

    return _difference(bjontegaard.bd_psnr, anchor, test)


def _difference(function: Callable[..., float], anchor: Curve, test: Curve) -> float:
    anchor_rates, anchor_qualities = zip(*frontier(anchor), strict=True)
    test_rates, test_qualities = zip(*frontier(test), strict=True)
    return float(
        function(
            list(anchor_rates),
            list(anchor_qualities),
            list(test_rates),
            list(test_qualities),
            method="pchip",
            require_matching_points=False,
            min_overlap=0,
        )
    )


def compare(rows: Iterable[Row], test: str) -> list[Comparison]:
    """Codec `test` against every other codec in the rows, by set and then by anchor.

    Raises InputError if a row is there twice, as a mean over both would count an image double.
    """
    images: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    seen = set()
    for row in rows:
        key = (row.set, row.image, row.codec, row.setting)
        if key in seen:
            raise InputError(f"the tables hold {' '.join(key)} twice; give each of them once")
        seen.add(key)
        images[row.set, row.codec][row.image].append(row)
    return [
        _compare(name, codec, images[name, codec], images[name, test])
        for name, codec in sorted(images)
        if codec != test and (name, test) in images
    ]


def _compare(
    name: str, anchor: str, anchors: dict[str, list[Row]], tests: dict[str, list[Row]]
) -> Comparison:
    shared = sorted(anchors.keys() & tests.keys())
    bd_rates, bd_psnrs, ms_ssim_rates = {}, {}, {}
    apart, ranges = [], []
    for image in shared:
        one, other = _curve(anchors[image]), _curve(tests[image])
        value, common = bd_rate(one, other), common_range(one, other)
        if value is None or common is None:
            apart.append(image)
        else:
            bd_rates[image] = value
            ranges.append(common)
            gain = bd_psnr(one, other)
            if gain is not None:
                bd_psnrs[image] = gain
        value = bd_rate(_ms_ssim_curve(anchors[image]), _ms_ssim_curve(tests[image]))
        if value is not None:
            ms_ssim_rates[image] = value
    return Comparison(
        set=name,
        anchor=anchor,
        bd_rates=bd_rates,
        bd_psnrs=bd_psnrs,
        ms_ssim_rates=ms_ssim_rates,
        apart=apart,
        unmatched=sorted(anchors.keys() ^ tests.keys()),
        of_means=bd_rate(
            _mean_curve([anchors[image] for image in shared]),
            _mean_curve([tests[image] for image in shared]),
        ),
        common=(
            sum(lo for lo, _ in ranges) / len(ranges),
            sum(hi for _, hi in ranges) / len(ranges),
        )
        if ranges
        else None,
    )


def _curve(rows: Iterable[Row]) -> Curve:
    return [(row.bpp, row.psnr) for row in rows]


def _ms_ssim_curve(rows: Iterable[Row]) -> Curve:
    return [(row.bpp, in_db(row.ms_ssim)) for row in rows if row.ms_ssim is not None]


def _mean_curve(images: Sequence[Sequence[Row]]) -> Curve:
    """Mean bpp and PSNR at every setting that all images have, whatever the variant kept."""
    settings: dict[str, list[Row]] = defaultdict(list)
    for rows in images:
        for row in rows:
            settings[row.setting.partition("/")[0]].append(row)
    return [
        (sum(row.bpp for row in rows) / len(rows), sum(row.psnr for row in rows) / len(rows))
        for rows in settings.values()
        if len(rows) == len(images)
    ]
