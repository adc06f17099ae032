"""Which values of a deep image are outliers: far from all others, and few or all of one value.

One dead pixel, or the padding of a CT scan at -32768, would else stretch the range over which
errors count, and so coarsen all others. A file keeps such values exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A file lists as many values. Half of them may lie below the range, half above.
VALUES_MAX = 255
# What lies beyond a gap are outliers if they take no more than this share of pixels, but for one
# value, such as padding, of which there may be many;
SHARE_MAX = 1e-3
# and if the gap takes this share of the range, without the outliers that are known by then.
GAP_MIN = 0.25
# Outliers are left out of a range of more than 8 bits only, and if that makes it so much smaller.
SPAN_MIN = 256
SHRINK_MIN = 2.0


def range_without_outliers(frames: Sequence[NDArray[Any]]) -> tuple[int, int]:
    """The least and the largest of integers, at most 16 bits each, that are no outliers.

    frames are those of one file: they have one range.
    """
    pairs = [np.unique(frame, return_counts=True) for frame in frames]
    values = np.concatenate([each for each, _ in pairs]).astype(np.int64)
    distinct, number = np.unique(values, return_inverse=True)
    weights = np.concatenate([each for _, each in pairs])
    counts = np.bincount(number.reshape(-1), weights).astype(np.int64)
    first = _edge(distinct, counts)
    last = len(distinct) - 1 - _edge(-distinct[::-1], counts[::-1])
    if first > last:
        # Each side could be the outliers of the other, as in an image of two values.
        if counts[:first].sum() <= counts[last + 1 :].sum():
            last = len(distinct) - 1
        else:
            first = 0
    span = _span(distinct)
    if span < SPAN_MIN or span < SHRINK_MIN * _span(distinct[first : last + 1]):
        return int(distinct[0]), int(distinct[-1])
    return int(distinct[first]), int(distinct[last])


def _edge(distinct: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """How many of the ascending values are outliers at their lower end: up to the last wide gap."""
    most = min(VALUES_MAX // 2, len(distinct) - 1)
    lowest = counts[:most]
    # All but the commonest of them.
    others = np.cumsum(lowest) - np.maximum.accumulate(lowest)
    gaps = np.where(others <= SHARE_MAX * counts.sum(), np.diff(distinct[: most + 1]), 0)
    first = 0
    while first < most and gaps[first:].max() >= GAP_MIN * _span(distinct[first:]):
        first += int(gaps[first:].argmax()) + 1
    return first


def _span(distinct: NDArray[np.int64]) -> int:
    return int(distinct[-1] - distinct[0])
