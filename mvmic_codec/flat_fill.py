"""Filling smoothly what flat areas leave open of an image, so that no hard edge is left to code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Steps of smoothing at each scale.
SMOOTHINGS = 12


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
    pad = ((0, height % 2), (0, width % 2))
    quarters = (len(planes), -(-height // 2), 2, -(-width // 2), 2)
    count = np.pad(known, pad).reshape(quarters[1:]).sum((1, 3))
    total = np.pad(planes * known, ((0, 0), *pad)).reshape(quarters).sum((2, 4))
    coarse = _filled((total / np.maximum(count, 1)).astype(np.float32), count > 0)
    wide = coarse.repeat(2, 1).repeat(2, 2)[:, :height, :width]
    out = np.where(known, planes, wide)
    for _ in range(SMOOTHINGS):
        edged = np.pad(out, ((0, 0), (1, 1), (1, 1)), mode="edge")
        mean = edged[:, :-2, 1:-1] + edged[:, 2:, 1:-1] + edged[:, 1:-1, :-2] + edged[:, 1:-1, 2:]
        out = np.where(known, planes, mean / 4)
    return out
