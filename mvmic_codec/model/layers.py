"""Layers and small operations that several networks of the model share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.rate import RATES

# Samples on the 255 scale are divided by this before they enter a branch at 1/8, so that the branch
# works on numbers near one.
INPUT_SCALE8 = 64.0


def pixel_unshuffle(x: Tensor, size: int) -> Tensor:
    """F.pixel_unshuffle by views and one copy, which takes half the time on CPUs."""
    batch, channels, height, width = x.shape
    view = x.reshape(batch, channels, height // size, size, width // size, size)
    return view.permute(0, 1, 3, 5, 2, 4).reshape(
        batch, channels * size * size, height // size, width // size
    )


def pixel_shuffle(x: Tensor, size: int) -> Tensor:
    """The inverse of `pixel_unshuffle`."""
    batch, channels, height, width = x.shape
    view = x.reshape(batch, channels // size**2, size, size, height, width)
    return view.permute(0, 1, 4, 2, 5, 3).reshape(
        batch, channels // size**2, height * size, width * size
    )


def mix(planes: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of [B,I,h,w] by a matrix [O,I]: a 1x1 convolution as a product."""
    out: Tensor = torch.matmul(matrix, planes.flatten(2)).reshape(
        planes.shape[0], -1, *planes.shape[2:]
    )
    return out


def one_hot(modes: Tensor, count: int) -> Tensor:
    """[B,h,w] int64 -> [B,count,h,w] float32."""
    every = torch.arange(count, device=modes.device)
    return (modes[:, None] == every[:, None, None]).float()


def start_at_zero(conv: nn.Conv2d) -> None:
    """Set the weight and bias of a convolution to 0, so that its branch adds nothing at first."""
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)


class RateTable(nn.Module):
    """One vector for each rate index, interpolated linearly between learned knots."""

    def __init__(self, channels: int, knots: int = 8, value: float = 0.0) -> None:
        super().__init__()
        self.knots = nn.Parameter(torch.full((knots, channels), value))

    def forward(self, rate: Tensor) -> Tensor:
        """Rate indices [B] -> vectors [B, channels]."""
        last = self.knots.shape[0] - 1
        position = rate.to(self.knots.dtype) * (last / (RATES - 1))
        low = position.floor().clamp(0, last - 1).long()
        part = (position - low)[:, None]
        return torch.lerp(self.knots[low], self.knots[low + 1], part)


class RateScale(nn.Module):
    """Scale and shift each channel by rate index: x * (1 + a[rate]) + b[rate]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = RateTable(2 * width)

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:
        """X [B,width,h,w] and rate indices [B] -> the same shape as x."""
        scale, shift = self.table(rate)[:, :, None, None].to(x.dtype).chunk(2, 1)
        out: Tensor = x * (1 + scale) + shift
        return out


class SingleConv(nn.Conv2d):
    """A convolution in single precision, whatever autocast does.

    Synthesis uses it everywhere but in residual blocks and its last convolution. These layers carry
    the picture itself, and bfloat16 would keep only 8 bits of that.
    """

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """X [B,I,h,w], each channel times its scale [I] -> [B,O,h,w], float32."""
        with torch.autocast(x.device.type, enabled=False):
            # Scaling the filters is cheaper than scaling the input.
            scales = scale[:, None, None] if isinstance(scale, Tensor) else scale
            out: Tensor = self._conv_forward(x.float(), self.weight * scales, self.bias)
            return out


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), both 3x3. The second convolution starts with small weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """X [B,width,h,w] -> the same shape."""
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out
