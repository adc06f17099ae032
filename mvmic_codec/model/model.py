"""The mvmic model: transforms, hyper-analysis and entropy model, 64 rates in one."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from mvmic_codec.model.analysis import Analysis, HyperAnalysis
from mvmic_codec.model.entropy import MODES, Coded, EntropyModel
from mvmic_codec.model.synthesis import Synthesis
from mvmic_codec.model.transforms import AREA, BlockTransform, rotate_colour
from mvmic_codec.rate import RATES, lambda_of


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
        lambda_error = self.ladder[rate] / 3.0
        coefficients = self.analysis(rotated, rate)
        z = self.hyper_analysis(coefficients, self.analysis.spread, rate)
        z_symbol, z_bits = self.entropy.code_hyper(z, rate)
        costs = self.blocks.costs(coefficients, self.entropy.steps(rate), lambda_error)
        features = self.entropy.first_features(z_symbol, rate)
        modes, features, mode_bits = self.entropy.code_modes(features, costs, rate)
        y = self.blocks(coefficients, modes)
        coded = self.entropy(y, modes, features, z_symbol, rate, lambda_error)
        out = self.synthesis(self.blocks.inverse(coded.latent, modes), modes, rate)
        bits = (coded.bits.sum((1, 2, 3)), z_bits.sum((1, 2, 3)), mode_bits)
        error = (out - rotated).square().sum(1).mean((1, 2)) / 3.0
        return Output(out, error, *bits, coded)

    def config(self) -> dict[str, int | bool]:
        """The fields of the model's Shape."""
        return asdict(self.shape)
