"""Samples from `.mvm` files, with and without a cache, in one process and in several."""

import multiprocessing
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from task_files import HEIGHT, WIDTH, as_truth, picture
from torch.utils.data import DataLoader

import mvmic_codec
from mvmic_codec import FormatError, InputError
from mvmic_codec.features import statistics
from mvmic_codec.tasks import archive, dataset, layouts
from mvmic_codec.tasks.crops import collate, random_crop
from mvmic_codec.tasks.dataset import TaskDataset
from mvmic_codec.tasks.truth import IGNORED, GroundTruth

MAPS = ("s8", "s16")


def same(a, b):
    return all(torch.equal(a.maps[name], b.maps[name]) for name in a.maps) and (
        torch.equal(a.truth.mask, b.truth.mask) and torch.equal(a.flat, b.flat)
    )


def test_samples_are_those_of_the_files(items, files):
    data = TaskDataset(items, files, MAPS)
    assert len(data) == 8
    sample = data[0]
    path = files / f"{items[0].name}.r18.mirrored.mvm"
    assert data.views[0].file == path
    features = mvmic_codec.decode_features(path, MAPS, device="cpu")
    assert list(sample.maps) == list(MAPS)
    for name in MAPS:
        assert torch.equal(sample.maps[name], features[name][0])
    assert (sample.name, sample.rate_index, sample.mirrored) == (items[0].name, 18, True)
    assert sample.size == (HEIGHT, WIDTH) and sample.fingerprint == features.fingerprint
    assert data.fingerprint == features.fingerprint
    assert sample.flat.shape == (HEIGHT, WIDTH) and not sample.flat.any()


def test_truth_is_mirrored_where_the_file_is(items, files):
    mirrored, plain = (TaskDataset(items, files)[k] for k in (0, 1))
    assert not plain.mirrored
    _, disc = picture(0)
    expected = as_truth(disc), as_truth(disc[:, ::-1])
    for sample, truth in zip((plain, mirrored), expected, strict=True):
        assert torch.equal(sample.truth.mask, truth.mask)
        assert torch.equal(sample.truth.boxes, truth.boxes)
        assert torch.equal(sample.truth.instances, truth.instances)
        assert sample.truth.labels.tolist() == [1]


def test_mirrored_views_have_their_truth_where_the_maps_are(items, files):
    data = TaskDataset(items, files, mirror=True)
    assert len(data) == 16
    for k, mirrored in ((8, False), (9, True)):
        view, plain = data[k], data[k - 8]
        assert view.mirrored is mirrored and plain.mirrored is not mirrored
        margin = -WIDTH % 16
        assert view.size == (HEIGHT, WIDTH + margin) == tuple(view.truth.mask.shape)
        assert view.flat.shape == view.size and view.maps["s16"].shape[1:] == (5, 9)
        assert (view.truth.mask[:, :margin] == IGNORED).all()
        assert torch.equal(view.truth.mask[:, margin:], plain.truth.mask.flip(1))
        assert torch.equal(view.truth.instances[..., margin:], plain.truth.instances.flip(2))
        left, top, right, bottom = view.truth.boxes[0].int().tolist()
        inside = view.truth.instances[0, top:bottom, left:right]
        assert inside.sum() == view.truth.instances.sum()
        assert inside.any(0).all() and inside.any(1).all()
        # The view of a file is like the file of the mirror image, but for the margin.
        assert not torch.equal(view.maps["s16"], plain.maps["s16"].flip(2))


def test_truth_may_lack_parts(items, files):
    for truth in (GroundTruth(), GroundTruth(boxes=torch.zeros(0, 4), labels=torch.zeros(0))):
        bare = [layouts.replace(item, read=partial(GroundTruth, **vars(truth))) for item in items]
        sample = TaskDataset(bare, files, mirror=True)[9]
        assert sample.truth.mask is None and sample.truth.instances is None


@pytest.fixture
def decoded(monkeypatch):
    """How many files were decoded."""
    calls = []
    for name in ("decode_features", "decode_mirrored_features"):
        real = getattr(dataset, name)

        def decode(*arguments, real=real):
            calls.append(1)
            return real(*arguments)

        monkeypatch.setattr(dataset, name, decode)
    return calls


def test_a_cache_saves_decoding(items, files, tmp_path, decoded):
    plain = TaskDataset(items, files, MAPS, mirror=True)
    cached = TaskDataset(items, files, MAPS, mirror=True, cache=tmp_path / "a/b")
    for k in (1, 9):
        del decoded[:]
        first = cached[k]
        assert len(decoded) == 1
        again = cached[k]
        assert len(decoded) == 1 and same(first, again) and again.size == first.size
        for name in MAPS:
            assert again.maps[name].dtype == torch.float32
            assert (again.maps[name] - plain[k].maps[name]).abs().max() < 0.005
    # Other maps are other entries.
    del decoded[:]
    assert list(TaskDataset(items, files, cache=tmp_path / "a/b")[1].maps) == ["s16"]
    assert len(decoded) == 1 and same(cached[1], cached[1]) and len(decoded) == 1
    assert len(list((tmp_path / "a/b").iterdir())) == 3


def test_entries_that_do_not_fit_are_made_anew(items, files, tmp_path, decoded, monkeypatch):
    folder, cache = tmp_path / "archive", tmp_path / "cache"
    shutil.copytree(files, folder)
    data = TaskDataset(items[:1], folder, cache=cache)
    expected = data[1]
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    for bad in (whole[:-20], whole[:9], b"", b"nothing at all"):
        entry.write_bytes(bad)
        del decoded[:]
        assert same(data[1], expected) and len(decoded) == 1
        assert entry.read_bytes() == whole
    # Another file under the same name.
    shutil.copy(folder / f"{items[0].name}.r27.mvm", data.views[1].file)
    del decoded[:]
    assert not same(data[1], expected) and len(decoded) == 1
    # Other statistics.
    weights = shutil.copytree(statistics.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(statistics, "WEIGHTS", weights)
    path = weights / f"{data.fingerprint.hex()}.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    dataset._state.cache_clear()
    del decoded[:]
    data[1]
    dataset._state.cache_clear()
    assert len(decoded) == 1


def test_flat_areas_come_back_from_the_cache(tmp_path):
    pixels, disc = picture(0)
    pixels[:, :50] = 0
    name = tmp_path / "a.mvm"
    name.write_bytes(mvmic_codec.encode(pixels, rate_index=24))
    item = layouts.Item(name, "a", "a", partial(as_truth, disc))
    plain = TaskDataset([item], None, mirror=True)
    cached = TaskDataset([item], None, mirror=True, cache=tmp_path / "cache")
    for k in (0, 1, 0, 1):
        assert plain[k].flat.any() and torch.equal(cached[k].flat, plain[k].flat)
    assert plain[0].flat[:, :50].all() and plain[1].flat[:, -50:].all()


def methods():
    return [
        pytest.param(
            each,
            marks=[
                pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
                *([pytest.mark.slow] if each == "spawn" else []),
            ],
        )
        for each in ("fork", "spawn")
        if each in multiprocessing.get_all_start_methods()
    ]


@pytest.mark.parametrize("method", methods())
def test_workers(items, files, tmp_path, method):
    """After the parent has run networks, whose threads a forked child lacks."""
    crop = partial(random_crop, size=(64, 64))
    data = TaskDataset(items, files, cache=tmp_path / "cache", mirror=True, transform=crop)
    torch.set_num_threads(2)
    assert data[0].size == (64, 64)
    loader = DataLoader(
        data,
        batch_size=5,
        num_workers=2,
        collate_fn=collate,
        multiprocessing_context=method,
        timeout=100,
    )
    for _ in range(2):
        batches = list(loader)
        assert [len(batch["names"]) for batch in batches] == [5, 5, 5, 1]
        assert batches[0]["maps"]["s16"].shape == (5, 224, 4, 4)
        assert batches[0]["mask"].shape == (5, 64, 64)
    assert len(os.listdir(tmp_path / "cache")) == 16


def test_images_without_files(items, files, tmp_path):
    other = layouts.replace(items[0], name="other")
    with pytest.raises(InputError, match="1 of 3 images have no file in .* the first is other"):
        TaskDataset([*items, other], files)
    with pytest.raises(InputError, match="2 of 2 images are no .mvm files, the first is .*C0_0"):
        TaskDataset(items, None)
    with pytest.raises(InputError, match="there is no folder"):
        TaskDataset(items, tmp_path / "none")
    with pytest.raises(InputError, match="there are no images"):
        TaskDataset([], files)
    with pytest.raises(InputError, match="no feature map 's4'"):
        TaskDataset(items, files, "s4")


def test_files_that_do_not_go_together(items, files, tmp_path):
    folder = tmp_path / "archive"
    shutil.copytree(files, folder)
    gray = picture(0)[0][..., 0]
    (folder / f"{items[0].name}.r09.mvm").write_bytes(mvmic_codec.encode(gray, rate_index=9))
    with pytest.raises(InputError, match="r09.mvm and .*one is gray and one in colour"):
        TaskDataset(items, folder)


def test_files_of_another_size(items, files):
    read = partial(as_truth, np.zeros((HEIGHT, 64), bool))
    data = TaskDataset([layouts.replace(items[0], read=read)], files)
    with pytest.raises(InputError, match=f"is {WIDTH}x{HEIGHT}, but .* of C0_0 is 64x{HEIGHT}"):
        data[0]


def test_damaged_files(items, files, tmp_path):
    folder = tmp_path / "archive"
    shutil.copytree(files, folder)
    path = TaskDataset(items, folder).views[0].file
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(FormatError, match="mirrored.mvm: "):
        TaskDataset(items, folder)[0]
    path.write_bytes(whole[:12])
    with pytest.raises(FormatError, match="mirrored.mvm: "):
        TaskDataset(items, folder)


def test_an_archive_of_real_layouts(tmp_path):
    """From a folder of images and masks to a batch, as a user goes."""
    for kind, pixels in zip(("images", "masks"), picture(0), strict=True):
        (tmp_path / kind).mkdir()
        Image.fromarray(pixels).save(tmp_path / kind / "C0_0.png")
    found = layouts.folder_of_masks(tmp_path / "images", tmp_path / "masks").items
    rates = archive.draw_rates(found, 18, 27, 1)
    archive.write_archive(found, tmp_path / "archive", rates, device="cpu")
    batch = collate(list(TaskDataset(found, tmp_path / "archive")))
    assert torch.equal(batch["mask"][0].bool(), torch.from_numpy(picture(0)[1]))
