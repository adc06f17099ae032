"""Analysis and synthesis: image planes <-> latent y at 1/16, all convolutions at 1/8 or below.

Each transform is a linear path plus a convolutional branch that starts at zero and learns the rest.
The linear path is a lapped transform in two orthonormal steps, started at the statistics of the
training images: a filter across block borders (Tran, Liang and Tu, "Lapped transform via
time-domain pre- and post-filtering", 2003) and a 16x16 block transform. It stays in float32; the
branch may run in bfloat16 under autocast.

Units: images are in 0..255 after a shift by 127.5, colours rotated to an orthonormal luma and two
chroma axes, so that squared error in the latent is squared error over the three samples of a
pixel. Gray images carry zero chroma.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 16
RATES = 64

# Orthonormal colour rotation: luma (R+G+B)/sqrt 3, and two chroma axes.
COLOUR = torch.tensor(
    [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


def rotate_colour(planes: Tensor) -> Tensor:
    """[B,3,H,W] RGB in 0..1 -> luma and chroma in 255 units, mid-gray at zero."""
    with torch.autocast(planes.device.type, enabled=False):
        colour = COLOUR.to(planes)
        return F.conv2d((planes - 0.5) * 255.0, colour[:, :, None, None])


def restore_colour(rotated: Tensor) -> Tensor:
    """The inverse of rotate_colour."""
    with torch.autocast(rotated.device.type, enabled=False):
        colour = COLOUR.to(rotated)
        return F.conv2d(rotated, colour.t()[:, :, None, None]) / 255.0 + 0.5


def filter_borders(planes: Tensor, matrix: Tensor) -> Tensor:
    """Apply a 16x16 matrix to the 16 samples around every inner block border, both ways.

    planes [B,C,H,W], H and W multiples of 16; matrix maps 16 samples, 8 on either side.
    """
    for _ in range(2):
        half = BLOCK // 2
        first, inner, last = planes.split((half, planes.shape[3] - BLOCK, half), 3)
        inner = F.linear(inner.unflatten(3, (-1, BLOCK)), matrix).flatten(3)
        planes = torch.cat((first, inner, last), 3).transpose(2, 3)
    return planes


class RateTable(nn.Module):
    """One vector for each of the 64 rate indices, linear between 8 learned knots."""

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


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, the second convolution started small."""

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


class RateScale(nn.Module):
    """Per-channel scale and shift by rate index: x * (1 + a[rate]) + b[rate]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = RateTable(2 * width)

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:
        """X [B,width,h,w] and rate indices [B] -> the same shape as x."""
        scale, shift = self.table(rate)[:, :, None, None].to(x.dtype).chunk(2, 1)
        out: Tensor = x * (1 + scale) + shift
        return out


class Analysis(nn.Module):
    """Rotated planes [B,3,H,W] (H, W multiples of 64) -> latent y [B,C,H/16,W/16]."""

    spread: Tensor

    def __init__(self, latent: int, width8: int, blocks8: int, width16: int, blocks16: int) -> None:
        super().__init__()
        self.borders = nn.Parameter(torch.eye(BLOCK))
        self.linear = nn.Conv2d(3 * BLOCK * BLOCK, latent, 1, bias=False)
        self.enter = nn.Conv2d(3 * 64, width8, 1)
        self.rate8 = RateScale(width8)
        self.body8 = nn.Sequential(*[ResidualBlock(width8) for _ in range(blocks8)])
        self.down = nn.Conv2d(4 * width8, width16, 1)
        self.rate16 = RateScale(width16)
        self.body16 = nn.Sequential(*[ResidualBlock(width16) for _ in range(blocks16)])
        self.leave = nn.Conv2d(width16, latent, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("spread", torch.ones(latent))

    def forward(self, rotated: Tensor, rate: Tensor) -> Tensor:
        """Rate [B] holds indices; the latent is float32 whatever autocast does."""
        with torch.autocast(rotated.device.type, enabled=False):
            lapped = filter_borders(rotated, self.borders)
            straight = self.linear(F.pixel_unshuffle(lapped, BLOCK))
        x = self.enter(F.pixel_unshuffle(rotated, 8) / 64.0)
        x = self.body8(self.rate8(x, rate))
        x = self.down(F.pixel_unshuffle(x, 2))
        x = self.body16(self.rate16(x, rate))
        bent = self.leave(x).float()
        out: Tensor = straight + bent * self.spread[:, None, None]
        return out


class Synthesis(nn.Module):
    """Latent y [B,C,h,w] -> rotated planes [B,3,16h,16w]."""

    spread: Tensor

    def __init__(self, latent: int, width8: int, blocks8: int, width16: int, blocks16: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(latent, 3 * BLOCK * BLOCK, 1, bias=False)
        self.borders = nn.Parameter(torch.eye(BLOCK))
        self.enter = nn.Conv2d(latent, width16, 1)
        self.rate16 = RateScale(width16)
        self.body16 = nn.Sequential(*[ResidualBlock(width16) for _ in range(blocks16)])
        self.up = nn.Conv2d(width16, 4 * width8, 1)
        self.inject = nn.Conv2d(3 * 64, width8, 1)
        self.rate8 = RateScale(width8)
        self.body8 = nn.Sequential(*[ResidualBlock(width8) for _ in range(blocks8)])
        self.leave = nn.Conv2d(width8, 3 * 64, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("spread", torch.ones(latent))

    def forward(self, latent: Tensor, rate: Tensor) -> Tensor:
        """Rate [B] holds indices; the planes are float32 whatever autocast does."""
        with torch.autocast(latent.device.type, enabled=False):
            lapped = F.pixel_shuffle(self.linear(latent), BLOCK)
            straight = filter_borders(lapped, self.borders)
        x = self.enter(latent / self.spread[:, None, None])
        x = self.body16(self.rate16(x, rate))
        x = F.pixel_shuffle(self.up(x), 2) + self.inject(F.pixel_unshuffle(straight, 8) / 64.0)
        x = self.body8(self.rate8(x, rate))
        return straight + F.pixel_shuffle(self.leave(x).float() * 16.0, 8)
