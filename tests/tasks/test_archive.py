"""Archives: drawn rates, names of files, going on after an interruption, images that change."""

import os
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

import mvmic_codec
from mvmic_codec import InputError
from mvmic_codec.tasks import archive, layouts


def named(count):
    return [layouts.Item(None, f"image{k}", "", None) for k in range(count)]


def test_rates_are_drawn_from_each_part_of_the_band():
    rates = archive.draw_rates(named(400), 10, 27, 3, seed=1)
    assert list(rates) == [f"image{k}" for k in range(400)]
    for k, part in enumerate((range(10, 16), range(16, 22), range(22, 28))):
        found = Counter(each[k] for each in rates.values())
        assert set(found) == set(part)
        assert max(found.values()) < 2 * min(found.values())


def test_rates_depend_on_name_and_seed_alone():
    rates = archive.draw_rates(named(20), 0, 63, 2, seed=1)
    again = archive.draw_rates(named(20)[::-2], 0, 63, 2, seed=1)
    assert again == {name: rates[name] for name in again}
    assert archive.draw_rates(named(20), 0, 63, 2, seed=2) != rates
    assert archive.draw_rates(named(1), 5, 7, 3) == {"image0": [5, 6, 7]}


@pytest.mark.parametrize(("band", "count"), [((5, 7), 4), ((5, 7), 0), ((7, 5), 1)])
def test_bands_that_hold_too_few(band, count):
    with pytest.raises(InputError, match=f"{count} rate indices for each image cannot be drawn"):
        archive.draw_rates(named(1), *band, count)
    with pytest.raises(InputError, match="an integer from 0 to 63"):
        archive.draw_rates(named(1), 0, 64, 1)


def test_names_tell_image_rate_and_mirrored(tmp_path):
    for name in ("C3_EndoCV2021_00143", "a.r18", "x.mirrored"):
        for mirrored in (False, True):
            path = tmp_path / archive.file_name(name, 7, mirrored)
            assert archive.parse_file_name(path) == (name, mirrored)
    assert archive.file_name("a", 7, True) == "a.r07.mirrored.mvm"
    for other in ("a.mvm", "a.r7.mvm", ".r07.mvm", "a.r07.mvm.part"):
        assert archive.parse_file_name(tmp_path / other) is None


def test_an_archive_holds_images_and_mirror_images(items, files):
    assert sorted(path.name for path in files.glob("*.mvm")) == sorted(
        f"{item.name}.r{rate}{end}.mvm"
        for item in items
        for rate in (18, 27)
        for end in ("", ".mirrored")
    )
    image = Image.open(items[0].image)
    for end, expected in (("", image), (".mirrored", ImageOps.mirror(image))):
        found = Image.open(files / f"{items[0].name}.r27{end}.mvm")
        assert mvmic_codec.read_header(found.filename).rate_index == 27
        error = np.asarray(found, float) - np.asarray(expected, float)
        assert np.abs(error).mean() < 6


@pytest.fixture
def encoded(monkeypatch):
    """Names of images that were encoded, by a codec that writes a header and no image."""
    calls = []
    real = mvmic_codec.encode

    def encode(image, **options):
        calls.append((os.path.basename(image.filename), options["rate_index"]))
        return real(image, **options)

    monkeypatch.setattr(archive, "encode", encode)
    return calls


def test_a_second_call_goes_on(items, files, tmp_path, encoded):
    rates = {item.name: [18] for item in items}
    first, second = archive.write_archive(items, tmp_path, rates)
    assert len(encoded) == 2
    whole = second.read_bytes()
    # Cut within the header, of another rate, of another image.
    for bad in (
        whole[:20],
        (files / f"{items[1].name}.r27.mvm").read_bytes(),
        mvmic_codec.encode(Image.new("RGB", (64, 64)), rate_index=18),
    ):
        second.write_bytes(bad)
        del encoded[:]
        assert archive.write_archive(items, tmp_path, rates) == [first, second]
        assert encoded == [(items[1].image.name, 18)]
        assert second.read_bytes() == whole


def test_nothing_is_left_of_a_file_that_was_not_written(items, tmp_path, monkeypatch):
    def fail(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        archive.write_archive(items, tmp_path, {item.name: [18] for item in items})
    assert list(tmp_path.iterdir()) == []


def test_images_that_cannot_be_read_or_encoded(tmp_path, encoded):
    drawn(tmp_path, "b", (9, 8, 7))
    path = tmp_path / "a.png"
    items = [layouts.Item(tmp_path / f"{name}.png", name, name, None) for name in "ba"]
    rates = {"a": [18], "b": [18]}
    deep = Image.fromarray(np.full((64, 64), 300, np.uint16))
    deep.save(path, transparency=300)
    with pytest.raises(InputError, match="a.png cannot be encoded: .*transparen"):
        archive.write_archive(items, tmp_path / "out", rates)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="a.png cannot be read as an image"):
        archive.write_archive(items, tmp_path / "out", rates)
    # It is found before others are encoded, and nothing is entered in the list.
    assert encoded == [] and not list((tmp_path / "out").iterdir())


def drawn(folder, name, colour):
    path = folder / f"{name}.png"
    Image.new("RGB", (64, 64), colour).save(path)
    return layouts.Item(path, name, name, None)


def test_files_of_an_image_that_changed_are_made_anew(tmp_path, encoded):
    items = [drawn(tmp_path, name, (200, 30, 40 + k)) for k, name in enumerate(("a", "a.r18"))]
    rates, folder = {"a": [18], "a.r18": [27]}, tmp_path / "out"
    old = [path.read_bytes() for path in archive.write_archive(items, folder, rates)]
    archive.write_archive(items[:1], folder, {"a": [9]})
    assert archive.made_of(folder) == dict(zip(rates, layouts.marks_of(items), strict=True))
    archive.check_made_of(items, folder)
    del encoded[:]
    drawn(tmp_path, "a", (30, 200, 40))
    with pytest.raises(InputError, match="a.png is not the image that its files in .*out are made"):
        archive.check_made_of(items, folder)
    with pytest.warns(UserWarning, match="a.png has changed since .*out was written: files are"):
        files = archive.write_archive(items, folder, rates)
    assert encoded == [("a.png", 18)]
    # A file at a rate that is not asked for any more is of the image before, too.
    assert {path.name for path in folder.glob("*.mvm")} == {"a.r18.mvm", "a.r18.r27.mvm"}
    assert files[0].read_bytes() != old[0] and files[1].read_bytes() == old[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        archive.write_archive(items, folder, rates)
    assert len(encoded) == 1


def test_an_image_that_changed_is_known_after_a_stop_too(tmp_path, encoded, monkeypatch):
    """Whenever the stop came, no file of the image before is left."""
    item = drawn(tmp_path, "a", (200, 30, 40))
    (file,) = archive.write_archive([item], tmp_path / "out", {"a": [18]})
    drawn(tmp_path, "a", (30, 200, 40))
    for name in ("write_whole", "encode"):
        with monkeypatch.context() as patch:
            patch.setattr(archive, name, lambda *arguments, **options: 1 / 0)
            with pytest.raises(ZeroDivisionError), pytest.warns(UserWarning, match="changed"):
                archive.write_archive([item], tmp_path / "out", {"a": [18]})
        assert not file.exists()


def test_an_archive_without_a_list_is_used_as_it_is(tmp_path, encoded):
    item = drawn(tmp_path, "a", (200, 30, 40))
    archive.write_archive([item], tmp_path / "out", {"a": [18]})
    (tmp_path / "out/images.json").unlink()
    drawn(tmp_path, "a", (30, 200, 40))
    archive.check_made_of([item], tmp_path / "out")
    archive.write_archive([item], tmp_path / "out", {"a": [18]})
    assert len(encoded) == 1
    (tmp_path / "out/images.json").write_text("[")
    with pytest.raises(InputError, match="images.json is damaged: delete the folder"):
        archive.write_archive([item], tmp_path / "out", {"a": [18]})


def test_images_are_of_one_kind(tmp_path, encoded):
    items = [drawn(tmp_path, "a", (9, 8, 7)), drawn(tmp_path, "b", (9, 9, 9))]
    folder, rates = tmp_path / "out", {"a": [18], "b": [18]}
    for each in (items, items[::-1]):
        with pytest.raises(InputError, match="b.png is gray and .*a.png is in colour, and no head"):
            archive.write_archive(each, folder, rates)
    assert encoded == [] and not list(folder.iterdir())
    # One that is new beside those that are there.
    archive.write_archive(items[:1], folder, rates)
    with pytest.raises(InputError, match="b.png is gray"):
        archive.write_archive(items, folder, rates)
    assert len(encoded) == 1
