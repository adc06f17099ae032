"""Synthesis: DCT coefficients at 1/16 -> image planes, in named stages.

    linear_planes   coefficients -> linear picture
    enter16         coefficients and modes -> features at 1/16
    body16          residual blocks at 1/16
    enter8          features at 1/16 and linear picture -> features at 1/8
    body8           residual blocks at 1/8
    leave8          features at 1/8, added to the linear picture
    retouch         post-filter at 1/2

`forward` runs the stages over a whole image. `mvmic_codec.decoder.stripes` runs the same stages
stripe by stripe. Parameters have the names of weights files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.definition import AREA
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
from mvmic_codec.model.transforms import filter_borders, inverse_block_dct

# In samples on the 255 scale, as INPUT_SCALE8: inputs of a branch are divided by such a scale, and
# its outputs are multiplied by one.
OUTPUT_SCALE8 = 16.0
INPUT_SCALE2 = 16.0
OUTPUT_SCALE2 = 8.0
# Rows that the post-filter takes at once. Its activations are ten times the picture. Striping
# bounds memory and stays in cache.
POST_FILTER_ROWS = 128
# Rows on either side that a row depends on: a mean and four convolutions, each 3x3 at 1/2.
POST_FILTER_REACH = 10


class PostFilter(nn.Module):
    """Corrects the picture by a small network at 1/2. It does not know where blocks begin.

    The network sees samples minus the mean of the samples around them.
    """

    def __init__(self, planes: int, width: int) -> None:
        super().__init__()
        self.enter = SingleConv(planes * 4, width, 3, padding=1)
        self.rate = RateScale(width)
        self.body = ResidualBlock(width)
        self.leave = nn.Conv2d(width, planes * 4, 3, padding=1)
        start_at_zero(self.leave)

    def forward(self, planes: Tensor, rate: Tensor) -> Tensor:
        """Rotated planes [B,P,H,W] and rate indices [B] -> corrected planes [B,P,H,W].

        H and W are even. Off CUDA it works stripe by stripe.
        """
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
        """As `forward`, for all rows at once."""
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
        """Rotated planes at rate indices [B]. Float32 whatever autocast does."""
        return self.with_s16(coefficients, modes, rate)[0]

    def with_s16(self, coefficients: Tensor, modes: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and the features [B,width16,h,w] after `body16`."""
        linear = self.linear_planes(coefficients)
        s16 = self.body16(self.enter16(coefficients, modes, rate))
        x = self.body8(self.enter8(s16, linear, rate))
        planes: Tensor = self.retouch(self.leave8(x, linear), rate)
        return planes, s16

    def linear_planes(self, coefficients: Tensor) -> Tensor:
        """The linear picture [B,P,16h,16w] of coefficients [B,256P,h,w], in float32."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return filter_borders(inverse_block_dct(coefficients), self.borders)

    def enter16(self, coefficients: Tensor, modes: Tensor, rate: Tensor) -> Tensor:
        """Coefficients [B,256P,h,w] and modes [B,h,w] -> features [B,width16,h,w] for `body16`."""
        x = self.enter(coefficients, 1.0 / self.spread)
        out: Tensor = self.rate16(x + self.mode(one_hot(modes, self.modes).to(x.dtype)), rate)
        return out

    def enter8(self, features: Tensor, linear: Tensor, rate: Tensor) -> Tensor:
        """Output of `body16` and linear picture -> features [B,width8,2h,2w] for `body8`."""
        x = pixel_shuffle(self.up(features), 2) + self.inject(
            pixel_unshuffle(linear, 8), 1.0 / INPUT_SCALE8
        )
        out: Tensor = self.rate8(x, rate)
        return out

    def leave8(self, features: Tensor, linear: Tensor) -> Tensor:
        """The output of `body8`, added to the linear picture [B,P,16h,16w]."""
        return torch.add(linear, pixel_shuffle(self.leave(features), 8), alpha=OUTPUT_SCALE8)


def less_mean(quads: Tensor) -> Tensor:
    """Samples minus the mean of the samples around them.

    quads [B,4P,h,w] has the four samples of a 2x2 square of each plane as channels. The mean is
    over 3x3 such squares; at the edges, over those of them that exist.
    """
    fours = quads.unflatten(1, (-1, 4))
    mean = F.avg_pool2d(fours.mean(2), 3, 1, 1, count_include_pad=False)
    out: Tensor = (fours - mean[:, :, None]).flatten(1, 2)
    return out
