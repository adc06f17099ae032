"""A head for segmentation: feature maps -> a logit for each class and pixel.

    laterals  a 1x1 convolution of each map, scaled and shifted by the rate index
    trunk     residual blocks at 1/16, 1/32 and 1/64; the mean over the image is added at 1/64
    pyramid   from 1/64 back to 1/8, with the trunk added at each stride (Lin et al. 2017,
              "Feature pyramid networks for object detection")
    logits    at 1/8, upsampled exactly 8 times, then cut to the image

All networks for segmentation are called alike: `network(maps, rates, size)`. Their attribute
`channels` says which maps they take.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.errors import InputError
from mvmic_codec.model.layers import RateScale


@dataclass(frozen=True)
class HeadConfig:
    """The shape of a `SegmentationHead`.

    channels  of each map that it takes, by the name of the map. At least one map is at 1/16.
    classes   logits for each pixel. 1 means foreground against background
    width     channels of the trunk
    """

    channels: dict[str, int]
    classes: int = 1
    width: int = 96

    def __post_init__(self) -> None:
        unknown = [name for name in self.channels if name not in STRIDES]
        if unknown or all(STRIDES[name] != 16 for name in self.channels):
            raise InputError(
                f"a head for segmentation takes maps of {', '.join(STRIDES)}, at least one of them "
                f"at 1/16; got {', '.join(self.channels) or 'none'}"
            )


class SegmentationHead(nn.Module):
    """Normalised feature maps and rate indices -> logits at the size of the image."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        width, narrow = config.width, config.width * 2 // 3
        self.channels = config.channels
        self.laterals = nn.ModuleDict(
            {
                name: Lateral(channels, width if STRIDES[name] == 16 else narrow)
                for name, channels in config.channels.items()
            }
        )
        self.trunk16 = ResidualBlock(width)
        self.trunk32 = nn.Sequential(conv_norm(width, width, stride=2), ResidualBlock(width))
        self.trunk64 = nn.Sequential(conv_norm(width, width, stride=2), ResidualBlock(width))
        self.mean = nn.Conv2d(width, width, 1)
        self.pyramid64 = nn.Conv2d(width, narrow, 1)
        self.pyramid32 = nn.Conv2d(width, narrow, 1)
        self.pyramid16 = nn.Conv2d(width, narrow, 1)
        self.smooth = conv_norm(narrow, narrow)
        self.logits = nn.Conv2d(narrow, config.classes, 1)

    def forward(self, maps: Mapping[str, Tensor], rates: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps [N,C,h,w] by name, rate indices [N], image size (H,W) -> logits [N,K,H,W], float32.

        Maps that the head was not made for are left alone.
        """
        at16: Tensor | None = None
        at8: Tensor | None = None
        for name, lateral in self.laterals.items():
            x = lateral(maps[name], rates)
            if STRIDES[name] == 16:
                at16 = x if at16 is None else at16 + x
            else:
                at8 = x if at8 is None else at8 + x
        assert at16 is not None
        x16 = self.trunk16(F.relu(at16))
        x32 = self.trunk32(x16)
        x64 = self.trunk64(x32)
        x64 = x64 + self.mean(x64.mean((2, 3), keepdim=True))
        x = self.pyramid64(x64)
        x = self.pyramid32(x32) + enlarged(x, 2, size_of(x32))
        x = self.pyramid16(x16) + enlarged(x, 2, size_of(x16))
        x = enlarged(x, 2, (-(-size[0] // 8), -(-size[1] // 8)))
        x = self.smooth(F.relu(x if at8 is None else x + at8))
        return enlarged(self.logits(x).float(), 8, size)


class Lateral(nn.Module):
    """A map brought to the width of a head, and told the rate index."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.rate = RateScale(outputs)

    def forward(self, x: Tensor, rates: Tensor) -> Tensor:
        """X [N,inputs,h,w] and rate indices [N] -> [N,outputs,h,w], not rectified."""
        out: Tensor = self.rate(self.norm(self.conv(x)), rates)
        return out


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a short cut (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_norm(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,width,h,w] -> the same shape."""
        return F.relu(x + self.norm(self.second(self.first(x))))


def conv_norm(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, BatchNorm and ReLU: [N,inputs,h,w] -> [N,outputs,ceil(h/stride),...]."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def enlarged(x: Tensor, factor: int, size: tuple[int, int]) -> Tensor:
    """X [N,C,h,w] upsampled exactly `factor` times, then cut to `size`.

    Maps cover whole blocks, so they reach beyond the image. Stretching them to its size would move
    everything.
    """
    x = F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    return x[..., : size[0], : size[1]]


def size_of(x: Tensor) -> tuple[int, int]:
    """Height and width of [N,C,h,w]."""
    return x.shape[2], x.shape[3]


def multiply_adds(network: nn.Module, size: tuple[int, int]) -> int:
    """The multiply-adds of convolutions and products for one image of a size (H,W), by torch.

    network  has `channels`, as the networks for segmentation have. It is left as it was.
    """
    channels: dict[str, int] = network.channels  # type: ignore[assignment]
    maps = {}
    for name, count in channels.items():
        stride = STRIDES.get(name, 1)
        height, width = (-(-side // stride) for side in size)
        maps[name] = torch.empty(1, count, height, width, device="meta")
    shadow = deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(maps, torch.zeros(1, dtype=torch.int64, device="meta"), size)
    return int(counter.get_total_flops()) // 2
