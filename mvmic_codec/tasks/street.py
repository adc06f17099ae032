"""ERFNet for street scenes, on pixels and on features.

Romera, Álvarez, Bergasa, Arroyo: "ERFNet: Efficient Residual Factorized ConvNet for Real-Time
Semantic Segmentation", IEEE Transactions on Intelligent Transportation Systems 19(1), 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.errors import InputError
from mvmic_codec.tasks.pixels import PIXELS
from mvmic_codec.tasks.segmentation import Lateral, enlarged

# Channels at 1/2, 1/4 and 1/8 (table I of the paper).
WIDTH2, WIDTH4, WIDTH8 = 16, 64, 128
DILATIONS = (2, 4, 8, 16, 2, 4, 8, 16)
DROPOUT4, DROPOUT8 = 0.03, 0.3


class Factorised(nn.Module):
    """Non-bottleneck-1D: a residual block of two 3x3 convolutions, each as a 3x1 and a 1x3."""

    def __init__(self, width: int, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.tall1 = nn.Conv2d(width, width, (3, 1), padding=(1, 0))
        self.wide1 = nn.Conv2d(width, width, (1, 3), padding=(0, 1))
        self.norm1 = nn.BatchNorm2d(width)
        d = dilation
        self.tall2 = nn.Conv2d(width, width, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.wide2 = nn.Conv2d(width, width, (1, 3), padding=(0, d), dilation=(1, d))
        self.norm2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,width,h,w] -> the same shape."""
        y = F.relu(self.norm1(self.wide1(F.relu(self.tall1(x)))))
        y = self.norm2(self.wide2(F.relu(self.tall2(y))))
        return F.relu(x + self.dropout(y))


class Downsampler(nn.Module):
    """A strided 3x3 convolution beside max pooling, BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, 2, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,inputs,h,w] -> [N,outputs,ceil(h/2),ceil(w/2)]."""
        pooled = F.max_pool2d(x, 2, ceil_mode=True)
        return F.relu(self.norm(torch.cat((self.conv(x), pooled), 1)))


def upsampler(inputs: int, outputs: int) -> nn.Sequential:
    """A transposed 3x3 convolution, BatchNorm and ReLU: [N,inputs,h,w] -> [N,outputs,2h,2w]."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PixelEntry(nn.Module):
    """Pixels to 1/8, as the paper has it. It does not ask for the rate index."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.channels = {PIXELS: planes}
        # Training pixels get mean 0 and standard deviation 1. The means are over all of training.
        self.normalise = nn.BatchNorm2d(planes, momentum=None, affine=False)
        self.body = nn.Sequential(
            Downsampler(planes, WIDTH2),
            Downsampler(WIDTH2, WIDTH4),
            *[Factorised(WIDTH4, dropout=DROPOUT4) for _ in range(5)],
            Downsampler(WIDTH4, WIDTH8),
        )

    def forward(self, maps: Mapping[str, Tensor], rates: Tensor, size: tuple[int, int]) -> Tensor:
        """PIXELS [N,P,H,W] in 0..1 -> [N,WIDTH8,ceil(H/8),ceil(W/8)]."""
        out: Tensor = self.body(self.normalise(maps[PIXELS]))
        return out


class FeatureEntry(nn.Module):
    """Feature maps to 1/8. Maps at 1/16 are upsampled."""

    def __init__(self, channels: dict[str, int]) -> None:
        super().__init__()
        unknown = [name for name in channels if name not in STRIDES]
        if unknown or not channels:
            raise InputError(
                f"ERFNet on features takes maps of {', '.join(STRIDES)}; "
                f"got {', '.join(channels) or 'none'}"
            )
        self.channels = channels
        self.laterals = nn.ModuleDict(
            {name: Lateral(count, WIDTH8) for name, count in channels.items()}
        )

    def forward(self, maps: Mapping[str, Tensor], rates: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps [N,C,h,w] by name and rate indices [N] -> [N,WIDTH8,ceil(H/8),ceil(W/8)]."""
        size8 = -(-size[0] // 8), -(-size[1] // 8)
        parts = []
        for name, lateral in self.laterals.items():
            x = lateral(maps[name], rates)
            parts.append(enlarged(x, 2, size8) if STRIDES[name] == 16 else x)
        return F.relu(torch.stack(parts).sum(0))


class ErfNet(nn.Module):
    """What enters at 1/8 -> logits at the size of the image: dilated blocks, then the decoder."""

    def __init__(self, entry: PixelEntry | FeatureEntry, classes: int) -> None:
        super().__init__()
        self.channels = entry.channels
        self.entry = entry
        self.body = nn.Sequential(*[Factorised(WIDTH8, d, DROPOUT8) for d in DILATIONS])
        self.decoder = nn.Sequential(
            upsampler(WIDTH8, WIDTH4),
            Factorised(WIDTH4),
            Factorised(WIDTH4),
            upsampler(WIDTH4, WIDTH2),
            Factorised(WIDTH2),
            Factorised(WIDTH2),
            nn.ConvTranspose2d(WIDTH2, classes, 2, 2),
        )

    def forward(self, maps: Mapping[str, Tensor], rates: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps [N,C,h,w] by name, rate indices [N], image size (H,W) -> logits [N,K,H,W], float32.

        Maps that the network was not made for are left alone.
        """
        logits: Tensor = self.decoder(self.body(self.entry(maps, rates, size)))
        return logits[..., : size[0], : size[1]].float()
