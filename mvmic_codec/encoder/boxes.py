"""Rectangles around the true places of a mask: work is done there, and not on a whole image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Box = tuple[slice, slice]

# A rectangle of which this share is true is not cut in two.
FULL_SHARE = 0.6


def boxes_of(mask: npt.NDArray[np.bool_], area_min: int) -> list[Box]:
    """Disjoint rectangles that hold all true places of a mask [H, W], and few others.

    One with at most `area_min` places is not cut in two.
    """
    found: list[Box] = []
    height, width = mask.shape
    waiting = [(0, height, 0, width)]
    while waiting:
        top, bottom, left, right = waiting.pop()
        part = mask[top:bottom, left:right]
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        if not len(rows):
            continue
        top, bottom = top + int(rows[0]), top + int(rows[-1]) + 1
        left, right = left + int(columns[0]), left + int(columns[-1]) + 1
        high, wide = bottom - top, right - left
        part = mask[top:bottom, left:right]
        if part.size <= area_min or np.count_nonzero(part) >= FULL_SHARE * part.size:
            found.append((slice(top, bottom), slice(left, right)))
        elif high >= wide:
            middle = top + high // 2
            waiting += [(top, middle, left, right), (middle, bottom, left, right)]
        else:
            middle = left + wide // 2
            waiting += [(top, bottom, left, middle), (top, bottom, middle, right)]
    return found
