"""Synthesis in stripes of rows, one below the other.

Activations are many times larger than the image. Striping bounds memory and stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.synthesis import POST_FILTER_REACH, Synthesis


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


class StripedSynthesis:
    """The stages of `Synthesis` for an image whose rows of blocks come in stripes.

    reach  blocks on every side that a sample of the planes depends on. The first stripe has at
           least as many rows, and as many are not complete until others follow.
    """

    def __init__(self, net: Synthesis, rate: Tensor) -> None:
        self.net, self.rate = net, rate
        # Two rows at 1/16 for each block of that body, two at 1/8, and the post-filter's samples.
        self.reach = 2 * len(net.body16) + len(net.body8) + 1
        self.linear_planes = Striped(net.linear_planes, 1, BLOCK)
        self.body16 = [Striped(block, 2) for block in net.body16]
        self.body8 = [Striped(block, 2) for block in net.body8]
        # The linear picture waits, by rows of samples, for what goes through the bodies.
        self.until_enter8 = Striped(nn.Identity(), BLOCK * (2 * len(net.body16) - 1))
        self.until_leave8 = Striped(nn.Identity(), 8 * 2 * len(net.body8))
        self.post_filter = Striped(lambda planes: net.retouch(planes, rate), POST_FILTER_REACH)

    def __call__(self, coefficients: Tensor, modes: Tensor, *, last: bool) -> Tensor:
        """The next rows, as for `Synthesis` -> the next rows of its planes."""
        net = self.net
        linear = self.until_enter8(self.linear_planes(coefficients, last=last), last=last)
        x = net.enter16(coefficients, modes, self.rate)
        for block in self.body16:
            x = block(x, last=last)
        x = net.enter8(x, linear, self.rate)
        for block in self.body8:
            x = block(x, last=last)
        linear = self.until_leave8(linear, last=last)
        planes = net.leave8(x, linear)
        # The post-filter takes memory of its own.
        del linear, x
        return self.post_filter(planes, last=last)
