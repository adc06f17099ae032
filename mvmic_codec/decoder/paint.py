"""Paint flat areas over decoded samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.flat import BLENDS, Flat, beside


def paint(samples: npt.NDArray[Any], flat: Flat, top: int = 0, left: int = 0) -> None:
    """Give flat pixels their colours, and mix blends in, in samples [h,w,J].

    samples are the part of the image that begins in row `top` and column `left`. flat covers the
    whole image. A blend of b quarters makes of a sample s and a colour c the nearest integer to
    ((4 - b) s + b c) / 4, halves up.
    """
    bottom, right = top + samples.shape[0], left + samples.shape[1]
    map = flat.map[top:bottom, left:right]
    if flat.blends is not None:
        blends = flat.blends[top:bottom, left:right]
        at = np.nonzero(blends)
        share = blends[at].astype(np.int32)[:, None]
        # Neighbours may lie one pixel outside of the part, where the image goes on.
        above, before = min(top, 1), min(left, 1)
        around = beside(flat.map[top - above : bottom + 1, left - before : right + 1])
        colour = flat.colours[around[above:, before:][at] - 1]
        parts = BLENDS + 1
        mixed = (parts - share) * samples[at].astype(np.int32) + share * colour
        samples[at] = (2 * mixed + parts) // (2 * parts)
    painted = map > 0
    samples[painted] = flat.colours[map[painted] - 1]
