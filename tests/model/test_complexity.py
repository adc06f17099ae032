"""Multiply-adds by formula and as the convolutions of a real pass have them."""

import pytest
import torch
from small_model import SMALL, small_model
from torch import nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.complexity import block_macs, decode_macs, entropy_macs
from mvmic_codec.model.definition import AREA


@pytest.mark.parametrize("channels", [1, 3])
def test_synthesis(channels):
    shape, net = SMALL[channels], small_model(channels).synthesis
    counted = []

    def count(conv, _, out):
        counted.append(conv.weight.numel() * out[0, 0].numel())

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    coefficients = torch.zeros(1, channels * AREA, 2, 3)
    out = net(coefficients, torch.zeros(1, 2, 3, dtype=torch.int64), torch.tensor([31]))
    per_pixel = sum(counted) / out[0, 0].numel()
    linear = channels * (2 * BLOCK + AREA) + block_macs(shape)
    # The linear path has no convolutions.
    assert decode_macs(shape) - entropy_macs(shape) - linear == pytest.approx(per_pixel)
