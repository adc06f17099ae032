"""Versions of an image are analysed in part, and give to the bit what the whole would."""

import numpy as np
import pytest
import torch
from slow import first_is_quick

from mvmic_codec.encoder.candidate import encoding_model
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.model.device import full_precision


@pytest.mark.parametrize("rate", [9, 18, 36])
@pytest.mark.parametrize(
    ("channels", "size"), [(1, (500, 460)), (1, (70, 900)), (1, (40, 30)), (3, (330, 410))]
)
@pytest.mark.parametrize(
    "changed", first_is_quick([(20, 30, 5, 21), (0, 12, 0, 50), (0, 900, 0, 16), (3, 4, 3, 4)])
)
def test_to_the_bit(channels, size, changed, rate):
    random = np.random.default_rng(5)
    planes = random.random((channels, *size), np.float32)
    top, bottom, left, right = changed
    other = planes.copy()
    other[:, top:bottom, left:right] *= np.float32(0.9)
    model = encoding_model(planes, "cpu")
    with full_precision(model.device):
        first = Encoder(model, planes, rate)
        version = Encoder(model, other, rate, like=first)
        alone = Encoder(model, other, rate)
        assert torch.equal(version.coefficients, alone.coefficients)
        inside = version.inside
        costs = version.estimated_costs[..., inside], alone.estimated_costs[..., inside]
        assert torch.equal(*costs)
        assert not torch.equal(version.coefficients, first.coefficients)


def test_little_is_computed_again(monkeypatch):
    planes = np.random.default_rng(5).random((1, 1024, 1024), np.float32)
    other = planes.copy()
    other[:, 40:80, 900:990] = 1.0
    model = encoding_model(planes, "cpu")
    with full_precision(model.device):
        first = Encoder(model, planes, 18)
        pixels = []
        conv = torch.nn.Conv2d.forward
        monkeypatch.setattr(
            torch.nn.Conv2d,
            "forward",
            lambda net, x: pixels.append(x[0, 0].numel()) or conv(net, x),
        )
        Encoder(model, planes, 18)
        whole = sum(pixels)
        pixels.clear()
        Encoder(model, other, 18, like=first)
        assert 0 < sum(pixels) < 0.2 * whole
