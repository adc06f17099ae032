"""Table 1: rows of files and heads, what is kept, what fails, and what the summary says."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from task_files import picture, write_item

import mvmic_codec
from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation import peers
from mvmic_codec.evaluation.metrics import psnr
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks import table1, tables
from mvmic_codec.tasks.heads import Card, Head, Prediction, make_network, save_head
from mvmic_codec.tasks.metrics import overlap
from mvmic_codec.tasks.table1 import Measurement, TaskRow

BAND = (0.5, 2.5)
COLUMNS = tuple(field.name for field in fields(TaskRow))


def card(**changes):
    fingerprint = default_identity(changes.pop("gray", False)).fingerprint
    whole = Card("polyps", "fpn", fingerprint, {"s16": 224}, ["polyp"], 6, [0, 63], "", "", {})
    return replace(whole, **changes)


def write_head(path, seed=0, **changes):
    torch.manual_seed(seed)
    made = card(**changes)
    save_head(Head(made, make_network(made).eval()), path)


@pytest.fixture(scope="session")
def heads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    for seed in range(2):
        write_head(folder / f"a-seed{seed}.safetensors", seed)
    write_head(folder / "b.safetensors", network="pixels-light", maps={"pixels": 3})
    return folder


@pytest.fixture(scope="session")
def images(items):
    return tables.image_set("drawn", items)


class Saved:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1


def measurement(images, heads, folder, rows):
    judges = tables.load_judges(heads, images.gray, "cpu", detect=False)
    coded = tables.CodedSet(images, folder, BAND)
    return Measurement(coded, judges, rows, "cpu", Saved())


def codecs():
    return [peers.mvm([18], "cpu"), peers.peer("jpeg")]


@pytest.fixture(scope="session")
def measured(images, heads, tmp_path_factory):
    """Rows, and the folder of files."""
    folder = tmp_path_factory.mktemp("files")
    rows = []
    whole = measurement(images, heads, folder, rows)
    assert whole.run(codecs(), [1.0]) == []
    return whole, folder


def test_who_judges_what(measured):
    rows = measured[0].rows
    judged = {(row.codec, row.judge, row.head) for row in rows}
    pixels = ("pixels-light", "b")
    assert judged == {
        ("original", *pixels),
        ("mvm", *pixels),
        ("mvm", "features s16", "a-seed0"),
        ("mvm", "features s16", "a-seed1"),
        ("jpeg", *pixels),
    }
    assert len({(*table1._key(row), row.digest) for row in rows}) == len(rows)
    for row in rows:
        if row.codec == "original":
            assert (row.bytes, row.bpp, row.psnr, row.ms_ssim) == (None, None, math.inf, 1.0)
        else:
            assert row.bpp == 8 * row.bytes / (141 * 75)


def test_settings_of_others_lie_in_the_band(measured, items):
    rows = measured[0].rows
    chosen = {row.setting for row in rows if row.codec == "jpeg"}
    means = {}
    for curve in peers.peer("jpeg").curves(False):
        for setting in curve:
            sizes = [len(setting.encode(Image.open(item.image))) for item in items]
            means[setting.label] = np.mean(sizes) * 8 / (141 * 75)
    assert chosen == {label for label, bpp in means.items() if BAND[0] <= bpp <= BAND[1]}
    assert min(means.values()) < BAND[0] and max(means.values()) > BAND[1]
    assert len(chosen) > 2


def test_scores_are_those_of_the_file(measured, items):
    """Of one file, by every step by hand."""
    whole, folder = measured
    data = (folder / f"drawn/scale1/mvm/18/{items[1].name}.mvm").read_bytes()
    rows = {r.head: r for r in whole.rows if (r.codec, r.image) == ("mvm", items[1].name)}
    pixels, disc = picture(1)
    image, features = mvmic_codec.decode(data, features=True, device="cpu")
    by_name = {judge.name: judge.head for judge in whole.judges}
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    masks = {
        "a-seed1": by_name["a-seed1"].predict(features)[0].mask,
        "b": by_name["b"].predict_pixels(planes).mask,
    }
    for name, mask in masks.items():
        expected = overlap(torch.from_numpy(mask), torch.from_numpy(disc.astype(np.uint8)))
        row = rows[name]
        assert (row.iou, row.miou, row.dice) == (expected.iou, expected.miou, expected.dice)
        assert row.psnr == psnr(pixels, np.asarray(image)) and row.bytes == len(data)


def refuse(*arguments):
    raise AssertionError("this was done before")


def test_rows_and_files_that_are_there_are_kept(measured, images, heads, tmp_path):
    whole, folder = measured
    rows = _read(_written(whole.rows, tmp_path / "x.csv"))
    count = len(rows)
    again = measurement(images, heads, folder, rows)
    frozen = []
    for each in codecs():
        curves = [[replace(s, encode=refuse) for s in c] for c in each.curves(False)]
        if each.name == "jpeg":
            # The settings above the band were encoded up to the first of them alone.
            curves = [[s for s in c if _is_there(folder, s)] for c in curves]
        frozen.append(replace(each, curves=lambda gray, c=curves: c, decode=refuse))
    assert again.run(frozen, [1.0]) == []
    assert len(rows) == count


def _is_there(folder, setting):
    return (folder / "drawn/scale1/jpeg" / setting.label.replace("/", "_")).is_dir()


def _read(path):
    return tables.read_rows(TaskRow, path, "mvmic tasks table1")


def _written(rows, path):
    path.write_text(tables.format_rows(TaskRow, rows))
    return path


def test_a_new_head_adds_its_rows_alone(measured, images, heads, tmp_path):
    whole, folder = measured
    write_head(tmp_path / "a-seed1.safetensors", seed=7)
    rows = list(whole.rows)
    added = measurement(images, tmp_path, folder, rows)
    added.run(codecs()[:1], [1.0])
    new = rows[len(whole.rows) :]
    assert [(row.codec, row.head) for row in new] == [("mvm", "a-seed1")] * 2
    # It took the name of another head, whose rows the summary now leaves out.
    assert "    2     1 " in table1.summary(rows, images, added.judges)


def test_a_table_comes_back(measured, tmp_path):
    rows = measured[0].rows
    again = _read(_written(rows, tmp_path / "x.csv"))
    assert len(again) == len(rows)
    for ours, theirs in zip(again, rows, strict=True):
        assert table1._key(ours) == table1._key(theirs) and ours.digest == theirs.digest
        assert ours.psnr == pytest.approx(theirs.psnr, rel=1e-5)
        assert (ours.bytes, ours.width) == (theirs.bytes, theirs.width)
        assert (ours.bpp is None) == (theirs.bpp is None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "is not a table of `mvmic tasks table1`"),
        (",".join(COLUMNS) + "\ndrawn,a,mvm\n", "line 2"),
        (",".join(COLUMNS) + "\n" + ",".join(["x"] * 17) + "\n", "line 2: "),
    ],
)
def test_files_that_are_no_table(text, message, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        _read(path)


def test_images_are_resized_and_judged_at_their_own_size(images, heads, tmp_path):
    rows = []
    one = replace(images, items=images.items[:1])
    whole = measurement(one, heads, tmp_path, rows)
    _, disc = picture(0)

    class Half:
        """It finds the disc in an image of half the size."""

        def __init__(self, head):
            self.card, self.takes_pixels = head.card, True

        def predict_pixels(self, planes):
            assert planes.shape == (3, 38, 70)
            found = Image.fromarray(disc).convert("L").resize((70, 38), Image.Resampling.BOX)
            probabilities = np.asarray(found, np.float32)[None] / 255
            return Prediction(np.zeros((38, 70), np.uint8), probabilities)

    whole.judges = [replace(each, head=Half(each.head)) for each in whole.judges[-1:]]
    whole.run([], [0.5])
    (row,) = rows
    assert (row.scale, row.width, row.height, row.codec) == (0.5, 70, 38, "original")
    assert 0.9 < row.iou < 1


def test_a_codec_that_fails_leaves_the_others(images, heads, tmp_path):
    def fail(image):
        raise MvmError("it takes no such image")

    jpeg = peers.peer("jpeg")
    broken = [[replace(jpeg.curves(False)[0][0], encode=fail)]]
    rows = []
    whole = measurement(images, heads, tmp_path, rows)
    failures = whole.run([replace(jpeg, name="bad", curves=lambda gray: broken), jpeg], [1.0])
    assert failures == ["bad at scale 1: it takes no such image"]
    assert {row.codec for row in rows} == {"original", "jpeg"}


def test_rows_are_saved_when_the_work_is_interrupted(images, heads, tmp_path):
    jpeg = peers.peer("jpeg")
    calls = []

    def decode(data):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return jpeg.decode(data)

    rows = []
    whole = measurement(images, heads, tmp_path, rows)
    saved = []
    whole.save = lambda: saved.append(len(rows))
    with pytest.raises(KeyboardInterrupt):
        whole.run([replace(jpeg, decode=decode)], [1.0])
    assert saved == [2, 3]


def test_files_of_another_image_are_not_measured(images, heads, tmp_path):
    jpeg = peers.peer("jpeg")
    tiny = Image.new("RGB", (9, 9))
    rows = []
    whole = measurement(images, heads, tmp_path, rows)
    failures = whole.run([replace(jpeg, decode=lambda data: tiny)], [1.0])
    assert len(failures) == 1 and "delete it, and it is encoded anew" in failures[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gray": True}, "takes features of gray images, and these are of a colour image"),
        ({"classes": ["a", "b"]}, "knows 2 classes, and the images have 1"),
    ],
)
def test_heads_for_something_else(changes, message, tmp_path):
    write_head(tmp_path / "x.safetensors", **changes)
    with pytest.raises(InputError, match=message):
        tables.load_judges(tmp_path, False, "cpu", detect=False)


def test_a_folder_without_heads(tmp_path):
    with pytest.raises(InputError, match="holds no heads for segmentation: train some"):
        tables.load_judges(tmp_path, False, "cpu", detect=False)


def test_gray_images_among_others(images, heads, tmp_path):
    odd = write_item(tmp_path, 5)
    Image.open(odd.image).convert("L").save(odd.image)
    mixed = replace(images, items=[*images.items, odd])
    with pytest.raises(InputError, match="is gray, and the first image of the set is not"):
        measurement(mixed, heads, tmp_path, []).run([], [1.0])


def row(image, judge, head, miou, **changes):
    whole = TaskRow(
        *("s", image, "mvm", "18", 1.0, judge, head, head, 8, 8, 4, 0.5, 30.0, 0.9),
        *(miou, miou, miou),
    )
    return replace(whole, **changes)


def test_the_summary_is_of_images_not_of_heads(images):
    """The mean over heads comes first, so that seeds do not make the error small."""
    rows = [
        row("C0_0", "features s16", "f0", 0.6),
        row("C0_0", "features s16", "f1", 0.8),
        row("C1_1", "features s16", "f0", 0.8),
        row("C1_1", "features s16", "f1", 1.0),
        row("C0_0", "pixels-light", "p0", 0.5),
        row("C1_1", "pixels-light", "p0", 0.6),
        row("C0_0", "features s16", "other", 0.0),
        row("C0_0", "features s16", "f0", 0.0, set="another"),
        # Of another folder that is called alike.
        row("C2_2", "features s16", "f0", 0.0),
    ]
    judges = [tables.Judge("", name, name, None) for name in ("f0", "f1", "p0")]
    text = table1.summary(rows, replace(images, name="s"), judges)
    lines = [line.split() for line in text.splitlines()]
    # Means 0.7 and 0.9 of two images.
    assert lines[1][-3:] == ["0.800", "±", "0.100"]
    assert lines[1][:7] == ["1", "mvm", "18", "features", "s16", "2", "2"]
    # Differences of 0.2 and 0.3.
    assert "features s16 minus pixels-light: mIoU +0.250 ± 0.050" in text
    assert "by pairs" not in text
    more = [*rows, row("C0_0", "pixels-light", "p1", 0.4), row("C1_1", "pixels-light", "p1", 0.6)]
    judges.append(tables.Judge("", "p1", "p1", None))
    text = table1.summary(more, replace(images, name="s"), judges)
    assert "; mIoU by pairs of heads +0.150 to +0.400" in text
