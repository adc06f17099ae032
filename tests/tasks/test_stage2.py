"""Stage 2: heads are trained on an archive, go on after a stop, and know their scores."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import mvmic_codec
from mvmic_codec.errors import InputError
from mvmic_codec.tasks import stage2
from mvmic_codec.tasks import train as training
from mvmic_codec.tasks.heads import Detection, load_head
from mvmic_codec.tasks.truth import GroundTruth

SETTINGS = stage2.HeadSettings(
    task="polyp segmentation",
    classes=("polyp",),
    network="fpn",
    maps=("s16",),
    rates=(9, 35),
    steps=4,
    seconds=60.0,
    learning_rate=1e-2,
    crop=64,
    width=12,
    data="drawn",
    licence="any use",
)
PIXELS = replace(SETTINGS, network="pixels-light", maps=())
MASK_RCNN = replace(
    SETTINGS,
    task="polyp detection",
    network="mask-rcnn",
    maps=("s8", "s16"),
    steps=1,
    crop=None,
    width=64,
)


def weights(path):
    return torch.cat([v.flatten().double() for v in load_head(path).network.state_dict().values()])


@pytest.fixture(scope="module")
def data(items):
    found = stage2.halves(items)
    assert (len(found.train), len(found.validation)) == (1, 1)
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("settings", [SETTINGS, PIXELS], ids=["features", "pixels"])
def test_a_head_knows_what_it_is(settings, data, files, tmp_path):
    path = stage2.train_head(data, files, tmp_path, settings, 3, "cpu", tmp_path / "cache")
    card = load_head(path).card
    of_pixels = settings is PIXELS
    assert path.name == ("pixels-light" if of_pixels else "features-s16") + "-seed3.safetensors"
    assert card.maps == ({"pixels": 3} if of_pixels else {"s16": 224})
    assert card.network == settings.network and card.rates == [9, 35]
    assert (card.data, card.licence, card.classes) == ("drawn", "any use", ["polyp"])
    # The files are at 18 and 27.
    labels = ["", ", rates 18 to 26", ", rates 27 to 35"] + [", originals"] * of_pixels
    assert sorted(card.scores) == sorted(m + end for m in ("IoU", "mIoU", "Dice") for end in labels)
    assert all(0 <= value <= 1 for value in card.scores.values())
    # Two images, each in 4 files. Features of mirrored views are decoded apart.
    assert len(list((tmp_path / "cache").iterdir())) == (8 if of_pixels else 12)


def test_a_card_says_at_which_rates_the_files_are(data, files, tmp_path):
    for band in ((6, 20), (30, 63), (27, 18)):
        with pytest.raises(InputError, match="at rate indices 18 to 27, .*give --rates 18 27"):
            stage2.train_head(data, files, tmp_path, replace(SETTINGS, rates=band), 0, "cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("network", ["mask-rcnn", "faster-rcnn-pixels-light"])
def test_a_detector_knows_what_it_is(network, data, files, tmp_path, cache):
    settings = replace(MASK_RCNN, network=network)
    of_pixels, kinds = network != "mask-rcnn", ["box", "mask"]
    if of_pixels:
        settings, kinds = replace(settings, maps=()), ["box"]
    path = stage2.train_head(data, files, tmp_path, settings, 3, "cpu", cache)
    assert path.name == f"{network}{'' if of_pixels else '-features-s8-s16'}-seed3.safetensors"
    head = load_head(path)
    assert head.detects and head.card.task == "polyp detection"
    assert head.card.maps == ({"pixels": 3} if of_pixels else {"s8": 128, "s16": 224})
    labels = ["", ", rates 18 to 26", ", rates 27 to 35"] + [", originals"] * of_pixels
    names = [f"{kind} AP{at}{end}" for kind in kinds for at in ("", "50", "75") for end in labels]
    assert sorted(head.card.scores) == sorted(names)
    assert all(0 <= value <= 1 for value in head.card.scores.values())


def test_a_detector_learns_from_whole_frames_or_crops(data, files):
    whole, held_out = stage2._datasets(data, files, MASK_RCNN, "cpu", None)
    sample = whole[0]
    assert sample.size == (75, 141) and len(sample.truth.boxes) == 1
    crops, _ = stage2._datasets(data, files, replace(MASK_RCNN, crop=64), "cpu", None)
    assert crops[0].size == (64, 64)
    # It is scored on whole frames either way.
    assert held_out[""].transform is None


@pytest.mark.parametrize(
    ("half", "words"), [("train", "image to train on"), ("validation", "image held out")]
)
def test_a_detector_needs_objects(half, words, data, files, tmp_path):
    """It says so before it trains."""
    none = GroundTruth(None, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    for truth in (none, GroundTruth()):
        empty = [replace(each, read=lambda truth=truth: truth) for each in getattr(data, half)]
        with pytest.raises(InputError, match=f"needs objects, and no {words} has one"):
            stage2.train_head(
                replace(data, **{half: empty}), files, tmp_path, MASK_RCNN, 0, "cpu", None
            )
    assert not list(tmp_path.iterdir())


def test_precision_is_given_by_parts_of_the_band():
    """Over the images of a part together; parts without an object have none."""
    box, mask = np.array([[8, 8, 40, 40]], np.float32), np.zeros((1, 64, 64), np.bool_)
    mask[0, 8:40, 8:40] = True
    one = np.ones(1)
    right, off = (Detection(box + shift, one, one, mask) for shift in (0, 30))
    truth = GroundTruth(None, torch.tensor(box), torch.ones(1), torch.tensor(mask))
    nothing = GroundTruth(None, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 64, 64))
    found = [(9, right, truth), (17, off, truth), (20, right, nothing), (30, right, truth)]
    scores = stage2.detection_scores("", found, MASK_RCNN)
    assert scores["box AP, rates 27 to 35"] == scores["mask AP75, rates 9 to 17"] == 1
    assert 0 < scores["box AP50, rates 9 to 17"] < 1
    assert scores["box AP"] < scores["mask AP"] < 1
    assert not any("18 to 26" in name for name in scores)
    faster = replace(MASK_RCNN, network="faster-rcnn")
    assert sorted(stage2.detection_scores("originals", found, faster)) == [
        f"box AP{at}, originals" for at in ("", "50", "75")
    ]


def test_networks_on_pixels_see_originals_too(data, files):
    training, held_out = stage2._datasets(data, files, PIXELS, "cpu", None)
    # Two rates of both views and the original, each also mirrored.
    assert [view.original for view in training.views] == ([False] * 4 + [True]) * 2
    assert [view.mirror for view in training.views] == [False] * 5 + [True] * 5
    assert [view.original for view in held_out[""].views] == [False] * 4
    assert [view.original for view in held_out["originals"].views] == [True]
    names = {view.item.name for each in held_out.values() for view in each.views}
    assert names == {data.validation[0].name} and training[0].size == (64, 64)


def test_a_run_goes_on_where_it_was(data, files, tmp_path, cache, monkeypatch):
    whole = stage2.train_head(data, files, tmp_path / "a", SETTINGS, 0, "cpu", cache)
    step = training.train_step
    calls = []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        stage2.train_head(data, files, tmp_path / "b", SETTINGS, 0, "cpu", cache)
    assert not list((tmp_path / "b").glob("*.safetensors"))
    path = stage2.train_head(data, files, tmp_path / "b", SETTINGS, 0, "cpu", cache)
    # One batch of four files is an epoch, so two steps were done before the stop.
    assert len(calls) == 3 + 2
    torch.testing.assert_close(weights(path), weights(whole), rtol=0, atol=1e-6)
    assert stage2.train_head(data, files, tmp_path / "b", SETTINGS, 0, "cpu", cache) == path
    assert len(calls) == 5
    other = stage2.train_head(data, files, tmp_path / "b", SETTINGS, 1, "cpu", cache)
    assert (weights(other) - weights(path)).abs().max() > 1e-3


def test_a_folder_holds_one_run(data, files, tmp_path, cache):
    stage2.train_head(data, files, tmp_path, replace(SETTINGS, steps=1), 0, "cpu", cache)
    with pytest.raises(InputError, match="with other settings, steps 1 and not 4: give the same"):
        stage2.train_head(data, files, tmp_path, SETTINGS, 0, "cpu", cache)
    with pytest.raises(
        InputError, match="images and masks .* or delete features-s16.json and feat"
    ):
        other = replace(data, digest="0")
        stage2.train_head(other, files, tmp_path, replace(SETTINGS, steps=1), 0, "cpu", cache)
    (tmp_path / "features-s16.json").write_text("{")
    with pytest.raises(InputError, match="features-s16.json is damaged"):
        stage2.train_head(data, files, tmp_path, SETTINGS, 0, "cpu", cache)


def test_the_archive_of_a_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mvmic_codec.tasks.archive.encode", lambda image, rate_index, **rest: bytes([rate_index])
    )
    folder = stage2.archive_of(data, tmp_path, (9, 35), 3, None, "cpu")
    names = sorted(path.name for path in folder.glob("*.mvm"))
    assert len(names) == 3 * (len(data.train) + len(data.validation))
    expected = {"rates": [9, 35], "copies": 3, "encoder": None}
    assert json.loads((tmp_path / "archive.json").read_text()) == expected
    with pytest.raises(InputError, match="copies 3 and not 2: .*delete archive.json and archive$"):
        stage2.archive_of(data, tmp_path, (9, 35), 2, None, "cpu")
    # Some images of it are enough: others may have been added.
    listed = json.loads((folder / "images.json").read_text())
    (folder / "images.json").write_text(json.dumps(listed | {"C0_0": "other", "C9_9": "other"}))
    with pytest.warns(UserWarning, match="C0_0.png has changed"):
        stage2.archive_of(data, tmp_path, (9, 35), 3, None, "cpu")
    (folder / "images.json").write_text(json.dumps({"S1_1": "00", "C0_0": "other"}))
    with pytest.raises(InputError, match="archive is made of other images, such as S1_1: name"):
        stage2.archive_of(data, tmp_path, (9, 35), 3, None, "cpu")


def test_files_that_a_head_cannot_be_trained_on(data, files, tmp_path):
    copied = shutil.copytree(files, tmp_path / "archive")
    (gray,) = data.validation
    file = next(copied.glob(f"{gray.name}.r18.mvm"))
    file.write_bytes(mvmic_codec.encode(Image.new("L", (141, 75)), rate_index=18))
    with pytest.raises(InputError, match=f"{gray.name}.r18.mvm .*one is gray and one in colour"):
        stage2.train_head(data, copied, tmp_path / "x", SETTINGS, 0, "cpu")
    (copied / "images.json").write_text(json.dumps({gray.name: "00"}))
    with pytest.raises(InputError, match=f"{gray.name}.png is not the image that its files in"):
        stage2.train_head(data, copied, tmp_path / "x", SETTINGS, 0, "cpu")
    assert not (tmp_path / "x").exists()


def test_originals_that_a_head_on_pixels_cannot_be_trained_on(data, tmp_path):
    def of(*images):
        items = []
        for k, image in enumerate(images):
            image.save(tmp_path / f"{k}.png")
            items.append(replace(data.train[0], image=tmp_path / f"{k}.png"))
        return replace(data, train=items, validation=[])

    gray, deep, colour = (Image.new(mode, (64, 64)) for mode in ("L", "I;16", "RGB"))
    stage2.check_data(of(gray, gray), PIXELS)
    stage2.check_data(of(gray, colour, deep), SETTINGS)
    with pytest.raises(InputError, match="1.png has mode I;16"):
        stage2.check_data(of(gray, deep), PIXELS)
    with pytest.raises(InputError, match="0.png has one channel and .*1.png has three"):
        stage2.check_data(of(gray, colour), PIXELS)


def test_halves_know_their_images_and_masks(data, items, tmp_path):
    """A corrected mask makes another run, and so does an image."""
    assert stage2.halves(items[::-1]).digest == data.digest
    nothing = GroundTruth(torch.zeros(75, 141, dtype=torch.uint8))
    (held_out,) = data.validation
    blank = [replace(each, read=lambda: nothing) for each in items]
    one = [new if old == held_out else old for old, new in zip(items, blank, strict=True)]
    assert stage2.halves(one).digest != data.digest
    (tmp_path / "x.png").write_bytes(held_out.image.read_bytes() + b"more")
    moved = [replace(each, image=tmp_path / "x.png") for each in data.validation]
    assert stage2.halves([*data.train, *moved]).digest != data.digest
    with pytest.warns(UserWarning, match="all masks of the images to train on are empty"):
        stage2.halves(blank)


def covered(share):
    """A predicted mask that covers a share of a true one, of half of the image."""
    truth = torch.zeros(10, 10, dtype=torch.int64)
    truth[:, :5] = 1
    predicted = torch.zeros_like(truth)
    predicted[: round(10 * share), :5] = 1
    return predicted, truth


def test_means_are_given_by_parts_of_the_band():
    files = [(9, *covered(0.2)), (17, *covered(0.4)), (35, *covered(0.9))]
    found = stage2.mean_scores("", files, SETTINGS)
    found |= stage2.mean_scores("originals", [(63, *covered(1))], SETTINGS)
    assert found["IoU"] == 0.5
    assert found["mIoU"] == pytest.approx(
        np.mean([0.2 + 5 / 9, 0.4 + 5 / 8, 0.9 + 10 / 11]) / 2, abs=1e-4
    )
    assert found["IoU, rates 9 to 17"] == 0.3 and found["IoU, rates 27 to 35"] == 0.9
    assert found["Dice, originals"] == 1.0
    assert not any("18 to 26" in name for name in found)


def test_scores_of_several_classes_are_of_all_pixels():
    several = replace(SETTINGS, task="street scenes", classes=("road", "sky", "tree"))
    files = [(9, *covered(0.2)), (35, *covered(1.0))]
    found = stage2.scores_of_classes("", files, several)
    # 40 of 200 pixels are wrong. Of class 1 there are 60 of 100, and nothing else is taken for it.
    assert found["accuracy"] == 0.8
    assert found["mIoU"] == pytest.approx((60 / 100 + 100 / 140) / 2, abs=1e-4)
    assert found["accuracy, rates 9 to 17"] == 0.6 and found["mIoU, rates 27 to 35"] == 1
