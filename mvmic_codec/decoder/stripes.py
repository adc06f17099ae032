"""Synthesis in stripes of rows, from top to bottom.

Activations are many times larger than the image. Striping bounds memory and stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.synthesis import POST_FILTER_REACH, Synthesis

# Feature maps in the order in which they are computed, with their samples of the image for each
# element. docs/features.md says what they are.
STRIDES = {"coefficients": 16, "s16": 16, "s8": 8}
PLANES = "planes"
# Takes the name of a feature map and its next rows [B,C,h,w].
EmitMap = Callable[[str, Tensor], None]


class Striped:
    """Runs `layer` in stripes, with the result that it has on all rows of an image.

    reach  rows above and below that a row of the result depends on. The last `reach` rows of a
           stripe wait for the next one; the first stripe has at least as many rows
    scale  rows of the result for each row of the input
    """

    def __init__(self, layer: Callable[[Tensor], Tensor], reach: int, scale: int = 1) -> None:
        self.layer, self.reach, self.scale = layer, reach, scale
        # Input rows that later results depend on, and for how many of them results were returned.
        self.kept: Tensor | None = None
        self.returned = 0

    def __call__(self, rows: Tensor, *, last: bool) -> Tensor:
        """The next rows [B,I,h,w] -> the rows [B,O,h',w'] of the result that they complete.

        With `last`, those are all that remain.
        """
        if self.kept is not None:
            rows = torch.cat((self.kept, rows), 2)
        start, end = self.returned, rows.shape[2] - (0 if last else self.reach)
        out = self.layer(rows)[:, :, self.scale * start : self.scale * end]
        first = max(0, end - self.reach)
        # A copy: a view would keep all rows in memory.
        self.kept, self.returned = None if last else rows[:, :, first:].clone(), end - first
        return out


class StripedSynthesis:
    """Runs the stages of `Synthesis` on stripes of rows of blocks, at rate indices [B].

    emit_map  is given each feature map whose rows are complete: its name in STRIDES, and the rows.
    until     what is computed last: a feature map, or PLANES

    reach     how many blocks on every side a sample of the planes depends on. The first stripe has
              at least as many rows. The last rows, as many, wait for the next stripe.
    """

    def __init__(
        self,
        net: Synthesis,
        rate: Tensor,
        emit_map: EmitMap = lambda name, rows: None,
        until: str = PLANES,
    ) -> None:
        self.net, self.rate, self.emit_map, self.until = net, rate, emit_map, until
        # A residual block takes two rows at 1/16, or two at 1/8; the post-filter less than a block.
        self.reach = 2 * len(net.body16) + len(net.body8) + 1
        self.linear_planes = Striped(net.linear_planes, 1, BLOCK)
        self.body16 = [Striped(block, 2) for block in net.body16]
        self.body8 = [Striped(block, 2) for block in net.body8]
        # The linear picture, counted in samples, waits for the features that pass the bodies.
        self.until_enter8 = Striped(nn.Identity(), BLOCK * (2 * len(net.body16) - 1))
        self.until_leave8 = Striped(nn.Identity(), 8 * 2 * len(net.body8))
        self.post_filter = Striped(lambda planes: net.retouch(planes, rate), POST_FILTER_REACH)

    def __call__(self, coefficients: Tensor, modes: Tensor, *, last: bool) -> Tensor | None:
        """The next rows of coefficients and modes -> the next rows of planes, as in `Synthesis`.

        None unless `until` is PLANES.
        """
        net = self.net
        self.emit_map("coefficients", coefficients)
        if self.until == "coefficients":
            return None
        x = net.enter16(coefficients, modes, self.rate)
        for block in self.body16:
            x = block(x, last=last)
        self.emit_map("s16", x)
        if self.until == "s16":
            return None
        linear = self.until_enter8(self.linear_planes(coefficients, last=last), last=last)
        x = net.enter8(x, linear, self.rate)
        for block in self.body8:
            x = block(x, last=last)
        self.emit_map("s8", x)
        if self.until == "s8":
            return None
        linear = self.until_leave8(linear, last=last)
        planes = net.leave8(x, linear)
        # Freed first: the post-filter needs much memory of its own.
        del linear, x
        return self.post_filter(planes, last=last)
