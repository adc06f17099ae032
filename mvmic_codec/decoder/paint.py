"""Paint flat areas over decoded planes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.flat import BLENDS, Flat, beside


def paint(
    planes: npt.NDArray[np.float32], flat: Flat, lo: int, hi: int, top: int = 0, left: int = 0
) -> npt.NDArray[np.float32]:
    """Planes [C, h, w] in 0 to 1 with flat pixels at their colours, and blends mixed in.

    planes are the part of the image that begins in row `top` and column `left`. flat covers the
    whole image. lo and hi are the sample values of 0.0 and 1.0. Rounding the result to samples
    gives every colour exactly.
    """
    # Number 0 is not painted; its row only makes the other numbers fit.
    table = np.vstack((np.zeros_like(flat.colours[:1]), flat.colours)) - np.int32(lo)
    values = (table / max(hi - lo, 1)).astype(np.float32).T
    bottom, right = top + planes.shape[1], left + planes.shape[2]
    map = flat.map[top:bottom, left:right]
    painted: npt.NDArray[np.float32] = np.where(map, values[:, map], planes)
    if flat.blends is not None:
        blends = flat.blends[top:bottom, left:right]
        at = np.nonzero(blends)
        share = blends[at].astype(np.float32) / (BLENDS + 1)
        # Neighbours may lie one pixel outside of the part, where the image goes on.
        above, before = min(top, 1), min(left, 1)
        around = beside(flat.map[top - above : bottom + 1, left - before : right + 1])
        colour = values[:, around[above:, before:][at]]
        painted[:, at[0], at[1]] += share * (colour - painted[:, at[0], at[1]])
    return painted
