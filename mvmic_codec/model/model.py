"""The mvmic model: transforms, hyper-analysis and entropy model. One model serves all rates."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from mvmic_codec.model.analysis import Analysis, HyperAnalysis
from mvmic_codec.model.definition import MODES
from mvmic_codec.model.entropy import Coded, EntropyModel
from mvmic_codec.model.shape import Shape
from mvmic_codec.model.synthesis import Synthesis
from mvmic_codec.model.transforms import BlockTransform, rotate_colour
from mvmic_codec.rate import RATES, lambda_of


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
