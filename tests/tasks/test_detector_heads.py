"""Detectors as heads: they come back whole, find what the network finds, and refuse the rest."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision")
pytest.importorskip("pycocotools")

from mvmic_codec.errors import InputError, ModelError, MvmError  # noqa: E402
from mvmic_codec.features.maps import Features  # noqa: E402
from mvmic_codec.model.identity import default_identity  # noqa: E402
from mvmic_codec.tasks import detection, importance  # noqa: E402
from mvmic_codec.tasks.heads import (  # noqa: E402
    DETECTORS,
    UNTOLD_RATE,
    Card,
    Head,
    load_head,
    make_network,
    save_head,
)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
GRAY, COLOUR = (default_identity(gray).fingerprint for gray in (True, False))
SIZE = (75, 141)
CARD = Card(
    task="polyp detection",
    network="mask-rcnn",
    fingerprint=COLOUR,
    maps=detection.CHANNELS,
    classes=["polyp"],
    width=64,
    rates=[9, 40],
    data="made up",
    licence="any use",
    scores={"box AP": 0.5},
)
PLANES = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))


def make(network="mask-rcnn", **changes):
    torch.manual_seed(0)
    maps = {"pixels": 3} if "pixels" in network else detection.CHANNELS
    card = replace(CARD, **{"network": network, "maps": maps, **changes})
    return Head(card, make_network(card).eval().requires_grad_(False))


def features(fingerprint=COLOUR, names=("s8", "s16"), rates=(18, 27)):
    random = torch.Generator().manual_seed(1)
    maps = OrderedDict()
    for name, stride in (("s8", 8), ("s16", 16)):
        if name in names:
            sides = (-(-side // stride) for side in SIZE)
            shape = len(rates), detection.CHANNELS[name], *sides
            maps[name] = torch.randn(shape, generator=random)
    flat = np.zeros((len(rates), *SIZE), np.bool_)
    return Features(maps, SIZE, tuple(rates), bytes.fromhex(fingerprint), flat)


def found_by(head):
    return [head.detect_pixels(PLANES)] if head.takes_pixels else head.detect(features())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", DETECTORS)
def test_a_detector_comes_back_whole(network, device, tmp_path):
    head = make(network)
    # Its file has half precision.
    head.network.half().float()
    save_head(head, tmp_path / "x.safetensors")
    again = load_head(tmp_path / "x.safetensors", device)
    assert again.card == head.card and again.detects
    assert again.network.stem is None or again.takes_pixels
    for ours, theirs in zip(found_by(head), found_by(again), strict=True):
        count = len(ours.scores)
        assert count > 0 and (np.diff(ours.scores) <= 0).all()
        assert ours.boxes.shape == (count, 4) and ours.labels.dtype == np.int64
        if network.startswith("mask"):
            assert ours.masks.shape == (count, *SIZE) and ours.masks.dtype == np.bool_
        else:
            assert ours.masks is None
        if device == "cpu":
            np.testing.assert_array_equal(theirs.boxes, ours.boxes)
            np.testing.assert_array_equal(theirs.scores, ours.scores)


def test_the_stems_differ():
    light, deep = (make(f"faster-rcnn-pixels-{stem}").network for stem in ("light", "deep"))
    size = (544, 960)
    assert detection.multiply_adds(deep, size) > 2 * detection.multiply_adds(light, size)


def test_it_finds_what_the_network_finds():
    """Each image at its own rate, and whatever modes the caller is in."""
    head, both = make("faster-rcnn"), features()
    torch.nn.init.normal_(head.network.pyramid.rates["s16"].table.knots)
    expected = head.network(both.maps, torch.tensor([18, 27]), [SIZE, SIZE])
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        found = head.detect(both)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.boxes, other["boxes"].numpy())
    assert not np.array_equal(found[0].boxes, head.detect(features(rates=(27, 18)))[0].boxes)


def test_pixels_are_given_without_the_rate():
    head, seen = make("faster-rcnn-pixels-light"), []
    head.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1].tolist()))
    head.detect_pixels(PLANES)
    assert seen == [[UNTOLD_RATE]]


def test_a_detector_does_not_predict_and_the_reverse():
    segments = Head(replace(CARD, network="fpn", width=6), None)
    on_pixels = Head(replace(CARD, network="pixels-light", maps={"pixels": 3}), None)
    assert not segments.detects and not on_pixels.detects
    for refused in (
        lambda: make().predict(features()),
        lambda: make("mask-rcnn-pixels-light").predict_pixels(PLANES),
        lambda: importance.check_model(make(), bytes.fromhex(COLOUR)),
    ):
        with pytest.raises(InputError, match="is a detector, mask-rcnn.*, and gives no mask of"):
            refused()
    for refused in (
        lambda: segments.detect(features()),
        lambda: on_pixels.detect_pixels(PLANES),
    ):
        with pytest.raises(InputError, match="is for segmentation and detects no objects: use a"):
            refused()


def test_what_it_was_not_made_for():
    with pytest.raises(InputError, match="of colour images, and these are of a gray image"):
        make().detect(features(GRAY))
    with pytest.raises(InputError, match="maps that these features lack, s8: ask for maps="):
        make().detect(features(names=("s16",)))
    with pytest.raises(InputError, match="takes decoded pixels and not features"):
        make("mask-rcnn-pixels-deep").detect(features())
    with pytest.raises(InputError, match="takes features, s8, s16, and not pixels"):
        make().detect_pixels(PLANES)
    with pytest.raises(InputError, match="takes colour pixels, and the image is gray"):
        make("faster-rcnn-pixels-light").detect_pixels(PLANES[:1])
    with pytest.warns(UserWarning, match="rate indices 9 to 40, and may do badly at 63") as seen:
        make().detect(features(rates=(63,)))
    assert seen[0].filename == __file__


def test_a_card_with_other_maps(tmp_path):
    head = make()
    save_head(Head(replace(head.card, maps={"s16": 224}), head.network), tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="not one that this version of mvmic_codec knows"):
        load_head(tmp_path / "x.safetensors")


def test_without_torchvision(monkeypatch, tmp_path):
    save_head(make(), tmp_path / "x.safetensors")
    monkeypatch.setattr("mvmic_codec.evaluation.find_spec", lambda name: None)
    with pytest.raises(MvmError, match=r"torchvision is not installed; pip install .*\[tasks\]"):
        load_head(tmp_path / "x.safetensors")
