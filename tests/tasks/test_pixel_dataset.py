"""Decoded pixels and originals as samples, beside the ground truth of the same view."""

import numpy as np
import pytest
import torch
from PIL import Image
from task_files import HEIGHT, WIDTH, picture

import mvmic_codec
from mvmic_codec.errors import InputError
from mvmic_codec.tasks import pixel_dataset
from mvmic_codec.tasks.heads import UNTOLD_RATE
from mvmic_codec.tasks.layouts import Item
from mvmic_codec.tasks.pixel_dataset import PixelDataset, collate_untold
from mvmic_codec.tasks.truth import GroundTruth


def as_samples(sample):
    return (sample.maps["pixels"] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def test_samples_are_the_pixels_of_the_files(items, files):
    data = PixelDataset(items, files)
    assert len(data) == 8
    mirrored, plain = data[0], data[1]
    name = items[0].name
    assert data.views[0].file == files / f"{name}.r18.mirrored.mvm"
    for sample in (mirrored, plain):
        file = data.views[0 if sample.mirrored else 1].file
        assert np.array_equal(as_samples(sample), np.asarray(mvmic_codec.decode(file)))
        assert (sample.name, sample.rate_index, sample.size) == (name, 18, (HEIGHT, WIDTH))
        assert sample.fingerprint == mvmic_codec.read_header(file).fingerprint
    _, disc = picture(0)
    assert np.array_equal(plain.truth.mask.numpy(), disc)
    assert np.array_equal(mirrored.truth.mask.numpy(), disc[:, ::-1])


def test_files_and_originals_and_their_mirror_images(items, files):
    data = PixelDataset(items, files, originals=True, mirror=True)
    assert len(data) == 20
    pixels, disc = picture(0)
    # The first file holds the mirror image, so that its mirrored view is the plain one.
    for index, mirrored in ((0, True), (10, False)):
        sample = data[index]
        assert sample.mirrored is mirrored
        assert np.array_equal(sample.truth.mask.numpy(), disc[:, :: -1 if mirrored else 1])
    assert np.array_equal(as_samples(data[10]), as_samples(data[0])[:, ::-1])
    for index, flip in ((8, 1), (18, -1)):
        assert np.array_equal(as_samples(data[index]), pixels[:, ::flip])
        assert np.array_equal(data[index].truth.mask.numpy(), disc[:, ::flip])
        assert data[index].rate_index == UNTOLD_RATE
    assert len(PixelDataset(items, None, originals=True)) == 2


def test_networks_on_pixels_are_not_told_the_rate(items, files):
    """Files and originals go into one batch."""
    data = PixelDataset(items, files, originals=True)
    batch = collate_untold([data[0], data[3], data[9]])
    assert batch["rate_indices"].tolist() == [UNTOLD_RATE] * 3
    assert batch["maps"]["pixels"].shape == (3, 3, HEIGHT, WIDTH)


def test_a_cache_saves_decoding_and_changes_nothing(items, files, tmp_path, monkeypatch):
    expected = [each["pixels"] for each in (s.maps for s in PixelDataset(items, files))][:2]
    cached = PixelDataset(items, files, cache=tmp_path / "cache")
    assert torch.equal(cached[0].maps["pixels"], expected[0])
    with monkeypatch.context() as patch:
        patch.setattr(pixel_dataset, "decode", None)
        assert torch.equal(cached[0].maps["pixels"], expected[0])
    entries = list((tmp_path / "cache").iterdir())
    assert len(entries) == 1 and entries[0].stat().st_size < 1.1 * 3 * HEIGHT * WIDTH
    entries[0].write_bytes(entries[0].read_bytes()[:-9])
    assert torch.equal(cached[0].maps["pixels"], expected[0])


def test_what_is_no_image_for_a_network_is_refused(items, files, tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(path)
    deep = Item(path, "deep", "deep", GroundTruth)
    with pytest.raises(InputError, match="gray or RGB images of 8 bits"):
        PixelDataset([deep], None, originals=True)[0]
    with pytest.raises(InputError, match="there are no images"):
        PixelDataset([], files)
    with pytest.raises(InputError, match="there are no images"):
        PixelDataset(items, None)


def test_a_mask_of_another_size_is_refused(items, files):
    wrong = Item(items[0].image, items[0].name, "", lambda: GroundTruth(torch.zeros(9, 9)))
    with pytest.raises(InputError, match="is 141x75, but the ground truth of C0_0 is 9x9"):
        PixelDataset([wrong], files)[0]
