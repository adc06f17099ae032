"""Crops and batches: maps and ground truth stay in step."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch

from mvmic_codec import InputError
from mvmic_codec.tasks.crops import collate, crop, random_crop
from mvmic_codec.tasks.dataset import TaskSample
from mvmic_codec.tasks.truth import IGNORED, GroundTruth, of_objects

STRIDES = {"s16": 16, "s8": 8, "pixels": 1}


def sample(height=200, width=330, **changes):
    """Maps whose elements say where they are, and two objects."""
    maps = OrderedDict()
    for name, stride in STRIDES.items():
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        maps[name] = torch.from_numpy(np.stack((rows, columns)) * stride + 1.0).float()
    boxes = [[20, 30, 100, 90], [150, 100, 190, 160]]
    polygons = [
        [[left, top, right, top, right, bottom, left, bottom]] for left, top, right, bottom in boxes
    ]
    made = TaskSample(
        name="a",
        mirrored=False,
        maps=maps,
        size=(height, width),
        rate_index=18,
        fingerprint=b"12345678",
        flat=torch.zeros(height, width, dtype=torch.bool).index_fill_(1, torch.arange(70), True),
        truth=of_objects((height, width), boxes, [1, 2], polygons),
    )
    return replace(made, **changes)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (48, 80), (112, 224)])
def test_a_crop_is_a_part_of_maps_and_truth(top, left):
    whole = sample()
    part = crop(whole, top, left, (64, 128))
    assert part.size == (64, 128)
    for name, stride in STRIDES.items():
        expected = whole.maps[name][
            :, top // stride : (top + 64) // stride, left // stride : (left + 128) // stride
        ]
        found = part.maps[name]
        assert found.shape == (2, 64 // stride, 128 // stride)
        rows, columns = expected.shape[1:]
        assert torch.equal(found[:, :rows, :columns], expected)
        assert not found[:, rows:].any() and not found[:, :, columns:].any()
    rows, columns = min(64, 200 - top), min(128, 330 - left)
    inner = np.s_[top : top + 64, left : left + 128]
    assert torch.equal(part.truth.mask[:rows, :columns], whole.truth.mask[inner])
    assert (part.truth.mask[rows:] == IGNORED).all()
    assert (part.truth.mask[:, columns:] == IGNORED).all()
    assert torch.equal(part.flat[:rows, :columns], whole.flat[inner])
    assert not part.flat[rows:].any() and not part.flat[:, columns:].any()


def test_objects_are_cut_at_the_edges():
    part = crop(sample(), 64, 64, (64, 128))
    assert part.truth.boxes.tolist() == [[0, 0, 36, 26], [86, 36, 126, 64]]
    assert part.truth.labels.tolist() == [1, 2] and part.truth.instances.shape == (2, 64, 128)
    assert part.truth.instances[1].sum() == 40 * 28
    part = crop(sample(), 96, 128, (64, 128))
    assert part.truth.boxes.tolist() == [[22, 4, 62, 64]] and part.truth.labels.tolist() == [2]
    assert part.truth.instances.shape == (1, 64, 128)
    boxes = GroundTruth(boxes=sample().truth.boxes, labels=sample().truth.labels)
    part = crop(sample(truth=boxes), 96, 128, (64, 128))
    assert part.truth.boxes.tolist() == [[22, 4, 62, 64]] and part.truth.instances is None


@pytest.mark.parametrize(
    ("top", "left", "size"),
    [(8, 0, (64, 64)), (0, -16, (64, 64)), (0, 0, (64, 96)), (0, 0, (0, 64))],
)
def test_crops_off_the_grid(top, left, size):
    with pytest.raises(InputError, match="does not lie on the grid of maps"):
        crop(sample(), top, left, size)


def test_random_crops_reach_every_place():
    torch.manual_seed(0)
    whole = sample()
    places = {
        tuple(random_crop(whole, (128, 256)).maps["pixels"][:, 0, 0].int().tolist())
        for _ in range(400)
    }
    assert places == {(r * 16 + 1, c * 16 + 1) for r in range(6) for c in range(6)}
    assert random_crop(whole, (256, 384)).maps["pixels"][0, 0, 0] == 1


def test_a_batch_of_several_sizes():
    two = sample(), sample(150, 400, name="b", rate_index=27)
    batch = collate(two)
    assert batch["names"] == ["a", "b"] and batch["sizes"] == [(200, 330), (150, 400)]
    assert batch["rate_indices"].tolist() == [18, 27] and batch["fingerprint"] == b"12345678"
    assert batch["maps"]["s16"].shape == (2, 2, 13, 25)
    assert batch["maps"]["s8"].shape == (2, 2, 25, 50)
    assert list(batch["maps"]) == list(STRIDES)
    for k, each in enumerate(two):
        height, width = each.size
        mask = batch["mask"][k]
        assert mask.dtype == torch.int64
        assert torch.equal(mask[:height, :width], each.truth.mask.long())
        assert (mask[height:] == IGNORED).all() and (mask[:, width:] == IGNORED).all()
        assert torch.equal(batch["flat"][k, :height, :width], each.flat)
        for name, whole in batch["maps"].items():
            rows, columns = each.maps[name].shape[1:]
            assert torch.equal(whole[k, :, :rows, :columns], each.maps[name])
            assert not whole[k, :, rows:].any() and not whole[k, :, :, columns:].any()
        target = batch["targets"][k]
        assert torch.equal(target["boxes"], each.truth.boxes)
        assert torch.equal(target["labels"], each.truth.labels)
        assert target["masks"].dtype == torch.uint8
        assert target["masks"].shape == (2, 200, 400)


def test_batches_without_masks_or_boxes():
    street = sample(truth=GroundTruth(mask=torch.zeros(200, 330, dtype=torch.uint8)))
    assert collate([street])["targets"] is None
    boxes = sample(truth=GroundTruth(boxes=torch.zeros(0, 4), labels=torch.zeros(0)))
    batch = collate([boxes])
    assert batch["mask"] is None and list(batch["targets"][0]) == ["boxes", "labels"]
    with pytest.raises(InputError, match="with and without masks"):
        collate([street, boxes])


def test_samples_that_do_not_go_together():
    with pytest.raises(InputError, match="gray and colour"):
        collate([sample(), sample(fingerprint=b"87654321")])
    with pytest.raises(InputError, match="different maps"):
        collate([sample(), sample(maps=OrderedDict(s16=sample().maps["s16"]))])
