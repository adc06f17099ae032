"""`mvmic tasks`: heads trained and tables made by commands; what goes wrong in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import mvmic_codec
from mvmic_codec.cli import main
from mvmic_codec.cli.tasks import data
from mvmic_codec.errors import InputError
from mvmic_codec.model.identity import default_identity, find_identity
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.tuned import EncoderCard, load_encoder, save_encoder
from mvmic_codec.tasks import stage2, table1, table2, table4, tables
from mvmic_codec.tasks.heads import Card, Head, digest_of, load_head, make_network, save_head

SMALL = ("--copies", 1, "--steps", 2, "--crop", 64, "--width", 6, "--rates", 18, 27)


@pytest.fixture
def mvmic():
    def run(*arguments):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        return result

    return run


def draw(folder, count=2, side=64):
    """Frames with a blob, each of another centre, and masks beside them."""
    for name in ("frames", "frames_mask"):
        (folder / name).mkdir()
    rows, columns = np.mgrid[:side, :side]
    for k in range(count):
        noise = np.random.default_rng(k).normal(0, 4, (side, side, 3))
        blob = np.hypot(rows - 25 - 9 * k, columns - 30) < 14
        pixels = 110 + np.array([70, -10, 10]) * blob[..., None] + noise
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"frames/C{k}_{k}.png")
        Image.fromarray(blob).save(folder / f"frames_mask/C{k}_{k}.png")
    return folder / "frames"


@pytest.fixture
def frames(tmp_path):
    return draw(tmp_path)


@pytest.fixture
def heads(tmp_path):
    """A head on features, and one on pixels, neither trained."""
    folder = tmp_path / "heads"
    folder.mkdir()
    fingerprint = default_identity(False).fingerprint
    for network, maps in (("fpn", {"s16": 224}), ("pixels-light", {"pixels": 3})):
        torch.manual_seed(0)
        card = Card("polyps", network, fingerprint, maps, ["polyp"], 6, [0, 27], "", "", {})
        save_head(Head(card, make_network(card).eval()), folder / f"{network}.safetensors")
    return folder


def test_a_head_is_trained(mvmic, frames, tmp_path):
    out = tmp_path / "run"
    arguments = ("tasks", "train", "polyp", "--data", frames, "--out", out, *SMALL)
    result = mvmic(*arguments, "--licence", "any use")
    assert result.exit_code == 0, result.output
    assert "on 1 image held out" in result.stdout and "Not a medical device" in result.stdout
    card = load_head(out / "features-s16-seed0.safetensors").card
    assert card.data == "frames: 1 image, scores on 1 other"
    assert card.licence == "any use" and card.rates == [18, 27]
    assert len(card.seen) == 1
    # Its own images are no test, and that is said.
    sheet = ("--head", out / "features-s16-seed0.safetensors", "-o", tmp_path / "sheet.png")
    told = mvmic("tasks", "overlays", "--data", frames, *sheet, "--rate-index", 18)
    assert "was trained on 1 of the 2 images of frames: its scores say little" in told.stderr
    assert f"IoU {card.scores['IoU']:.3f}" in result.stdout
    # One image to train on, one held out.
    assert len(list((out / "archive").glob("*.mvm"))) == 2
    refused = mvmic(*arguments)
    assert refused.exit_code == 1
    assert "licence 'any use' and not 'not stated'" in refused.stderr
    # A corrected image is not ignored, and the head that is there is not of it.
    before = {path: path.read_bytes() for path in (out / "archive").glob("*.mvm")}
    (changed,) = (path for path in before if path.name.startswith("C1_1"))
    Image.open(frames / "C1_1.png").rotate(180).save(frames / "C1_1.png")
    refused = mvmic(*arguments, "--licence", "any use")
    assert refused.exit_code == 1
    assert f"C1_1.png has changed since {out}/archive was written: files are made" in refused.stderr
    assert "images and masks" in refused.stderr and "delete features-s16.json" in refused.stderr
    assert [path for path in before if path.read_bytes() != before[path]] == [changed]


@pytest.mark.parametrize(
    ("arguments", "network", "maps", "crop", "width"),
    [
        ((), "fpn", ("s16",), 448, 96),
        (("--input", "pixels", "--width", 9), "pixels-light", (), 448, 9),
        (("--network", "mask-rcnn"), "mask-rcnn", ("s8", "s16"), None, 64),
        (
            ("--network", "faster-rcnn", "--input", "pixels", "--stem", "deep", "--crop", 64),
            *("faster-rcnn-pixels-deep", (), 64, 64),
        ),
    ],
)
def test_what_options_choose(
    arguments, network, maps, crop, width, mvmic, frames, heads, monkeypatch
):
    seen = []

    def train_head(data, archive, out, settings, *rest):
        seen.append(settings)
        return heads / "fpn.safetensors"

    monkeypatch.setattr(stage2, "train_head", train_head)
    common = ("--data", frames, "--out", frames.parent / "run", "--archive", frames)
    assert mvmic("tasks", "train", "polyp", *common, *arguments).exit_code == 0
    (settings,) = seen
    assert (settings.network, settings.maps) == (network, maps)
    assert (settings.crop, settings.width) == (crop, width)


def test_a_detector_gives_no_mask_of_the_whole_image(mvmic, frames, tmp_path):
    head = tmp_path / "x.safetensors"
    fingerprint, maps = default_identity(False).fingerprint, {"s8": 128, "s16": 224}
    card = Card("polyps", "mask-rcnn", fingerprint, maps, ["polyp"], 64, [0, 63], "", "", {})
    save_head(Head(card, make_network(card).eval()), head)
    for command in (
        ("encode", frames / "C0_0.png", "-o", tmp_path / "x.mvm", "--task", head),
        ("demo", frames / "C0_0.png", "-o", tmp_path / "x.png", "--head", head),
    ):
        refused = mvmic(*command)
        assert refused.exit_code == 1 and "the head is a detector, mask-rcnn" in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_detector_is_trained_and_makes_table2(mvmic, frames, tmp_path):
    out, table = tmp_path / "run", tmp_path / "rows.csv"
    small = ("--copies", 1, "--steps", 1, "--rates", 18, 27, "--network", "mask-rcnn")
    result = mvmic("tasks", "train", "polyp", "--data", frames, "--out", out, *small)
    assert result.exit_code == 0, result.output
    assert "mask-rcnn-features-s8-s16-seed0.safetensors: box AP 0." in result.stdout
    assert "mask AP75 0." in result.stdout and ", rates" not in result.stdout
    # One head alone: it is no use to table 1.
    arguments = ("--data", frames, "--heads", out, "--csv", table, "--codec", "mvm")
    refused = mvmic("tasks", "table1", *arguments)
    assert refused.exit_code == 1 and "holds no heads for" in refused.stderr
    result = mvmic("tasks", "table2", *arguments, "--rate-index", 18)
    assert result.exit_code == 0, result.output
    (row,) = tables.read_rows(table2.DetectionRow, table, "mvmic tasks table2")
    assert (row.codec, row.setting, row.judge) == ("mvm", "18", "mask-rcnn features s8+s16")
    assert (row.images, row.objects) == (2, 2)
    assert "2 objects in 2 images." in result.stdout
    before = table.read_bytes()
    again = mvmic("tasks", "table2", *arguments, "--rate-index", 18, "--plot", tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").width == 1400
    assert again.stdout == result.stdout and table.read_bytes() == before
    refused = mvmic("tasks", "table1", "--heads", out, "--data", frames, "--csv", table)
    assert "is not a table of `mvmic tasks table1`" in refused.stderr


def test_a_failed_codec_of_table2_shows_in_the_exit_code(mvmic, frames, heads, monkeypatch):
    monkeypatch.setattr(tables, "load_judges", lambda *arguments, detect: [])
    monkeypatch.setattr(table2.Measurement, "run", lambda self, codecs: ["x: it failed"])
    arguments = ("--data", frames, "--heads", heads, "--csv", frames.parent / "x.csv")
    result = mvmic("tasks", "table2", *arguments, "--codec", "mvm")
    assert result.exit_code == 1 and "mvmic: x: it failed" in result.stderr


def test_what_table2_cannot_use(mvmic, frames, heads, tmp_path):
    arguments = ("--data", frames, "--heads", heads, "--csv", tmp_path / "x.csv")
    result = mvmic("tasks", "table2", *arguments)
    assert result.exit_code == 1
    assert "train some by `mvmic tasks train polyp --network mask-rcnn`\n" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_heads_on_pixels_and_maps_share_an_archive(mvmic, frames, tmp_path):
    out = tmp_path / "run"
    arguments = ("tasks", "train", "polyp", "--data", frames, "--out", out, *SMALL)
    assert mvmic(*arguments, "--map", "s16", "--map", "s8", "--seed", 1).exit_code == 0
    archive = {path: path.stat().st_mtime_ns for path in (out / "archive").iterdir()}
    assert mvmic(*arguments, "--input", "pixels", "--stem", "deep").exit_code == 0
    found = sorted(path.stem for path in out.glob("*.safetensors"))
    assert found == ["features-s16-s8-seed1", "pixels-deep-seed0"]
    rcnn = (*arguments[: -len(SMALL)], "--network", "faster-rcnn", "--steps", 1, "--copies", 1)
    chosen = ("--rates", 18, 27, "--input", "pixels", "--crop", 64)
    assert mvmic(*rcnn, *chosen).exit_code == 0
    assert (out / "faster-rcnn-pixels-light-seed0.safetensors").exists()
    # An archive that is there has its copies.
    other = (*SMALL[2:], "--out", tmp_path / "other", "--archive", out / "archive")
    named = ("tasks", "train", "polyp", "--data", frames)
    assert mvmic(*named, *other, "--input", "pixels").exit_code == 0
    assert archive == {path: path.stat().st_mtime_ns for path in (out / "archive").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "pixels", "--map", "s8"), "--map goes with --input features alone"),
        (("--stem", "deep"), "--stem goes with --input pixels alone"),
        (("--network", "mask-rcnn", "--map", "s8"), "--map goes with --network segmentation"),
        (("--network", "faster-rcnn", "--width", 9), "--width goes with --network segmentation"),
        (("--rates", 40, 10), "the lowest comes first, got 40 and 10"),
        (("--crop", 100), "--crop must be a multiple of 64, got 100"),
        (("--layout", "colondb", "--masks", "x"), "--masks does not go with --layout colondb"),
        (("--archive", "x", "--encoder", "y"), "--encoder is for an archive that is written"),
        (("--archive", "x", "--copies", 2), "--copies is for an archive that is written"),
    ],
)
def test_wrong_usage_of_training(arguments, message, mvmic, frames, tmp_path):
    result = mvmic("tasks", "train", "polyp", "--data", frames, "--out", tmp_path / "x", *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "x").exists()


def test_data_that_cannot_be_used(mvmic, frames, tmp_path):
    def said(*arguments):
        result = mvmic("tasks", "train", "polyp", "--out", tmp_path / "x", *arguments)
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert not (tmp_path / "x").exists()
        return result.stderr

    (tmp_path / "empty").mkdir()
    assert "none" in said("--data", tmp_path / "none")
    assert "empty" in said("--data", frames, "--masks", tmp_path / "empty")
    assert "empty" in said("--data", tmp_path / "empty")
    assert "there is no feature map 's4'" in said("--data", frames, "--map", "s4")
    assert "at least one of them at 1/16; got s8" in said("--data", frames, "--map", "s8")
    assert "by --map s16 --map s8" in said("--data", frames, "--map", "s16,s8")
    bare = tmp_path / "bare"
    bare.mkdir()
    Image.new("RGB", (64, 64)).save(bare / "a.png")
    assert "no folder " + str(tmp_path / "bare_mask: name that of the masks by --masks") in said(
        "--data", bare
    )
    (tmp_path / "frames_mask/C0_0.png").unlink()
    assert "1 of 2 images have no mask" in said("--data", frames)


def test_masks_and_images_are_checked_before_any_image_is_encoded(
    mvmic, frames, tmp_path, monkeypatch
):
    def encode(*arguments, **options):
        raise AssertionError("an image was encoded")

    monkeypatch.setattr("mvmic_codec.tasks.archive.encode", encode)

    def said(*options):
        arguments = ("--data", frames, "--out", tmp_path / "x", *options)
        result = mvmic("tasks", "train", "polyp", *arguments)
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert not list(tmp_path.glob("x/archive/*.json"))
        return result.stderr

    mask = tmp_path / "frames_mask/C1_1.png"
    whole = mask.read_bytes()
    Image.new("L", (64, 64), 3).save(mask)
    assert "C1_1.png is no mask of one class" in said()
    mask.write_bytes(whole[:-40])
    assert "C1_1.png is damaged" in said()
    Image.new("L", (64, 60), 255).save(mask)
    assert "C1_1.png is 64x60" in said()
    mask.write_bytes(whole)
    mask = tmp_path / "frames_mask/C0_0.png"
    whole = mask.read_bytes()
    Image.new("L", (64, 64), 0).save(mask)
    assert "no image held out has one" in said("--network", "mask-rcnn")
    mask.write_bytes(whole)
    image = frames / "C1_1.png"
    Image.open(image).convert("L").save(image)
    assert "C1_1.png is gray and " in said()
    assert "C1_1.png has one channel" in said("--input", "pixels")


def test_masks_with_nothing_in_them_are_warned_of(mvmic, frames, tmp_path, monkeypatch):
    monkeypatch.setattr(stage2, "archive_of", lambda *arguments: 1 / 0)
    for path in (tmp_path / "frames_mask").iterdir():
        Image.new("L", (64, 64)).save(path)
    result = CliRunner().invoke(
        main, ["tasks", "train", "polyp", "--data", str(frames), "--out", str(tmp_path / "x")]
    )
    assert "mvmic: all masks of the images to train on are empty" in result.stderr


def test_masks_lie_beside_a_folder_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data.beside(Path("polyp"), "mask") == Path("polyp_mask")
    assert data.beside(Path("."), "mask") == tmp_path.with_name(f"{tmp_path.name}_mask")


def test_cityscapes_is_measured_on_images_that_it_is_not_trained_on(tmp_path):
    for judge, part in ((False, "train"), (True, "val")):
        with pytest.raises(InputError, match=f"there is no folder .*leftImg8bit.{part}"):
            data.read(tmp_path, None, "cityscapes", judge=judge)


def test_an_archive_that_lacks_images(mvmic, frames, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = ("--data", frames, "--out", tmp_path / "x", "--archive", tmp_path / "empty")
    result = mvmic("tasks", "train", "polyp", *arguments)
    assert result.exit_code == 1 and "have no file in" in result.stderr


def test_table1(mvmic, frames, heads, tmp_path):
    table = tmp_path / "out/rows.csv"
    arguments = ("tasks", "table1", "--data", frames, "--heads", heads, "--csv", table)
    chosen = ("--codec", "mvm", "--codec", "jpeg", "--rate-index", 36, "--band", 0.1, 2)
    chosen += ("--plot", tmp_path / "out/figure.svg")
    result = mvmic(*arguments, *chosen)
    assert result.exit_code == 0, result.output
    # The head knows rates up to 27. That is said once, not for each image.
    assert result.stderr.count("may do badly at 36") == 1 == result.stderr.count("\n")
    rows = tables.read_rows(table1.TaskRow, table, "mvmic tasks table1")
    assert {(row.codec, row.judge) for row in rows} == {
        *(("original", "pixels-light"), ("jpeg", "pixels-light")),
        *(("mvm", "pixels-light"), ("mvm", "features s16")),
    }
    assert "mvm 36, scale 1: features s16 minus pixels-light: mIoU" in result.stdout
    assert len(list((tmp_path / "out/rows-files/frames/scale1/mvm/36").glob("*.mvm"))) == 2
    figure = (tmp_path / "out/figure.svg").read_text()
    for label in ("mvm, features s16", "jpeg 4:4:4, pixels-light", "original, pixels-light"):
        assert f">{label}<" in figure
    before = table.read_text()
    assert mvmic(*arguments, *chosen).stdout == result.stdout and table.read_text() == before


def test_codecs_that_are_not_here_are_left_out_unless_named(mvmic, frames, heads, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(table1.Measurement, "run", lambda self, codecs, scales: [])
    arguments = ("--data", frames, "--heads", heads, "--csv", frames.parent / "x.csv")
    result = mvmic("tasks", "table1", *arguments)
    assert result.exit_code == 0
    assert "left out bpg: bpgenc is not on the PATH" in result.stderr
    assert "left out vvc: " in result.stderr
    result = mvmic("tasks", "table1", *arguments, "--codec", "bpg")
    assert result.exit_code == 1 and "bpgenc is not on the PATH" in result.stderr


def test_a_failed_codec_shows_in_the_exit_code(mvmic, frames, heads, monkeypatch):
    monkeypatch.setattr(table1.Measurement, "run", lambda self, codecs, scales: ["x: it failed"])
    arguments = ("--data", frames, "--heads", heads, "--csv", frames.parent / "x.csv")
    result = mvmic("tasks", "table1", *arguments, "--codec", "mvm")
    assert result.exit_code == 1 and "mvmic: x: it failed" in result.stderr


def test_what_table1_cannot_use(mvmic, frames, heads, tmp_path):
    def said(code, *arguments, data=frames, folder=heads):
        common = ("--data", data, "--heads", folder, "--csv", tmp_path / "x.csv")
        result = mvmic("tasks", "table1", *common, *arguments)
        assert result.exit_code == code
        return result.stderr

    assert "is no list of scales" in said(2, "--multiscale", "1,a")
    assert "is no list of scales" in said(2, "--multiscale", "0")
    assert "x.jpg must end in .png, .svg or .pdf" in said(2, "--plot", tmp_path / "x.jpg")
    (tmp_path / "other").mkdir()
    copied = tmp_path / "other/guide.safetensors"
    copied.write_bytes((heads / "fpn.safetensors").read_bytes())
    assert "the head fpn had part in mvm task guide" in said(1, "--codec", "mvm", "--task", copied)
    tuned = tmp_path / "other/x.tuned.safetensors"
    write_encoder(tuned, head=digest_of(load_head(copied)))
    refused = said(1, "--codec", "mvm", "--encoder", tuned)
    assert "the head fpn had part in x.tuned.safetensors, and cannot judge it" in refused
    assert "holds no heads for segmentation: train some by `mvmic tasks train polyp`\n" in said(
        1, folder=tmp_path
    )
    assert "there is no folder of heads " in said(1, folder=tmp_path / "none")
    assert "is a file: give the folder that it is in" in said(1, folder=copied)
    assert "the lower end comes first, got 0.3 and 0.03" in said(2, "--band", 0.3, 0.03)
    copied.unlink()
    assert "x.tuned.safetensors is an encoder and not a head" in said(1, folder=tuned.parent)
    for path in frames.iterdir():
        Image.open(path).convert("L").save(path)
    assert "the head takes features of colour images, and these are of a gray image" in said(1)
    (tmp_path / "x.csv").write_text("a,b\n")
    assert "is not a table of `mvmic tasks table1`" in said(1)


def test_mvm_as_it_is_told_is_one_more_codec(mvmic, frames, heads, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        table1.Measurement, "run", lambda self, codecs, scales: seen.append(codecs) or []
    )
    (tmp_path / "other").mkdir()
    task = (heads / "fpn.safetensors").rename(tmp_path / "other/guide.safetensors")
    tuned = tmp_path / "x.tuned.safetensors"
    write_encoder(tuned)
    arguments = ("--data", frames, "--heads", heads, "--csv", tmp_path / "x.csv")
    told = ("--task", task, "--encoder", tuned, "--rate-index", 27)
    result = mvmic("tasks", "table1", *arguments, "--codec", "mvm", *told)
    assert result.exit_code == 0, result.output
    (codecs,) = seen
    assert [codec.name for codec in codecs] == [
        "mvm",
        f"mvm task guide {digest_of(load_head(task))[:8]}",
        f"mvm x {load_encoder(tuned).digest[:8]}",
    ]
    assert all(codec.features for codec in codecs)
    image = Image.open(frames / "C0_0.png")
    files = [codec.curves(False)[0][0].encode(image) for codec in codecs]
    assert len(set(files)) == 3
    assert len({mvmic_codec.read_header(file).fingerprint for file in files}) == 1


def write_encoder(path, head=""):
    """An encoder of the installed model, changed a little."""
    identity, weights = find_identity(bytes.fromhex(default_identity(False).fingerprint))
    model = model_of(weights)
    with torch.no_grad():
        model.analysis.leave.bias.add_(1.0)
    save_encoder(model, EncoderCard(identity.fingerprint, 0.25, [0, 63], "", "", "", head), path)


def street(folder, count=2, side=64):
    """Scenes with sky above and road below, each of a sequence of its own, and labels."""
    for name in ("street", "street_label"):
        (folder / name).mkdir()
    for k in range(count):
        labels = np.full((side, side), 3, np.uint8)
        labels[: 20 + 9 * k] = 0
        noise = np.random.default_rng(k).normal(0, 4, (side, side, 3))
        pixels = np.where(labels[..., None] > 0, 60, 190) + noise
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"street/S{k}_1.png")
        Image.fromarray(labels).save(folder / f"street_label/S{k}_1.png")
    return folder / "street"


def test_street_scenes_from_training_to_table4(mvmic, tmp_path):
    scenes, out, table = street(tmp_path), tmp_path / "run", tmp_path / "rows.csv"
    small = ("--copies", 1, "--steps", 1, "--crop", 64, "--rates", 18, 27)
    result = mvmic("tasks", "train", "street", "--data", scenes, "--out", out, *small)
    assert result.exit_code == 0, result.output
    assert "erfnet-features-s8-s16-seed0.safetensors: mIoU 0." in result.stdout
    card = load_head(out / "erfnet-features-s8-s16-seed0.safetensors").card
    assert (card.task, len(card.classes), card.classes[0]) == ("street scenes", 11, "sky")
    assert sorted(card.maps) == ["s16", "s8"] and "accuracy" in card.scores
    write_encoder(tmp_path / "x.tuned.safetensors")
    arguments = ("--data", scenes, "--heads", out, "--csv", table, "--rate-index", 18)
    arguments += ("--encoder", tmp_path / "x.tuned.safetensors", "--plot", tmp_path / "x.png")
    result = mvmic("tasks", "table4", *arguments)
    assert result.exit_code == 0, result.output
    rows = tables.read_rows(table4.EncoderRow, table, "mvmic tasks table4")
    digits = load_encoder(tmp_path / "x.tuned.safetensors").digest[:8]
    assert [(row.encoder, row.lambda2, row.images) for row in rows] == [
        *(("released", None, 2), (f"x {digits}", 0.25, 2)),
    ]
    assert "erfnet features s" in result.stdout and "lambda2 0 is the control" in result.stdout
    assert Image.open(tmp_path / "x.png").width == 1400
    assert "was trained on 1 of the 2 images of street" in result.stderr
    before = table.read_bytes()
    assert mvmic("tasks", "table4", *arguments).exit_code == 0 and table.read_bytes() == before


@pytest.mark.slow
def test_street_scenes_on_pixels(mvmic, tmp_path):
    scenes, out = street(tmp_path), tmp_path / "run"
    small = ("--copies", 1, "--steps", 1, "--crop", 64, "--rates", 18, 27, "--input", "pixels")
    result = mvmic("tasks", "train", "street", "--data", scenes, "--out", out, *small)
    assert result.exit_code == 0, result.output
    head = load_head(out / "erfnet-pixels-seed0.safetensors")
    assert head.takes_pixels and "mIoU, originals" in head.card.scores
    wrong = mvmic("tasks", "train", "street", "--data", scenes, "--out", out, *small, "--map", "s8")
    assert wrong.exit_code == 2 and "--map goes with --input features alone" in wrong.stderr


@pytest.mark.parametrize("name", ["fpn", "pixels-light"])
def test_a_sheet_of_overlays(name, mvmic, frames, heads, tmp_path):
    out = tmp_path / "out/sheet.png"
    arguments = ("tasks", "overlays", "--data", frames, "--head", heads / f"{name}.safetensors")
    result = mvmic(*arguments, "-o", out, "--rate-index", 18)
    assert result.exit_code == 0, result.output
    assert "2 images at rate index 18: IoU 0." in result.stdout
    assert "Not a medical device" in result.stdout
    # One best and one worst image, square.
    assert Image.open(out).size == (960, 504)
    refused = mvmic(*arguments, "-o", out)
    assert refused.exit_code == 1 and "--force" in refused.stderr
    wrong = mvmic(*arguments, "-o", tmp_path / "sheet.jpg")
    assert wrong.exit_code == 2 and "sheet.jpg must end in .png" in wrong.stderr
