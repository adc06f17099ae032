"""Filling the hidden pixels of an image smoothly, so that no hard edge is left to code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mvmic_codec.encoder.boxes import boxes_of

Planes = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Steps of smoothing at each scale.
SMOOTHINGS = 12
# Rectangles of at most so many pixels are smoothed as a whole: to cut them in two gains nothing.
CUT_ABOVE = 4096


def fill(planes: Planes, hidden: Mask) -> Planes:
    """Planes [C, H, W] with smooth values where `hidden` [H, W] is true; these are never seen.

    Averages of what is known at ever coarser scales, then smoothed where unknown at each.
    """
    if hidden.all():
        return np.full_like(planes, 0.5)
    return _filled(planes, ~hidden)


def _filled(planes: Planes, known: Mask) -> Planes:
    if known.all():
        return planes
    height, width = known.shape
    count = _sums_of_four(known[None].astype(np.float32))
    total = _sums_of_four(planes * known)
    coarse = _filled(total / count.clip(1), count[0] > 0)
    wide = coarse.repeat(2, 1).repeat(2, 2)[:, :height, :width]
    edged = np.pad(np.where(known, planes, wide), ((0, 0), (1, 1), (1, 1)), mode="edge")
    out = edged[:, 1:-1, 1:-1]
    # Only unknown pixels change. All means are computed before any of them is written.
    parts = [
        (box, ~known[box], np.empty_like(out[(slice(None), *box)]))
        for box in boxes_of(~known, CUT_ABOVE)
    ]
    for _ in range(SMOOTHINGS):
        for (rows, columns), _, mean in parts:
            # With the row above and the row below; with the columns on either side.
            tall = edged[:, rows.start : rows.stop + 2, columns.start + 1 : columns.stop + 1]
            broad = edged[:, rows.start + 1 : rows.stop + 1, columns.start : columns.stop + 2]
            np.add(tall[:, :-2], tall[:, 2:], out=mean)
            mean += broad[:, :, :-2]
            mean += broad[:, :, 2:]
            mean *= 0.25
        for box, unknown, mean in parts:
            np.copyto(out[(slice(None), *box)], mean, where=unknown)
        edged[:, 0], edged[:, -1] = edged[:, 1], edged[:, -2]
        edged[:, :, 0], edged[:, :, -1] = edged[:, :, 1], edged[:, :, -2]
    return out


def _sums_of_four(planes: Planes) -> Planes:
    """[C, H, W] -> [C, H / 2, W / 2], rounded up; what lies beyond counts as 0."""
    _, height, width = planes.shape
    even = np.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)))
    rows: Planes = even[:, ::2] + even[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]
