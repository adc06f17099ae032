"""Networks for segmentation: sizes, costs, and what they listen to."""

from functools import lru_cache

import pytest
import torch

from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.errors import InputError
from mvmic_codec.model.complexity import decode_macs
from mvmic_codec.model.identity import default_identity
from mvmic_codec.model.shape import Shape
from mvmic_codec.tasks.pixels import DEEP, LIGHT, PIXELS, PixelNetwork, decode_to_s16_macs
from mvmic_codec.tasks.segmentation import HeadConfig, SegmentationHead, enlarged, multiply_adds
from mvmic_codec.tasks.street import ErfNet, FeatureEntry, PixelEntry

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
S16 = HeadConfig({"s16": 224})
BOTH = HeadConfig({"s16": 224, "s8": 128}, classes=5)
SIZE = (540, 960)
NETWORKS = {
    "head": lambda: SegmentationHead(S16),
    "head on two maps": lambda: SegmentationHead(BOTH),
    "light": lambda: PixelNetwork(LIGHT, S16),
    "light, gray": lambda: PixelNetwork(LIGHT, BOTH, planes=1),
    "deep": lambda: PixelNetwork(DEEP, BOTH),
    "erfnet": lambda: ErfNet(PixelEntry(3), 12),
    "erfnet on features": lambda: ErfNet(FeatureEntry({"s16": 224, "s8": 128}), 12),
}


def maps_for(network, size, batch=2):
    return {
        name: torch.randn(batch, count, *(-(-side // STRIDES.get(name, 1)) for side in size))
        for name, count in network.channels.items()
    }


def millions(network):
    return sum(p.numel() for p in network.parameters()) / 1e6


@lru_cache
def costs():
    """Multiply-adds of the head on s16 and of decoding to s16, in all, for a 960x540 image."""
    shape = Shape(**default_identity(gray=False).shape)
    return multiply_adds(SegmentationHead(S16), SIZE), decode_to_s16_macs(shape) * 540 * 960


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(64, 96), (75, 141), (1, 17)])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_have_the_size_of_the_image(name, size, device):
    torch.manual_seed(0)
    network = NETWORKS[name]().to(device).eval()
    maps = {key: value.to(device) for key, value in maps_for(network, size).items()}
    with torch.no_grad():
        logits = network(maps, torch.tensor([3, 40], device=device), size)
    assert logits.shape[0] == 2 and logits.shape[2:] == size
    assert logits.dtype == torch.float32 and logits.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_and_every_map_counts(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().train()
    maps = {key: value.requires_grad_() for key, value in maps_for(network, (64, 160)).items()}
    network(maps, torch.tensor([3, 40]), (64, 160)).square().mean().backward()
    assert all(each.grad.abs().max() > 0 for each in maps.values())
    # A rate index touches two knots of a table; nothing else is untouched.
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize("name", ["head", "light", "erfnet on features"])
def test_a_trained_network_tells_rates_apart(name):
    torch.manual_seed(0)
    network, size = NETWORKS[name]().eval(), (64, 96)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if "knots" in parameter_name:
                parameter.normal_(std=0.1)
        maps = {key: value.repeat(2, 1, 1, 1) for key, value in maps_for(network, size, 1).items()}
        same, low_and_high = (network(maps, torch.tensor(r), size) for r in ([9, 9], [0, 63]))
    torch.testing.assert_close(same[0], same[1])
    assert (low_and_high[0] - low_and_high[1]).abs().max() > 0.01


def test_upsampling_moves_nothing():
    """A ramp stays the same ramp, at whatever size it is cut."""
    ramp = (torch.arange(12) + 0.5)[None, None, None, :].expand(1, 1, 3, 12) * 8
    for width in (91, 96):
        large = enlarged(ramp, 8, (24, width))
        assert large.shape == (1, 1, 24, width)
        inner = large[0, 0, 5, 4:88]
        torch.testing.assert_close(inner, torch.arange(4, 88) + 0.5)


def test_the_study_s_head():
    head = SegmentationHead(S16)
    assert 0.7 < millions(head) < 0.85
    assert 0.75e9 < costs()[0] < 0.9e9


def test_the_light_pixel_network_costs_about_what_the_head_costs():
    assert 1.0 < multiply_adds(PixelNetwork(LIGHT, S16), SIZE) / costs()[0] < 1.25


def test_the_deep_pixel_network_costs_what_decoding_and_the_head_cost():
    assert 1.0 < multiply_adds(PixelNetwork(DEEP, S16), SIZE) / sum(costs()) < 1.05


def test_decoding_to_s16_is_half_of_decoding():
    shape = Shape(**default_identity(gray=False).shape)
    # The study counted 6.7 + .58 + .67 + 10.6 thousand.
    assert decode_to_s16_macs(shape) / 1000 == pytest.approx(18.55, abs=0.1)
    assert 0.45 < decode_to_s16_macs(shape) / decode_macs(shape) < 0.55


def test_counting_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    network = SegmentationHead(S16).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert multiply_adds(network, (64, 64)) * 4 == pytest.approx(
        multiply_adds(network, (128, 128)), rel=0.01
    )
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_multiply_adds_of_one_convolution():
    class Convolution(torch.nn.Module):
        channels = {PIXELS: 3}

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 7, 3, padding=1)

        def forward(self, maps, rates, size):
            return self.conv(maps[PIXELS])

    assert multiply_adds(Convolution(), (10, 20)) == 3 * 7 * 9 * 200


def test_erfnet_is_as_large_as_the_paper_says():
    assert millions(ErfNet(PixelEntry(3), 20)) == pytest.approx(2.06, abs=0.01)


def test_pixels_are_normalised_by_what_was_seen_in_training():
    torch.manual_seed(0)
    network = PixelNetwork(LIGHT, S16).train()
    pixels = torch.rand(4, 3, 64, 128) * 0.2 + torch.tensor([0.6, 0.4, 0.3])[:, None, None]
    with torch.no_grad():
        for part in pixels.split(2):
            network({PIXELS: part}, torch.tensor([9, 9]), (64, 128))
    normalised = network.eval().normalise(pixels)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


@pytest.mark.parametrize("channels", [{}, {"s8": 128}, {"s4": 64, "s16": 224}])
def test_a_head_needs_known_maps_and_one_at_16(channels):
    with pytest.raises(InputError, match="at least one of them at 1/16"):
        HeadConfig(channels)


@pytest.mark.parametrize("channels", [{}, {"s4": 64}])
def test_erfnet_needs_known_maps(channels):
    with pytest.raises(InputError, match="takes maps of coefficients, s16, s8"):
        FeatureEntry(channels)
