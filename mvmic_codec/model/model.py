"""The mvmic model: transforms, hyper-analysis and entropy model. One model serves all rates."""

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
    """The sizes of a model. Its card holds these fields, and its fingerprint covers them.

    chroma       channels of y for chroma; 0 makes a model for gray images
    near_luma    channels of y for low frequencies of luma, which linear prediction uses
    near_chroma  the same for chroma
    hyper        channels of z
    width8       channels of the transforms at 1/8; width16 and width2 at 1/16 and at 1/2, the last
                 in synthesis alone
    blocks8      residual blocks at 1/8; blocks16 at 1/16
    context      channels of the context networks
    rotate       whether the order of sites changes with the channel

    y has these channels, in order: near_luma, near_chroma, the other luma (256 in all), the other
    chroma.
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
        """Raise ValueError for numbers of channels that do not fit together."""
        if not (0 < self.near_luma <= AREA and 0 <= self.near_chroma <= self.chroma <= 2 * AREA):
            raise ValueError(
                f"of {AREA} channels of luma and {self.chroma} of chroma {self.near_luma} and "
                f"{self.near_chroma} cannot be near; a model for gray images has no chroma at all"
            )

    @property
    def planes(self) -> int:
        """Planes of an image: 3, or 1 in a model for gray images."""
        return 3 if self.chroma else 1

    @property
    def latent(self) -> int:
        """Channels of y."""
        return AREA + self.chroma

    @property
    def near(self) -> int:
        """Low-frequency channels of y, which take part in linear prediction."""
        return self.near_luma + self.near_chroma

    def is_luma(self) -> Tensor:
        """Which channels of y are luma: [C] bool."""
        luma = torch.ones(self.latent, dtype=torch.bool)
        luma[self.near_luma : self.near] = False
        luma[self.latent - (self.chroma - self.near_chroma) :] = False
        return luma


def make_transforms(
    shape: Shape,
) -> tuple[Analysis, BlockTransform, Synthesis, HyperAnalysis]:
    """The float networks of a model, with fresh weights."""
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
    """The result of one training step. Bits are sums over each image of the batch, [B]."""

    planes: Tensor  # rotated planes [B,P,H,W] on the 255 scale
    error: Tensor  # [B], mean squared error of samples; a pixel counts as three, also in gray
    y_bits: Tensor
    z_bits: Tensor
    mode_bits: Tensor
    coded: Coded
    s16: Tensor  # features [B,width16,H/16,W/16] after the synthesis body at 1/16

    @property
    def bits(self) -> Tensor:
        """All bits of each image."""
        return self.y_bits + self.z_bits + self.mode_bits


class Model(nn.Module):
    """All networks of the codec in their training form. `Shape` has their sizes."""

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
        """Code and decode planes [B,P,H,W] in 0..1 at rate indices [B].

        H and W are multiples of 64.
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
        out, s16 = self.synthesis.with_s16(self.blocks.inverse(coded.latent, modes), modes, rate)
        bits = (coded.bits.sum((1, 2, 3)), z_bits.sum((1, 2, 3)), mode_bits)
        error = (out - rotated).square().sum(1).mean((1, 2)) / 3.0
        return Output(out, error, *bits, coded, s16)

    def config(self) -> dict[str, int | bool]:
        """The fields of the model's Shape."""
        return asdict(self.shape)
