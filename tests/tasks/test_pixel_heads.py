"""Heads on decoded pixels as files; heads on features and on pixels refuse each other's input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mvmic_codec.errors import InputError
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks.heads import UNTOLD_RATE, Card, Head, load_head, make_network, save_head

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
CARD = Card(
    task="polyp segmentation",
    network="pixels-light",
    fingerprint=default_identity(False).fingerprint,
    maps={"pixels": 3},
    classes=["polyp"],
    width=12,
    rates=[9, 40],
    data="made up",
    licence="any use",
    scores={},
)
PLANES = torch.rand(3, 75, 141, generator=torch.Generator().manual_seed(0))


def make(**changes):
    torch.manual_seed(0)
    card = replace(CARD, **changes)
    return Head(card, make_network(card).eval())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", ["pixels-light", "pixels-deep"])
def test_a_head_on_pixels_comes_back_whole(network, device, tmp_path):
    head = make(network=network)
    save_head(head, tmp_path / "x.safetensors")
    again = load_head(tmp_path / "x.safetensors", device)
    assert again.card == head.card and again.takes_pixels
    ours, theirs = head.predict_pixels(PLANES), again.predict_pixels(PLANES)
    np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-5)
    assert ours.mask.shape == (75, 141) and ours.probabilities.shape == (1, 75, 141)


def test_the_stems_differ():
    light, deep = (make(network=name).network for name in ("pixels-light", "pixels-deep"))
    assert sum(p.numel() for p in deep.parameters()) > 5 * sum(
        p.numel() for p in light.parameters()
    )


def test_it_is_given_the_rate_that_it_was_trained_with():
    head = make()
    seen = []
    head.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1].tolist()))
    head.predict_pixels(PLANES)
    assert seen == [[UNTOLD_RATE]]


def test_inputs_of_the_other_kind_are_refused():
    with pytest.raises(InputError, match="takes decoded pixels and not features"):
        make().feature_maps()
    features = make(network="fpn", maps={"s16": 224})
    assert features.feature_maps() == ("s16",) and not features.takes_pixels
    with pytest.raises(InputError, match="takes features, s16, and not pixels"):
        features.predict_pixels(PLANES)
    with pytest.raises(InputError, match="takes colour pixels, and the image is gray"):
        make().predict_pixels(PLANES[:1])
    with pytest.raises(InputError, match="takes gray pixels, and the image is colour"):
        make(maps={"pixels": 1}).predict_pixels(PLANES)
