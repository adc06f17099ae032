"""Table 2: rows of settings and detectors, what is kept, what fails, and what the summary says."""

import math
from dataclasses import asdict, astuple, replace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("torchvision")
pytest.importorskip("pycocotools")

import mvmic_codec  # noqa: E402
from mvmic_codec.errors import InputError, MvmError  # noqa: E402
from mvmic_codec.evaluation import peers  # noqa: E402
from mvmic_codec.evaluation.metrics import psnr  # noqa: E402
from mvmic_codec.model.identity import default_identity  # noqa: E402
from mvmic_codec.tasks import tables  # noqa: E402
from mvmic_codec.tasks.average_precision import detection_scores  # noqa: E402
from mvmic_codec.tasks.heads import Card, Detection, Head, make_network, save_head  # noqa: E402
from mvmic_codec.tasks.table2 import DetectionRow, Measurement, summary  # noqa: E402
from mvmic_codec.tasks.truth import GroundTruth  # noqa: E402

MAPS = {"s8": 128, "s16": 224}


def write_head(path, network, maps, seed=0):
    torch.manual_seed(seed)
    fingerprint = default_identity(False).fingerprint
    card = Card("polyps", network, fingerprint, maps, ["polyp"], 64, [0, 63], "", "", {})
    save_head(Head(card, make_network(card).eval()), path)


@pytest.fixture(scope="session")
def detectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    write_head(folder / "a.safetensors", "faster-rcnn", MAPS)
    write_head(folder / "b.safetensors", "mask-rcnn-pixels-light", {"pixels": 3})
    # Of no use here.
    write_head(folder / "c.safetensors", "fpn", {"s16": 224})
    return folder


def measurement(items, detectors, folder, rows, save=lambda: None):
    coded = tables.CodedSet(tables.image_set("drawn", items), folder, (0.5, 2.5))
    judges = tables.load_judges(detectors, False, "cpu", detect=True)
    return Measurement(coded, judges, rows, "cpu", save)


class Oracle:
    """It finds everything in some images, by their pixels, and nothing in others."""

    takes_pixels = True

    def __init__(self, head, items):
        self.card = head.card
        self.known = {np.asarray(Image.open(each.image)).tobytes(): each for each in items}

    def detect_pixels(self, planes):
        pixels = (planes * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        item = self.known.get(pixels.tobytes())
        truth = item.read() if item else None
        count = len(truth.boxes) if item else 0
        return Detection(
            truth.boxes.numpy() if item else np.zeros((0, 4), np.float32),
            np.ones(count, np.int64),
            np.full(count, 0.9, np.float32),
            truth.instances.numpy() if item else np.zeros((0, *planes.shape[1:]), np.bool_),
        )


def one_jpeg():
    """JPEG at one setting within the band."""
    jpeg = peers.peer("jpeg")
    return replace(jpeg, curves=lambda gray: [jpeg.curves(gray)[0][2:3]])


@pytest.fixture(scope="session")
def measured(items, detectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    saved, rows = [], []
    whole = measurement(items, detectors, folder, rows, lambda: saved.append(len(rows)))
    assert whole.run([peers.mvm([18], "cpu"), one_jpeg()]) == []
    return whole, folder, saved


def test_who_judges_what(measured):
    whole, _, saved = measured
    rows = whole.rows
    pixels = ("mask-rcnn-pixels-light", "b")
    assert {(row.codec, row.judge, row.head) for row in rows} == {
        ("original", *pixels),
        ("mvm", *pixels),
        ("mvm", "faster-rcnn features s8+s16", "a"),
        ("jpeg", *pixels),
    }
    for row in rows:
        assert (row.set, row.images, row.objects) == ("drawn", 2, 2)
        assert (row.mask_ap is None) == (row.head == "a") == (row.mask_ap75_se is None)
        assert (row.bpp is None) == (row.codec == "original") == (row.psnr == math.inf)
        assert row.codec != "jpeg" or 0.5 <= row.bpp <= 2.5
    # After each setting.
    assert saved[:2] == [1, 3] and saved[-1] == len(rows)


def test_a_row_is_of_the_files(measured, items):
    """Of one setting, by every step by hand."""
    whole, folder, _ = measured
    (row,) = (row for row in whole.rows if row.head == "a")
    head = next(judge.head for judge in whole.judges if judge.name == "a")
    pairs, bits, quality = [], [], []
    for item in items:
        data = (folder / f"drawn/scale1/mvm/18/{item.name}.mvm").read_bytes()
        image, features = mvmic_codec.decode(data, features=("s8", "s16"), device="cpu")
        pairs.append((asdict(head.detect(features)[0]), vars(item.read())))
        bits.append(8 * len(data) / (141 * 75))
        quality.append(psnr(np.asarray(Image.open(item.image)), np.asarray(image)))
    expected = detection_scores(pairs).boxes
    assert (row.box_ap, row.box_ap50, row.box_ap75) == tuple(asdict(expected).values())
    assert row.bpp == pytest.approx(np.mean(bits)) and row.psnr == pytest.approx(np.mean(quality))


def test_scores_and_errors_are_of_all_images_together(items, detectors, tmp_path):
    whole = measurement(items, detectors, tmp_path, [])
    judge = whole.judges[-1]
    whole.judges = [
        replace(judge, head=Oracle(judge.head, known), digest=name)
        for name, known in (("all", items), ("one", items[:1]))
    ]
    whole.run([])
    perfect, half = whole.rows
    assert (perfect.box_ap, perfect.mask_ap75, perfect.box_ap_se) == pytest.approx((1, 1, 0))
    # 51 of 101 places of recall are reached.
    assert half.box_ap == half.mask_ap50 == pytest.approx(51 / 101)
    # Of two images none, one or two with what is found.
    assert half.box_ap_se == pytest.approx(0.354, abs=0.04)


def refuse(*arguments):
    raise AssertionError("this was done before")


def test_rows_that_are_there_are_kept(measured, items, detectors, tmp_path):
    whole, folder, _ = measured
    path = tmp_path / "x.csv"
    path.write_text(tables.format_rows(DetectionRow, whole.rows))
    rows = tables.read_rows(DetectionRow, path, "")
    for ours, theirs in zip(rows, whole.rows, strict=True):
        assert astuple(ours)[:8] == astuple(theirs)[:8]
        assert ours.box_ap == pytest.approx(theirs.box_ap, rel=1e-5)
        assert (ours.bpp is None, ours.mask_ap is None) == (
            theirs.bpp is None,
            theirs.mask_ap is None,
        )
    ours = peers.mvm([18], "cpu")
    kept = [[replace(s, encode=refuse) for s in c] for c in ours.curves(False)]
    frozen = replace(ours, curves=lambda gray: kept, decode=refuse)
    again = measurement(items, detectors, folder, list(rows), refuse)
    assert again.run([frozen]) == [] and again.rows == rows
    write_head(tmp_path / "a.safetensors", "faster-rcnn", MAPS, seed=5)
    more = measurement(items, tmp_path, folder, list(rows))
    more.run([replace(ours, curves=lambda gray: kept)])
    (added,) = more.rows[len(rows) :]
    assert (added.codec, added.head) == ("mvm", "a")
    # It took the name of another head, whose rows the summary now leaves out.
    assert len(summary(more.rows, "drawn", more.judges).splitlines()) == 3
    with pytest.raises(
        InputError, match="rows of 2 images of drawn, and there are 1: name another"
    ):
        measurement(items[:1], detectors, folder, rows)


def test_a_codec_that_fails_leaves_the_others(items, detectors, tmp_path):
    def fail(image):
        raise MvmError("it takes no such image")

    jpeg = peers.peer("jpeg")
    broken = [[replace(jpeg.curves(False)[0][0], encode=fail)]]
    whole = measurement(items, detectors, tmp_path, [])
    assert whole.run([replace(jpeg, name="bad", curves=lambda gray: broken)]) == [
        "bad: it takes no such image"
    ]
    assert {row.codec for row in whole.rows} == {"original"}


def test_images_without_objects(items, detectors, tmp_path):
    for truth, message in (
        (GroundTruth(), "has no boxes and masks to compare with"),
        (
            GroundTruth(
                None, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 75, 141)
            ),
            "not defined for images without a single box",
        ),
    ):
        empty = [replace(each, read=lambda truth=truth: truth) for each in items]
        with pytest.raises(InputError, match=message):
            measurement(empty, detectors, tmp_path, []).run([])


def test_a_folder_without_detectors(tmp_path):
    write_head(tmp_path / "c.safetensors", "fpn", {"s16": 224})
    with pytest.raises(InputError, match="no detectors: .* --network mask-rcnn"):
        tables.load_judges(tmp_path, False, "cpu", detect=True)
    (tmp_path / "c.safetensors").unlink()
    write_head(tmp_path / "a.safetensors", "faster-rcnn", MAPS)
    with pytest.raises(
        InputError, match="no heads for segmentation: train some by `mvmic tasks train polyp`$"
    ):
        tables.load_judges(tmp_path, False, "cpu", detect=False)


def test_a_table_of_something_else(tmp_path):
    (tmp_path / "x.csv").write_text("set,image\n")
    with pytest.raises(InputError, match="is not a table of `mvmic tasks table2`: name another"):
        tables.read_rows(DetectionRow, tmp_path / "x.csv", "mvmic tasks table2")


def test_the_summary_is_the_mean_over_heads():
    one = DetectionRow("s", "mvm", "18", "k", "a", "a", 9, 12, 0.06, 34.0, *[0.5] * 6, *[None] * 6)
    rows = [
        one,
        replace(one, head="b", digest="b", box_ap=0.7, box_ap_se=0.1),
        replace(one, head="c", digest="c", box_ap=0.0),
        replace(one, set="t"),
    ]
    judges = [tables.Judge("k", name, name, None) for name in "ab"]
    first, row, last = summary(rows, "s", judges).splitlines()
    assert row.split()[:9] == ["mvm", "18", "k", "2", "0.0600", "34.00", "0.600", "±", "0.300"]
    assert row.split()[-3:] == ["-"] * 3 and first.split()[-1] == "AP75"
    assert last.startswith("12 objects in 9 images.")
