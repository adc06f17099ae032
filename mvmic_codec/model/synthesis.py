"""Synthesis: DCT coefficients at 1/16 -> image planes, in named stages.

    linear_planes   coefficients -> the linear path's picture
    enter16         coefficients and modes -> features at 1/16
    body16          residual blocks at 1/16
    enter8          these and the linear picture -> features at 1/8
    body8           residual blocks at 1/8
    leave8          these, added to the linear picture
    retouch         the post-filter, at 1/2

`forward` runs them over a whole image; `mvmic_codec.decoder.stripes` runs the same stages stripe by
stripe. Parameters keep the names that they have in weights files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.layers import (
    INPUT_SCALE8,
    RateScale,
    ResidualBlock,
    SingleConv,
    one_hot,
    pixel_shuffle,
    pixel_unshuffle,
    start_at_zero,
)
from mvmic_codec.model.transforms import AREA, filter_borders, inverse_block_dct

# What features are divided by when they enter or leave a branch, in samples: as INPUT_SCALE8.
OUTPUT_SCALE8 = 16.0
INPUT_SCALE2 = 16.0
OUTPUT_SCALE2 = 8.0
# Rows that the post-filter takes at once: its activations are ten times the picture, and striping
# bounds memory and stays in cache.
POST_FILTER_ROWS = 128
# Rows on either side that one depends on: a mean and four convolutions, each 3x3 at 1/2.
POST_FILTER_REACH = 10


class PostFilter(nn.Module):
    """Corrects the picture by a small network at 1/2, wherever a sample lies in its block.

    It sees each sample less the mean of those around it.
    """

    def __init__(self, planes: int, width: int) -> None:
        super().__init__()
        self.enter = SingleConv(planes * 4, width, 3, padding=1)
        self.rate = RateScale(width)
        self.body = ResidualBlock(width)
        self.leave = nn.Conv2d(width, planes * 4, 3, padding=1)
        start_at_zero(self.leave)

    def forward(self, planes: Tensor, rate: Tensor) -> Tensor:
        """Rotated planes [B,P,H,W], H and W even, and rate indices [B] -> the same shape."""
        height = planes.shape[2]
        if planes.is_cuda:
            return self.stripe(planes, rate)
        parts = []
        for top in range(0, height, POST_FILTER_ROWS):
            start = max(0, top - POST_FILTER_REACH)
            end = min(height, top + POST_FILTER_ROWS + POST_FILTER_REACH)
            part = self.stripe(planes[:, :, start:end], rate)
            parts.append(part[:, :, top - start :][:, :, :POST_FILTER_ROWS])
        return torch.cat(parts, 2)

    def stripe(self, planes: Tensor, rate: Tensor) -> Tensor:
        """As `forward`, of all rows together."""
        x = self.enter(less_mean(pixel_unshuffle(planes, 2)), 1.0 / INPUT_SCALE2)
        x = self.body(F.relu(self.rate(x, rate)))
        return torch.add(planes, pixel_shuffle(self.leave(x).float(), 2), alpha=OUTPUT_SCALE2)


class Synthesis(nn.Module):
    """DCT coefficients [B,256P,h,w] and modes [B,h,w] -> rotated planes [B,P,16h,16w]."""

    borders: Tensor
    spread: Tensor

    def __init__(
        self,
        planes: int,
        modes: int,
        width8: int,
        blocks8: int,
        width16: int,
        blocks16: int,
        width2: int,
    ) -> None:
        super().__init__()
        self.modes = modes
        self.register_buffer("borders", torch.eye(BLOCK))
        self.enter = SingleConv(planes * AREA, width16, 1)
        self.mode = SingleConv(modes, width16, 1, bias=False)
        self.rate16 = RateScale(width16)
        self.body16 = nn.Sequential(*[ResidualBlock(width16) for _ in range(blocks16)])
        self.up = SingleConv(width16, 4 * width8, 1)
        self.inject = SingleConv(planes * 64, width8, 1)
        self.rate8 = RateScale(width8)
        self.body8 = nn.Sequential(*[ResidualBlock(width8) for _ in range(blocks8)])
        self.leave = SingleConv(width8, planes * 64, 1)
        start_at_zero(self.leave)
        self.retouch = PostFilter(planes, width2)
        self.register_buffer("spread", torch.ones(planes * AREA))

    def forward(self, coefficients: Tensor, modes: Tensor, rate: Tensor) -> Tensor:
        """Rate [B] holds indices; the planes are float32 whatever autocast does."""
        linear = self.linear_planes(coefficients)
        x = self.body16(self.enter16(coefficients, modes, rate))
        x = self.body8(self.enter8(x, linear, rate))
        planes: Tensor = self.retouch(self.leave8(x, linear), rate)
        return planes

    def linear_planes(self, coefficients: Tensor) -> Tensor:
        """What the linear path makes of coefficients: rotated planes [B,P,16h,16w]."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return filter_borders(inverse_block_dct(coefficients), self.borders)

    def enter16(self, coefficients: Tensor, modes: Tensor, rate: Tensor) -> Tensor:
        """Features [B,width16,h,w], which go into `body16`."""
        x = self.enter(coefficients, 1.0 / self.spread)
        out: Tensor = self.rate16(x + self.mode(one_hot(modes, self.modes).to(x.dtype)), rate)
        return out

    def enter8(self, features: Tensor, linear: Tensor, rate: Tensor) -> Tensor:
        """What comes out of `body16` -> features [B,width8,2h,2w], which go into `body8`."""
        x = pixel_shuffle(self.up(features), 2) + self.inject(
            pixel_unshuffle(linear, 8), 1.0 / INPUT_SCALE8
        )
        out: Tensor = self.rate8(x, rate)
        return out

    def leave8(self, features: Tensor, linear: Tensor) -> Tensor:
        """What comes out of `body8`, added to the linear picture [B,P,16h,16w]."""
        return torch.add(linear, pixel_shuffle(self.leave(features), 8), alpha=OUTPUT_SCALE8)


def less_mean(quads: Tensor) -> Tensor:
    """Take from [B,4P,h,w], squares of four samples of a plane, the mean of 3x3 squares around.

    Beyond the border there are none, and the mean is of the others.
    """
    fours = quads.unflatten(1, (-1, 4))
    mean = F.avg_pool2d(fours.mean(2), 3, 1, 1, count_include_pad=False)
    out: Tensor = (fours - mean[:, :, None]).flatten(1, 2)
    return out
