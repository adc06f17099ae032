"""Retouching in stripes: what it gives is what it would give for all rows together."""

import pytest
import torch
from torch import nn

from mvmic_codec.model import synthesis


@pytest.mark.parametrize("channels", [1, 3])
def test_stripes_do_not_show(channels, monkeypatch):
    torch.manual_seed(channels)
    net = synthesis.PostFilter(channels, 6).eval().requires_grad_(False)
    nn.init.normal_(net.leave.weight, std=0.3)
    planes = 60 * torch.randn(2, channels, 160, 64)
    rates = torch.tensor([3, 60])
    monkeypatch.setattr(synthesis, "POST_FILTER_ROWS", 48)
    parts, whole = net(planes, rates), net.stripe(planes, rates)
    assert torch.allclose(parts, whole, atol=1e-3)
    assert not torch.allclose(whole, planes, atol=5)
    # A stripe needs all of its surroundings.
    monkeypatch.setattr(synthesis, "POST_FILTER_REACH", synthesis.POST_FILTER_REACH - 2)
    assert not torch.allclose(net(planes, rates), whole, atol=1e-3)
