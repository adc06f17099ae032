"""Networks for segmentation of decoded pixels, for comparison with heads on features.

They are a head as for features behind a stem that makes its maps from pixels. Two stems:

    LIGHT  stem and head take about the multiply-adds of the head on features alone
    DEEP   stem and head take about the multiply-adds of decoding to s16 and the head on features.
           The pixels come free: what it takes to decode them is not counted against it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.model.complexity import block_macs, entropy_macs
from mvmic_codec.model.definition import AREA
from mvmic_codec.model.model import make_transforms
from mvmic_codec.model.shape import Shape
from mvmic_codec.tasks.segmentation import HeadConfig, ResidualBlock, SegmentationHead, conv_norm

# The name of decoded pixels among maps: [N,P,H,W] in 0..1, with 3 planes or 1.
PIXELS = "pixels"


@dataclass(frozen=True)
class StemConfig:
    """Widths at 1/2, 1/4, 1/8 and 1/16, and how many residual blocks follow at each."""

    widths: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]


LIGHT = StemConfig((8, 16, 32, 64), (0, 0, 0, 0))
DEEP = StemConfig((32, 64, 128, 224), (0, 0, 1, 3))


class PixelNetwork(nn.Module):
    """Pixels and rate indices -> logits at the size of the image: a stem and a head of its own.

    planes  3 for colour, 1 for gray
    config  of the head. The stem makes the maps that it names.
    """

    def __init__(self, stem: StemConfig, config: HeadConfig, planes: int = 3) -> None:
        super().__init__()
        self.channels = {PIXELS: planes}
        # Training pixels get mean 0 and standard deviation 1. The means are over all of training.
        self.normalise = nn.BatchNorm2d(planes, momentum=None, affine=False)
        inputs = (planes, *stem.widths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                conv_norm(inputs[k], width, stride=2),
                *[ResidualBlock(width) for _ in range(stem.blocks[k])],
            )
            for k, width in enumerate(stem.widths)
        )
        widths = dict(zip((2, 4, 8, 16), stem.widths, strict=True))
        self.leave = nn.ModuleDict(
            {
                name: nn.Conv2d(widths[STRIDES[name]], channels, 1)
                for name, channels in config.channels.items()
            }
        )
        self.head = SegmentationHead(config)

    def forward(self, maps: Mapping[str, Tensor], rates: Tensor, size: tuple[int, int]) -> Tensor:
        """As `SegmentationHead.forward`, with the one map PIXELS [N,P,H,W] in 0..1."""
        x = self.normalise(maps[PIXELS])
        by_stride = {}
        for stride, stage in zip((2, 4, 8, 16), self.stages, strict=True):
            x = by_stride[stride] = stage(x)
        made = {name: conv(by_stride[STRIDES[name]]) for name, conv in self.leave.items()}
        out: Tensor = self.head(made, rates, size)
        return out


def decode_to_s16_macs(shape: Shape) -> float:
    """The multiply-adds for each pixel to decode a file as far as the map s16.

    Entropy networks, the rotation of blocks, and synthesis to the end of its body at 1/16.
    """
    # Fresh networks draw random weights. That must not move the caller's random state.
    with torch.random.fork_rng(devices=[]):
        synthesis = make_transforms(shape)[2]
    coefficients = torch.zeros(1, shape.planes * AREA, 4, 4)
    modes, rate = torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        synthesis.body16(synthesis.enter16(coefficients, modes, rate))
    synthesis_macs = int(counter.get_total_flops()) / 2 / (AREA * modes.numel())
    return synthesis_macs + block_macs(shape) + entropy_macs(shape)
