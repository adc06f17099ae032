"""The mvmic model: transforms, hyper-analysis and entropy model, 64 rates in one."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.model.entropy import MODES, Coded, EntropyModel
from mvmic_codec.model.transforms import (
    AREA,
    BLOCK,
    RATES,
    Analysis,
    BlockTransform,
    RateTable,
    ResidualBlock,
    Synthesis,
    rotate_colour,
    start_at_zero,
    unshuffle,
)
from mvmic_codec.rate import lambda_of


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Channels of y: `near_luma` of luma and `near_chroma` of chroma, which take part in linear
    prediction, then the rest of 256 of luma and the rest of `chroma`. A model without chroma is
    one for gray images. `width8`, `width16` and `width2` are the channels of the transforms at 1/8,
    1/16 and, in synthesis alone, at 1/2.
    """

    chroma: int = 160
    near_luma: int = 48
    near_chroma: int = 16
    hyper: int = 32
    width8: int = 96
    blocks8: int = 3
    width16: int = 192
    blocks16: int = 2
    width2: int = 32
    context: int = 128
    rotate: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for channels that there cannot be."""
        if not (0 < self.near_luma <= AREA and 0 <= self.near_chroma <= self.chroma <= 2 * AREA):
            raise ValueError(
                f"of {AREA} channels of luma and {self.chroma} of chroma {self.near_luma} and "
                f"{self.near_chroma} cannot be near; a model for gray images has no chroma at all"
            )

    @property
    def planes(self) -> int:
        """Planes of an image."""
        return 3 if self.chroma else 1

    @property
    def latent(self) -> int:
        """Channels of y."""
        return AREA + self.chroma

    @property
    def near(self) -> int:
        """Channels of y that take part in linear prediction."""
        return self.near_luma + self.near_chroma

    def is_luma(self) -> Tensor:
        """[C] bool."""
        luma = torch.ones(self.latent, dtype=torch.bool)
        luma[self.near_luma : self.near] = False
        luma[self.latent - (self.chroma - self.near_chroma) :] = False
        return luma


# Side of the square of low DCT frequencies that the hyper-latent's linear path sees.
LOW_LUMA = 6
LOW_CHROMA = 3


def low_frequencies(planes: int) -> Tensor:
    """Positions of the low frequencies among the 256P DCT coefficients of a block."""
    at = torch.arange(AREA).reshape(BLOCK, BLOCK)
    luma = at[:LOW_LUMA, :LOW_LUMA].flatten()
    chroma = at[:LOW_CHROMA, :LOW_CHROMA].flatten()
    return torch.cat((luma, *[plane * AREA + chroma for plane in range(1, planes)]))


class HyperAnalysis(nn.Module):
    """DCT coefficients [B,256P,h,w] at 1/16 -> z [B,Z,h/4,w/4] at 1/64."""

    low: Tensor

    def __init__(self, planes: int, hyper: int, width: int = 96) -> None:
        super().__init__()
        self.register_buffer("low", low_frequencies(planes), persistent=False)
        self.linear = nn.Conv2d(len(self.low) * 16, hyper, 1, bias=False)
        self.enter = nn.Conv2d(planes * AREA, width, 1)
        self.rate = RateTable(width)
        self.body = ResidualBlock(width)
        self.down = nn.Conv2d(16 * width, hyper, 1)
        start_at_zero(self.down)

    def forward(self, coefficients: Tensor, spread: Tensor, rate: Tensor) -> Tensor:
        """`spread` [256P] brings the coefficients to one size; rate [B]."""
        with torch.autocast(coefficients.device.type, enabled=False):
            straight = self.linear(unshuffle(coefficients[:, self.low], 4))
        x = self.enter(coefficients / spread[:, None, None])
        x = self.body(F.relu(x + self.rate(rate)[:, :, None, None].to(x.dtype)))
        bent = self.down(unshuffle(x, 4)).float()
        out: Tensor = straight + bent * 32.0
        return out


def make_transforms(
    shape: Shape,
) -> tuple[Analysis, BlockTransform, Synthesis, HyperAnalysis]:
    """Fresh networks of the float part of a model."""
    size = (shape.width8, shape.blocks8, shape.width16, shape.blocks16)
    planes = shape.planes
    return (
        Analysis(planes, *size),
        BlockTransform(planes, MODES, shape.chroma, shape.near_luma, shape.near_chroma),
        Synthesis(planes, MODES, *size, shape.width2),
        HyperAnalysis(planes, shape.hyper),
    )


@dataclass
class Output:
    """What one training pass gives. Bits are sums per image of the batch."""

    planes: Tensor  # rotated planes, 255 scale
    error: Tensor  # [B], mean squared error of samples, three for each pixel, gray or not
    y_bits: Tensor
    z_bits: Tensor
    mode_bits: Tensor
    coded: Coded

    @property
    def bits(self) -> Tensor:
        """All bits of each image."""
        return self.y_bits + self.z_bits + self.mode_bits


class Model(nn.Module):
    """All networks of a codec; see Shape."""

    ladder: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        nets = make_transforms(shape)
        self.analysis, self.blocks, self.synthesis, self.hyper_analysis = nets
        self.entropy = EntropyModel(
            shape.latent, shape.hyper, shape.context, shape.near, shape.near_luma, shape.rotate
        )
        ladder = torch.tensor([lambda_of(i) for i in range(RATES)])
        self.register_buffer("ladder", ladder, persistent=False)

    def forward(self, planes: Tensor, rate: Tensor) -> Output:
        """Code and decode planes [B,P,H,W] in 0..1, H and W multiples of 64.

        rate [B] indices.
        """
        rotated = rotate_colour(planes)
        weight = self.ladder[rate] / 3.0
        coefficients = self.analysis(rotated, rate)
        z = self.hyper_analysis(coefficients, self.analysis.spread, rate)
        z_symbol, z_bits = self.entropy.code_hyper(z, rate)
        costs = self.blocks.costs(coefficients, self.entropy.steps(rate), weight)
        features = self.entropy.first_features(z_symbol, rate)
        modes, features, mode_bits = self.entropy.code_modes(features, costs, rate)
        y = self.blocks(coefficients, modes)
        coded = self.entropy(y, modes, features, z_symbol, rate, weight)
        out = self.synthesis(self.blocks.inverse(coded.latent, modes), modes, rate)
        bits = (coded.bits.sum((1, 2, 3)), z_bits.sum((1, 2, 3)), mode_bits)
        error = (out - rotated).square().sum(1).mean((1, 2)) / 3.0
        return Output(out, error, *bits, coded)

    def config(self) -> dict[str, int | bool]:
        """The fields of the model's Shape."""
        return asdict(self.shape)
