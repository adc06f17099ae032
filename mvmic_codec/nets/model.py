"""The mvmic model: transforms, hyper-analysis and entropy model, 64 rates in one."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..rate import lambda_of
from .entropy import Coded, EntropyModel
from .transforms import RATES, Analysis, RateTable, ResidualBlock, Synthesis, rotate_colour


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. Channels of y are `luma` luma channels, then `chroma`."""

    luma: int = 208
    chroma: int = 48
    hyper: int = 32
    width8: int = 96
    blocks8: int = 3
    width16: int = 192
    blocks16: int = 2
    context: int = 128
    linear: int = 64
    rotate: bool = True

    @property
    def latent(self) -> int:
        """Channels of y."""
        return self.luma + self.chroma


class HyperAnalysis(nn.Module):
    """y [B,C,h,w] at 1/16 -> z [B,Z,h/4,w/4] at 1/64."""

    def __init__(self, latent: int, hyper: int, linear: int, width: int = 96) -> None:
        super().__init__()
        self.low = linear
        self.linear = nn.Conv2d(linear * 16, hyper, 1, bias=False)
        self.enter = nn.Conv2d(latent, width, 1)
        self.rate = RateTable(width)
        self.body = ResidualBlock(width)
        self.down = nn.Conv2d(16 * width, hyper, 1)
        nn.init.zeros_(self.down.weight)
        assert self.down.bias is not None
        nn.init.zeros_(self.down.bias)

    def forward(self, y: Tensor, spread: Tensor, rate: Tensor) -> Tensor:
        """`spread` [C] brings the channels of y to one size; rate [B]."""
        with torch.autocast(y.device.type, enabled=False):
            straight = self.linear(F.pixel_unshuffle(y[:, : self.low], 4))
        x = self.enter(y / spread[:, None, None])
        x = self.body(F.relu(x + self.rate(rate)[:, :, None, None].to(x.dtype)))
        bent = self.down(F.pixel_unshuffle(x, 4)).float()
        out: Tensor = straight + bent * 32.0
        return out


@dataclass
class Output:
    """What one training pass gives. Bits are sums per image of the batch."""

    planes: Tensor  # rotated planes, 255 scale
    y_bits: Tensor
    z_bits: Tensor
    coded: Coded


class Model(nn.Module):
    """All networks of a codec; see Shape."""

    ladder: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        size = (shape.latent, shape.width8, shape.blocks8, shape.width16, shape.blocks16)
        self.analysis = Analysis(*size)
        self.synthesis = Synthesis(*size)
        self.hyper_analysis = HyperAnalysis(shape.latent, shape.hyper, shape.linear)
        self.entropy = EntropyModel(
            shape.latent, shape.hyper, shape.context, shape.linear, shape.rotate
        )
        ladder = torch.tensor([lambda_of(i) for i in range(RATES)])
        self.register_buffer("ladder", ladder, persistent=False)

    def live(self, gray: Tensor) -> Tensor:
        """[B] bool -> [B,C] 1 where a channel is coded: gray images have no chroma."""
        shape = self.shape
        live = torch.ones(gray.shape[0], shape.latent, device=gray.device)
        live[:, shape.luma :] = (~gray).float()[:, None]
        return live

    def forward(self, planes: Tensor, rate: Tensor, gray: Tensor) -> Output:
        """Code and decode planes [B,3,H,W] in 0..1, H and W multiples of 64.

        rate [B] indices, gray [B] bool.
        """
        rotated = rotate_colour(planes)
        live = self.live(gray)
        y = self.analysis(rotated, rate) * live[:, :, None, None]
        z = self.hyper_analysis(y, self.analysis.spread, rate)
        z_symbol, z_bits = self.entropy.code_hyper(z, rate)
        coded = self.entropy(y, z_symbol, rate, self.ladder[rate] / 3.0, live)
        out = self.synthesis(coded.latent, rate)
        # Gray images leave without colour.
        colour = torch.ones(planes.shape[0], 3, device=planes.device)
        colour[:, 1:] = (~gray).float()[:, None]
        out = out * colour[:, :, None, None]
        return Output(out, coded.bits.sum((1, 2, 3)), z_bits.sum((1, 2, 3)), coded)

    def config(self) -> dict[str, int | bool]:
        """The fields of the model's Shape."""
        return asdict(self.shape)
