"""Analysis: image planes -> DCT coefficients at 1/16, and from these the hyper-latent at 1/64.

The coefficients are the sum of a linear path, the lapped DCT of transforms.py, and a convolutional
branch at 1/8 and 1/16.
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
    RateTable,
    ResidualBlock,
    pixel_unshuffle,
    start_at_zero,
)
from mvmic_codec.model.transforms import block_dct, filter_borders

# The hyper-latent's linear path sees a square of low DCT frequencies with this side.
LOW_LUMA = 6
LOW_CHROMA = 3
# Channels of the branch that corrects the hyper-latent. A model's card does not hold it, so all
# models have the same.
HYPER_WIDTH = 96
# The branch works on numbers near one, while z is on the 255 scale.
HYPER_SCALE = 32.0


class Analysis(nn.Module):
    """Rotated planes [B,P,H,W] (H, W multiples of 64) -> DCT coefficients [B,256P,H/16,W/16].

    Planes and coefficients are on the 255 scale.
    """

    borders: Tensor
    spread: Tensor

    def __init__(self, planes: int, width8: int, blocks8: int, width16: int, blocks16: int) -> None:
        super().__init__()
        self.register_buffer("borders", torch.eye(BLOCK))
        self.enter = nn.Conv2d(planes * 64, width8, 1)
        self.rate8 = RateScale(width8)
        self.body8 = nn.Sequential(*[ResidualBlock(width8) for _ in range(blocks8)])
        self.down = nn.Conv2d(4 * width8, width16, 1)
        self.rate16 = RateScale(width16)
        self.body16 = nn.Sequential(*[ResidualBlock(width16) for _ in range(blocks16)])
        self.leave = nn.Conv2d(width16, planes * AREA, 1)
        start_at_zero(self.leave)
        self.register_buffer("spread", torch.ones(planes * AREA))

    def forward(self, rotated: Tensor, rate: Tensor) -> Tensor:
        """Coefficients of rotated planes at rate indices [B]. Float32 whatever autocast does."""
        return self.linear_coefficients(rotated) + self.branch(rotated, rate)

    def linear_coefficients(self, rotated: Tensor) -> Tensor:
        """The lapped DCT [B,256P,H/16,W/16] of rotated planes [B,P,H,W], in float32."""
        with torch.autocast(rotated.device.type, enabled=False):
            return block_dct(filter_borders(rotated, self.borders))

    def branch(self, rotated: Tensor, rate: Tensor) -> Tensor:
        """What is added to these, in float32."""
        x = self.rate8(self.enter(pixel_unshuffle(rotated, 8) / INPUT_SCALE8), rate)
        x = self.rate16(self.down(pixel_unshuffle(self.body8(x), 2)), rate)
        out: Tensor = self.leave(self.body16(x)).float() * self.spread[:, None, None]
        return out


def low_frequencies(planes: int) -> Tensor:
    """Indices of the low frequencies among the 256P DCT coefficients of a block, int64."""
    at = torch.arange(AREA).reshape(BLOCK, BLOCK)
    luma = at[:LOW_LUMA, :LOW_LUMA].flatten()
    chroma = at[:LOW_CHROMA, :LOW_CHROMA].flatten()
    return torch.cat((luma, *[plane * AREA + chroma for plane in range(1, planes)]))


class HyperAnalysis(nn.Module):
    """DCT coefficients [B,256P,h,w] at 1/16 -> z [B,Z,h/4,w/4] at 1/64."""

    low: Tensor

    def __init__(self, planes: int, hyper: int, width: int = HYPER_WIDTH) -> None:
        super().__init__()
        self.register_buffer("low", low_frequencies(planes), persistent=False)
        self.linear = nn.Conv2d(len(self.low) * 16, hyper, 1, bias=False)
        self.enter = nn.Conv2d(planes * AREA, width, 1)
        self.rate = RateTable(width)
        self.body = ResidualBlock(width)
        self.down = nn.Conv2d(16 * width, hyper, 1)
        start_at_zero(self.down)

    def forward(self, coefficients: Tensor, spread: Tensor, rate: Tensor) -> Tensor:
        """Z on the 255 scale, in float32.

        spread [256P] is the typical size of each coefficient; rate [B] holds rate indices.
        """
        with torch.autocast(coefficients.device.type, enabled=False):
            linear = self.linear(pixel_unshuffle(coefficients[:, self.low], 4))
        x = self.enter(coefficients / spread[:, None, None])
        x = self.body(F.relu(x + self.rate(rate)[:, :, None, None].to(x.dtype)))
        correction = self.down(pixel_unshuffle(x, 4)).float()
        out: Tensor = linear + correction * HYPER_SCALE
        return out
