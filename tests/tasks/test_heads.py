"""Heads as files: they come back whole, and refuse what they were not made for."""

import json
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mvmic_codec
from mvmic_codec.errors import InputError, ModelError
from mvmic_codec.features.maps import Features
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks import heads
from mvmic_codec.tasks.heads import Card, Head, load_head, make_network, save_head

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
GRAY, COLOUR = (default_identity(gray).fingerprint for gray in (True, False))
CARD = Card(
    task="polyp segmentation",
    network="fpn",
    fingerprint=COLOUR,
    maps={"s16": 224},
    classes=["polyp"],
    width=12,
    rates=[9, 40],
    data="made up",
    licence="any use",
    scores={"IoU": 0.5},
)
SIZE = (75, 141)


def make(**changes):
    torch.manual_seed(0)
    card = replace(CARD, **changes)
    return Head(card, make_network(card).eval())


def features(fingerprint=COLOUR, rates=(18, 27), names=("s16", "s8")):
    torch.manual_seed(1)
    maps = OrderedDict()
    for name, channels, stride in (("s16", 224, 16), ("s8", 128, 8)):
        if name in names:
            maps[name] = torch.randn(len(rates), channels, *(-(-side // stride) for side in SIZE))
    flat = np.zeros((len(rates), *SIZE), np.bool_)
    return Features(maps, SIZE, tuple(rates), bytes.fromhex(fingerprint), flat)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", ["fpn", "erfnet"])
@pytest.mark.parametrize("classes", [["polyp"], ["road", "tree", "sky"]])
def test_a_head_comes_back_whole(network, classes, device, tmp_path):
    head = make(network=network, classes=classes, maps={"s16": 224, "s8": 128})
    # Its file has half precision.
    head.network.half().float()
    save_head(head, tmp_path / "x.safetensors")
    parameters = sum(each.numel() for each in head.network.state_dict().values())
    assert (tmp_path / "x.safetensors").stat().st_size < 3 * parameters
    again = load_head(str(tmp_path / "x.safetensors"), device)
    assert again.card == head.card
    assert "Not a medical device" in again.card.notice
    for ours, theirs in zip(head.predict(features()), again.predict(features()), strict=True):
        np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_predictions_of_one_class():
    one, two = make().predict(features())
    for each in (one, two):
        assert each.mask.shape == SIZE and each.mask.dtype == np.uint8
        assert each.probabilities.shape == (1, *SIZE) and each.probabilities.dtype == np.float32
        np.testing.assert_array_equal(each.mask, each.probabilities[0] > 0.5)
        assert 0 < each.mask.mean() < 1
    assert (one.mask != two.mask).any()


def test_predictions_of_several_classes():
    head = make(classes=["road", "tree", "sky"])
    logits = 5 * torch.randn(2, 3, *SIZE)
    head.network.forward = lambda maps, rates, size: logits
    for each, expected in zip(head.predict(features()), logits, strict=True):
        assert each.mask.shape == SIZE and each.mask.dtype == np.uint8
        np.testing.assert_array_equal(each.mask, expected.argmax(0))
        np.testing.assert_allclose(each.probabilities, expected.softmax(0), atol=1e-6)


def test_the_rate_of_each_image_is_told_to_the_network():
    head = make()
    with torch.no_grad():
        head.network.laterals["s16"].rate.table.knots.normal_()
    both = head.predict(features(rates=(18, 27)))
    swapped = head.predict(features(rates=(27, 18)))
    assert np.abs(both[0].probabilities - swapped[0].probabilities).max() > 0.01


def test_the_caller_s_modes_do_not_matter():
    expected = make().predict(features())[0].probabilities
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = make().predict(features())[0].probabilities
    np.testing.assert_array_equal(found, expected)


def test_features_of_a_file():
    """From the file itself: the head takes them, and refuses those of a gray image."""
    samples = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    colour, gray = (
        mvmic_codec.decode_features(mvmic_codec.encode(each, rate_index=18, device="cpu"))
        for each in (samples, samples[..., 0])
    )
    head = make()
    assert head.predict(colour)[0].mask.shape == SIZE
    with pytest.raises(InputError) as error:
        head.predict(gray)
    assert str(error.value) == (
        "the head takes features of colour images, and these are of a gray image: encode it as "
        "colour, or use a head for gray images"
    )


def test_features_of_colour_images_for_a_head_for_gray_ones():
    with pytest.raises(InputError, match="of gray images, and these are of a colour image"):
        make(fingerprint=GRAY).predict(features())


def test_features_of_another_model():
    other = "0123456789abcdef"
    with pytest.raises(InputError, match=f"of model {COLOUR}, and these are of model {other}"):
        make().predict(features(fingerprint=other))


def test_features_without_a_map():
    with pytest.raises(InputError) as error:
        make(maps={"s16": 224, "s8": 128}).predict(features(names=("s16",)))
    assert str(error.value) == (
        "the head takes maps that these features lack, s8: ask for maps=('s16', 's8')"
    )


def test_a_rate_that_the_head_was_not_trained_on():
    with pytest.warns(UserWarning, match="rate indices 9 to 40, and may do badly at 8, 63") as seen:
        make().predict(features(rates=(63, 8, 9, 40)))
    # The warning names the caller's line.
    assert seen[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_rates_that_the_head_was_trained_on():
    make().predict(features(rates=(9, 40)))


def test_a_head_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no head .*x.safetensors"):
        load_head(tmp_path / "x.safetensors")


def test_a_damaged_head(tmp_path):
    """Whatever byte is changed and wherever the file ends, one sentence says so."""
    path = tmp_path / "x.safetensors"
    save_head(make(), path)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")  # of the weights
    places = [*range(0, start, 397), *range(start, len(whole), len(whole) // 20), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="is damaged.*: get it again|it has no card"):
            load_head(path)
    for length in (0, 7, 8, 100, start, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="is damaged: get it again"):
            load_head(path)


def test_a_card_that_was_edited(tmp_path):
    path = tmp_path / "x.safetensors"
    save_head(make(), path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    card = json.dumps({**json.loads(metadata["card"]), "licence": "mine"})
    save_file(load_file(path), path, {**metadata, "card": card})
    with pytest.raises(ModelError, match="is damaged, or its card was edited: get it again"):
        load_head(path)


def test_the_head_that_ships_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "PolypGen" in load_head("polyp", "cpu").card.data
    with pytest.raises(InputError, match="no head x; the one that ships is named polyp"):
        load_head("x")
    # A folder of that name is no head, and a file is.
    (tmp_path / "polyp").mkdir()
    assert "PolypGen" in load_head("polyp", "cpu").card.data
    (tmp_path / "polyp").rmdir()
    save_head(make(), tmp_path / "polyp")
    assert load_head("polyp", "cpu").card.data == CARD.data


def test_a_file_that_is_no_head(tmp_path):
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="is not a head: it has no card"):
        load_head(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"network": "unet"},
        {"maps": {"s4": 64}},
        {"maps": {"s16": 200}},
        {"classes": ["a", "b"]},
        {"colour": "red"},
    ],
)
def test_a_head_of_a_later_version(change, tmp_path):
    path = tmp_path / "x.safetensors"
    save_head(make(), path)
    arrays = load_file(path)
    text = json.dumps({**CARD.__dict__, **change})
    save_file(arrays, path, {"card": text, "digest": heads.digest(text, arrays)})
    with pytest.raises(ModelError, match="not one that this version of mvmic_codec knows"):
        load_head(path)


def test_loading_leaves_random_numbers_alone(tmp_path):
    save_head(make(), tmp_path / "x.safetensors")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_head(tmp_path / "x.safetensors")
    assert torch.equal(torch.rand(3), expected)
