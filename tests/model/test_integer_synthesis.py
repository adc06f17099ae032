"""From synthesis in floating point to its integers and back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_model import SMALL, crops, small_model

from mvmic_codec.model import calibrate
from mvmic_codec.model.calibrate import CALIBRATION_RATES, ranges_of
from mvmic_codec.model.definition import PLANE_BITS, STREAM_MAX
from mvmic_codec.model.integer_synthesis import IntegerSynthesis
from mvmic_codec.model.integerise_synthesis import (
    MARGIN,
    integerise_synthesis,
    quantised,
    restore_synthesis,
)
from mvmic_codec.model.layers import pixel_unshuffle
from mvmic_codec.model.model import make_transforms
from mvmic_codec.model.synthesis import INPUT_SCALE2, less_mean

NAMES = {"coefficients", "s16", "s8", "s2", "body16.0", "body8.0", "retouch"}


@pytest.fixture(scope="module", params=[1, 3])
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def ranges(model):
    return ranges_of(model, crops(model.shape.planes, count=2))


@pytest.fixture(scope="module")
def integers(model, ranges):
    return integerise_synthesis(model.synthesis, model.blocks, ranges)


def seen_by(model, crop, rate):
    """What synthesis gets for a crop, and the sizes of all its numbers, stage by stage."""
    got = []
    net = model.synthesis
    handle = net.enter.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    modes = []
    other = net.mode.register_forward_pre_hook(lambda _, inputs: modes.append(inputs[0].argmax(1)))
    at = torch.tensor([rate])
    model(crop[None], at)
    handle.remove()
    other.remove()
    sizes = {"coefficients": (got[0][0] / net.spread[:, None, None]).abs().amax((1, 2))}

    def block(layer, x, stream, name):
        middle = F.relu(layer.first(x))
        out = layer(x)
        sizes[stream] = torch.maximum(x.abs().max(), out.abs().max())
        sizes[name] = middle.max()
        return out

    linear = net.linear_planes(got[0])
    x = block(net.body16[0], net.enter16(got[0], modes[0], at), "s16", "body16.0")
    x = block(net.body8[0], net.enter8(x, linear, at), "s8", "body8.0")
    post, planes = net.retouch, net.leave8(x, linear)
    x = post.enter(less_mean(pixel_unshuffle(planes, 2)), 1.0 / INPUT_SCALE2)
    block(post.body, F.relu(post.rate(x, at)), "s2", "retouch")
    return got[0], modes[0], sizes


@torch.no_grad()
def test_ranges_are_the_largest_of_all_crops_and_rates(model, ranges, monkeypatch):
    planes = model.shape.planes
    assert set(ranges) == NAMES
    assert ranges["coefficients"].shape == (256 * planes,)
    expected = {}
    for crop in crops(planes, count=2):
        for rate in CALIBRATION_RATES:
            for name, size in seen_by(model, crop, rate)[2].items():
                expected[name] = torch.maximum(expected.get(name, size), size)
    for name, size in ranges.items():
        assert torch.allclose(size, expected[name], rtol=1e-4), name
    # Each crop and each rate has its say, and no hook is left.
    monkeypatch.setattr(calibrate, "CALIBRATION_RATES", CALIBRATION_RATES[:1])
    fewer = ranges_of(model, crops(planes, count=1))
    assert all((fewer[name] <= ranges[name]).all() for name in NAMES)
    assert any((fewer[name] < ranges[name]).any() for name in NAMES)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
@pytest.mark.parametrize("rate", [0, 36, 63])
def test_integers_are_nearly_the_floats(model, integers, rate):
    """Of the same coefficients, whose rounding costs more than all of this."""
    net, exact = model.synthesis, IntegerSynthesis(integers[0], torch.device("cpu"))
    crop = crops(model.shape.planes, count=1)[0]
    coefficients, modes, _ = seen_by(model, crop, rate)
    x = torch.floor(8 * coefficients.double() + 0.5)
    expected = net((x / 8).float(), modes, torch.tensor([rate]))
    linear, stream = exact.linear_planes(x), exact.enter16(x, modes, rate)
    stream = exact.body16[0](stream)
    # What was seen takes up the range but for the margin.
    assert stream.abs().max() <= 1.02 * STREAM_MAX / MARGIN
    stream = exact.body8[0](exact.enter8(stream, linear, rate))
    found = exact.retouch(exact.leave8(stream, linear), rate) / 2**PLANE_BITS
    difference = (found - expected).abs()
    assert difference.mean() < 0.02 and difference.max() < 0.3
    # A network that does nothing would be farther away.
    assert (net.linear_planes(coefficients) - expected).abs().mean() > 0.2


def test_restored_it_gives_about_the_same_integers(model, ranges, integers):
    arrays, units = integers
    with torch.random.fork_rng():
        _, blocks, net, _ = make_transforms(SMALL[model.shape.planes])
    restore_synthesis(net, blocks, arrays, units)
    again, again_units = integerise_synthesis(net, blocks, ranges)
    assert again.keys() == arrays.keys() and again_units.keys() == units.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype and again[name].shape == array.shape
        difference = (again[name].double() - array.double()).abs()
        assert (difference <= 2 + 2e-3 * array.double().abs()).all(), name
    for name, unit in units.items():
        assert torch.allclose(again_units[name], unit, rtol=2e-3), name


@pytest.mark.parametrize("bias", [0.0, 900.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_quantised_weights_keep_their_bounds(scale, bias):
    """And use them: one of both is nearly reached."""
    weight = scale * torch.from_numpy(np.random.default_rng(0).normal(size=(5, 7, 3, 3)))
    biases = torch.full((5,), bias * scale)
    integers, unit = quantised(weight, biases, 8191, 3640, 2**29)
    assert (integers - weight / unit[:, None, None, None]).abs().max() <= 0.5
    most = integers.abs().amax((1, 2, 3))
    sums = 8191 * integers.abs().sum((1, 2, 3)) + biases / unit
    assert most.max() <= 3640 and sums.max() < 2**29
    assert ((most == 3640) | (sums > 0.95 * 2**29)).all()


def test_an_output_without_weights_stays_one():
    integers, unit = quantised(torch.zeros(2, 3, 1, 1), torch.zeros(2), 8191, 32767, 2**31)
    assert not integers.any() and (unit > 0).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("enter.multiplier", lambda net: net.rate16.table.knots.data.mul_(1e9)),
        ("leave.multiplier", lambda net: net.leave.weight.data.mul_(1e9)),
        ("up.offset", lambda net: net.up.bias.data.add_(1e9)),
        ("retouch.enter.offset", lambda net: net.retouch.enter.bias.data.add_(1e9)),
        ("body8.0.first.multiplier", lambda net: net.body8[0].first.weight.data.mul_(1e9)),
    ],
)
def test_numbers_that_do_not_fit_are_refused(name, change):
    model = small_model(1)
    ranges = ranges_of(model, crops(1, count=1))
    change(model.synthesis)
    with pytest.raises(ValueError, match=f"not fit for integers: {name} needs more than"):
        integerise_synthesis(model.synthesis, model.blocks, ranges)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_range_is_needed(model, ranges, name):
    fewer = {each: size for each, size in ranges.items() if each != name}
    with pytest.raises(KeyError):
        integerise_synthesis(model.synthesis, model.blocks, fewer)
