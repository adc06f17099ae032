"""The branch of analysis on the CPU: its 3x3 layers in C, by 16-bit products.

Activations stay in floating point between layers. Before each layer they are rounded to integers of
12 bits, by their largest value in this image. `Analysis` is the same network in floats.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.errors import ModelError
from mvmic_codec.model.analysis import Analysis
from mvmic_codec.model.definition import AREA, SUM3_MAX, WEIGHT3_MAX
from mvmic_codec.model.floatnet import INPUT_MAX, FloatConv, narrow
from mvmic_codec.model.integerise_synthesis import quantised, tuned
from mvmic_codec.model.layers import INPUT_SCALE8, ResidualBlock
from mvmic_codec.model.synthnet import stride_of
from mvmic_codec.model.team import Team

Array = npt.NDArray[Any]


class NativeAnalysis:
    """The branch of an `Analysis` on the CPU, by one of `synthnet.usable_paths()`.

    It does not follow later changes of the network. Calls raise ModelError if numbers overflow.
    """

    def __init__(self, net: Analysis, path: str) -> None:
        self.net, self.path = net, path
        self.body8, self.body16 = self._body(net.body8), self._body(net.body16)

    def _body(self, blocks: nn.Sequential) -> list[tuple[FloatConv, FloatConv]]:
        return [
            (self._conv(block.first), self._conv(block.second))
            for block in blocks
            if isinstance(block, ResidualBlock)
        ]

    def _conv(self, conv: nn.Conv2d) -> FloatConv:
        assert conv.bias is not None
        weight = conv.weight.detach()
        integers, unit = quantised(
            weight, torch.zeros(len(weight)), INPUT_MAX, WEIGHT3_MAX, SUM3_MAX
        )
        bias = conv.bias.detach().float().numpy()
        return FloatConv(integers.to(torch.int16).numpy(), unit.float().numpy(), bias, self.path)

    def __call__(self, rotated: Tensor, rate: int) -> Tensor:
        """The part of the branch in the coefficients [1,256P,H/16,W/16] of planes [1,P,H,W]."""
        net, (_, planes, height, width) = self.net, rotated.shape
        rows, columns = height // 16, width // 16
        x = rotated.reshape(planes, 2 * rows, 8, 2 * columns, 8).permute(1, 3, 0, 2, 4)
        x = pointwise(x.reshape(4 * rows * columns, -1) / INPUT_SCALE8, net.enter)
        scale, shift = (part[rate] for part in tuned(net.rate8.table))
        stream = self._run(self.body8, torch.addcmul(shift.float(), x, scale.float()), 2 * columns)
        x = stream.reshape(rows, 2, columns, 2, -1).permute(0, 2, 4, 1, 3)
        x = pointwise(x.reshape(rows * columns, -1), net.down)
        scale, shift = (part[rate] for part in tuned(net.rate16.table))
        stream = self._run(self.body16, torch.addcmul(shift.float(), x, scale.float()), columns)
        out = pointwise(stream, net.leave) * net.spread
        return out.T.reshape(1, planes * AREA, rows, columns)

    def _run(self, body: list[tuple[FloatConv, FloatConv]], x: Tensor, columns: int) -> Tensor:
        """Residual blocks, for the channels x [h*w,C] of positions in rows of so many columns."""
        channels = x.shape[1]
        room = stride_of(channels)
        stream = F.pad(x, (0, room - channels)).reshape(-1, columns, room).numpy()
        middle = np.empty_like(stream)
        rows = len(stream)
        maps = np.zeros((rows + 2, columns + 2, room), np.int16)
        with Team() as team:
            for first, second in body:
                for conv, source, relu, to in (
                    (first, stream, False, middle),
                    (second, middle, True, stream),
                ):
                    most = float(source.max() if relu else max(source.max(), -source.min()))
                    if not math.isfinite(most):
                        raise ModelError(
                            "the numbers of the encoder grow too large for this image: train it "
                            "again, or use the released encoder"
                        )
                    scale = INPUT_MAX / most if most > 0 else 1.0
                    team.run(partial(self._narrow, source, scale, relu, maps), rows, 2)
                    team.run(partial(conv.run, maps, scale, to is stream, to), rows, 2)
        return torch.from_numpy(stream[:, :, :channels].reshape(-1, channels))

    def _narrow(
        self, source: Array, scale: float, relu: bool, maps: Array, first: int, count: int
    ) -> None:
        narrow(source, scale, relu, maps, first, count, self.path)


def pointwise(rows: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1x1 convolution of rows [N,I]: [N,O]."""
    return F.linear(rows, conv.weight[:, :, 0, 0], conv.bias)
