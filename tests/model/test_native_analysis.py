"""Analysis in C gives what the network in floats gives, but for small errors."""

import numpy as np
import pytest
import torch

from mvmic_codec.errors import ModelError
from mvmic_codec.model.analysis import Analysis
from mvmic_codec.model.native_analysis import NativeAnalysis
from mvmic_codec.model.synthnet import usable_paths


@pytest.fixture(params=[1, 3])
def net(request):
    torch.manual_seed(request.param)
    # Widths that are no multiples of what C computes at once.
    out = Analysis(request.param, 24, 2, 40, 1).eval().requires_grad_(False)
    for parameter in out.parameters():
        parameter.normal_(0, 0.1)
    out.spread.uniform_(5, 50)
    return out


@pytest.mark.parametrize("rate", [0, 31, 63])
def test_it_is_near(net, rate):
    rotated = 60 * torch.randn(1, net.enter.in_channels // 64, 64, 128)
    expected = net.branch(rotated, torch.tensor([rate]))
    for path in usable_paths():
        got = NativeAnalysis(net, path)(rotated, rate)
        assert got.shape == expected.shape and got.dtype == torch.float32
        assert (got - expected).std() < 0.01 * expected.std()


def test_threads_do_not_show(net, monkeypatch):
    rotated = 60 * torch.randn(1, net.enter.in_channels // 64, 128, 128)
    native = NativeAnalysis(net, usable_paths()[-1])
    results = []
    for threads in "13":
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        results.append(native(rotated, 20).numpy())
    assert np.array_equal(*results)


def test_a_flat_image(net):
    """A layer that only gets zeros has no largest value to scale by."""
    for parameter in net.parameters():
        parameter.zero_()
    rotated = torch.zeros(1, net.enter.in_channels // 64, 64, 64)
    assert (NativeAnalysis(net, usable_paths()[0])(rotated, 20) == 0).all()


@pytest.mark.parametrize("largest", [1e30, float("nan")])
def test_numbers_that_grow_too_large_are_refused(net, largest):
    net.body8[0].first.weight.fill_(1e30)
    net.body8[0].second.weight.fill_(largest)
    rotated = 60 * torch.ones(1, net.enter.in_channels // 64, 64, 64)
    net.enter.weight.fill_(1.0)
    with pytest.raises(ModelError, match="grow too large for this image"):
        NativeAnalysis(net, usable_paths()[-1])(rotated, 20)
