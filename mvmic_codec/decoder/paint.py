"""Painting flat areas over what the networks made of an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.flat import BLENDS, Flat, beside


def paint(
    planes: npt.NDArray[np.float32], flat: Flat, lo: int, hi: int, top: int = 0, left: int = 0
) -> npt.NDArray[np.float32]:
    """Planes [C, h, w] in 0 to 1 with the flat pixels at their colours, and others blended.

    They are the image's part that begins in row `top` and column `left`. lo and hi are the samples
    that 0.0 and 1.0 stand for; a colour is the exact sample again when the planes are rounded to
    samples.
    """
    # Colour 0 is not painted, its row only fills the place.
    table = np.vstack((np.zeros_like(flat.colours[:1]), flat.colours)) - np.int32(lo)
    values = (table / max(hi - lo, 1)).astype(np.float32).T
    bottom, right = top + planes.shape[1], left + planes.shape[2]
    map = flat.map[top:bottom, left:right]
    painted: npt.NDArray[np.float32] = np.where(map, values[:, map], planes)
    if flat.blends is not None:
        blends = flat.blends[top:bottom, left:right]
        at = np.nonzero(blends)
        share = blends[at].astype(np.float32) / (BLENDS + 1)
        # With the pixels around the part, as far as there are some.
        above, before = min(top, 1), min(left, 1)
        around = beside(flat.map[top - above : bottom + 1, left - before : right + 1])
        colour = values[:, around[above:, before:][at]]
        painted[:, at[0], at[1]] += share * (colour - painted[:, at[0], at[1]])
    return painted
