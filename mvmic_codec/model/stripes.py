"""A layer over an image whose rows come in stripes, one below the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Striped:
    """Gives in stripes what `layer` gives of all rows of an image.

    A row of the layer's result depends on `reach` rows above and below, so that the last ones of a
    stripe have to wait for the next. The first stripe has at least `reach` rows. `scale` rows come
    out for each that goes in.
    """

    def __init__(self, layer: Callable[[Tensor], Tensor], reach: int, scale: int = 1) -> None:
        self.layer, self.reach, self.scale = layer, reach, scale
        # Rows that results to come depend on, and how many of their own results were given.
        self.kept: Tensor | None = None
        self.given = 0

    def __call__(self, rows: Tensor, *, last: bool) -> Tensor:
        """The next rows [B,I,h,w] -> the rows [B,O,h',w'] of the result that are known now.

        After the `last` ones these are all that is left.
        """
        if self.kept is not None:
            rows = torch.cat((self.kept, rows), 2)
        start, end = self.given, rows.shape[2] - (0 if last else self.reach)
        out = self.layer(rows)[:, :, self.scale * start : self.scale * end]
        first = max(0, end - self.reach)
        # Copied, so that not all rows are kept.
        self.kept, self.given = None if last else rows[:, :, first:].clone(), end - first
        return out
