import io
import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from mvmic_codec import api
from mvmic_codec.cli import batch


def test_a_file_gets_its_neighbour(mvmic, gray):
    result = mvmic("encode", gray, "-q", "2")
    assert result.exit_code == 0
    target = gray.with_suffix(".mvm")
    assert api.read_header(target).rate_index == 9
    assert f"{target}: 40x30 L, {target.stat().st_size} bytes" in result.stdout
    assert not [path for path in gray.parent.iterdir() if path.suffix == ".part"]


def test_output_names_a_file_or_a_folder(mvmic, gray, tmp_path):
    assert mvmic("encode", gray, "-o", tmp_path / "other.mvm").exit_code == 0
    assert mvmic("encode", gray, "-o", tmp_path / "new").exit_code == 0
    assert (tmp_path / "other.mvm").is_file() and (tmp_path / "new" / "gray.mvm").is_file()


def test_a_folder_keeps_its_tree(mvmic, study, tmp_path):
    assert mvmic("encode", study, "-o", tmp_path / "out").exit_code == 0
    written = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("*.mvm")}
    assert written == {"a.mvm", "series/b.mvm", "series/deeper/C.mvm"}


def test_nothing_is_overwritten_without_force(mvmic, gray):
    target = gray.with_suffix(".mvm")
    target.write_bytes(b"precious")
    result = mvmic("encode", gray)
    assert result.exit_code == 1
    assert "exists; use --force" in result.stderr and result.stdout == ""
    assert target.read_bytes() == b"precious"
    assert mvmic("encode", gray, "--force").exit_code == 0
    assert target.read_bytes() != b"precious"


def test_the_input_is_never_replaced(mvmic, gray):
    scan = gray.rename(gray.with_suffix(".mvm"))
    before = scan.read_bytes()
    result = mvmic("encode", scan, "-o", scan, "--force")
    assert result.exit_code == 1 and "replace the input" in result.stderr
    assert scan.read_bytes() == before


def test_no_mvm_file_under_the_name_of_another_format(mvmic, gray):
    before = gray.read_bytes()
    result = mvmic("encode", gray, "-o", gray.with_name("b.png"), "--force")
    assert result.exit_code == 2 and "ends in .mvm, not in .png" in result.stderr
    assert mvmic("encode", gray, "-o", gray, "--force").exit_code == 2
    assert gray.read_bytes() == before and not gray.with_name("b.png").exists()


def test_a_separator_makes_a_folder(mvmic, gray, tmp_path):
    assert mvmic("encode", gray, "-o", f"{tmp_path}/v1.2/").exit_code == 0
    assert (tmp_path / "v1.2" / "gray.mvm").is_file()


def test_an_input_that_is_not_there_is_said_first(mvmic, gray, tmp_path):
    (tmp_path / "out.mvm").write_bytes(b"precious")
    result = mvmic("encode", tmp_path / "none.png", "-o", tmp_path / "out.mvm")
    assert result.exit_code == 1 and "no such file" in result.stderr
    assert "--force" not in result.stderr


def test_one_bad_input_does_not_stop_the_others(mvmic, gray, deep, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("not an image")
    missing = tmp_path / "missing.png"
    result = mvmic("encode", bad, gray, missing, deep, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"mvmic: {bad}: is not an image that Pillow can open",
        f"mvmic: {missing}: no such file or directory",
    ]
    summary = json.loads(result.stdout)
    assert [record["mode"] for record in summary["files"]] == ["L", "I;16"]
    assert [failure["input"] for failure in summary["failed"]] == [str(bad), str(missing)]
    for record in summary["files"]:
        assert record["bpp"] == pytest.approx(record["bytes"] * 8 / 1200, abs=1e-4)


def test_bad_images_are_one_sentence(mvmic, tmp_path, gray):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(gray.read_bytes()[:-60])
    empty = tmp_path / "empty.png"
    empty.touch()
    frames = tmp_path / "frames.tif"
    pages = [Image.new("L", (4, 4 + value), value) for value in (1, 2, 3)]
    pages[0].save(frames, save_all=True, append_images=pages[1:])
    for path in (damaged, empty, frames):
        result = mvmic("encode", path)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith(f"mvmic: {path}: ")
        assert not path.with_suffix(".mvm").exists()
    assert "frame 1 is 4x6" in result.stderr


def test_a_decompression_bomb_is_one_sentence(mvmic, gray, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    result = mvmic("encode", gray)
    assert result.exit_code == 1 and "--max-pixels" in result.stderr
    assert not gray.with_suffix(".mvm").exists()


@pytest.mark.filterwarnings("error")
def test_the_limit_can_be_chosen(mvmic, gray, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # brings the old limit back afterwards
    refused = mvmic("encode", gray, "--max-pixels", 40 * 30 - 2)
    assert refused.exit_code == 1 and "--max-pixels" in refused.stderr
    assert mvmic("encode", gray, "--max-pixels", 40 * 30).exit_code == 0


def test_targets(mvmic, gray, tmp_path):
    assert mvmic("encode", gray, "--bpp", "6", "-o", tmp_path / "bpp.mvm").exit_code == 0
    assert (tmp_path / "bpp.mvm").stat().st_size <= 6 * 1200 / 8
    assert mvmic("encode", gray, "--psnr", "30", "-o", tmp_path / "psnr.mvm").exit_code == 0
    decoded = np.asarray(api.decode(tmp_path / "psnr.mvm"), float)
    assert np.mean((decoded - np.asarray(Image.open(gray))) ** 2) <= 255**2 / 10**3
    result = mvmic("encode", gray, "--max-bytes", "70", "-o", tmp_path / "bytes.mvm")
    assert result.exit_code == 1 and "70 bytes cannot be met" in result.stderr
    assert not (tmp_path / "bytes.mvm").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-q", "9"),
        ("-q", "good"),
        ("--rate-index", "64"),
        ("-q", "3", "--bpp", "0.1"),
        ("--bpp", "-1"),
        ("--psnr", "nan"),
        ("--max-bytes", "0"),
        ("--rate-index", "1" * 400),
        ("--effort", "0"),
        ("--effort", "4"),
        ("--effort", "much"),
        ("--no-such-option",),
    ],
)
def test_wrong_usage_is_exit_code_2(mvmic, gray, arguments):
    inputs = (gray,) if arguments else ()
    result = mvmic("encode", *inputs, *arguments)
    assert result.exit_code == 2
    assert not gray.with_suffix(".mvm").exists()


def test_effort(mvmic, gray, tmp_path):
    files = []
    for effort in (1, 2, 3):
        target = tmp_path / f"{effort}.mvm"
        assert mvmic("encode", gray, "--effort", effort, "-o", target).exit_code == 0
        files.append(target.read_bytes())
    assert mvmic("encode", gray).exit_code == 0
    assert gray.with_suffix(".mvm").read_bytes() == files[0] and len(set(files)) == 3
    text = mvmic("encode", "-h").stdout
    assert "--effort" in text and "[default: 1; 1<=x<=3]" in text


def test_rounds_of_a_file_are_shown(mvmic, gray, monkeypatch):
    """Unless there are none, or nothing is to be said."""
    bars = []

    def progress(label, unit, *, hide, total=None):
        bar = tqdm(desc=label, unit=unit, total=total, file=io.StringIO(), disable=hide)
        if not hide:
            bars.append(bar)
        return bar

    monkeypatch.setattr(batch, "progress", progress)
    for arguments in (("--effort", 2), ("--effort", 2, "--quiet"), ()):
        assert mvmic("encode", gray, "--force", *arguments).exit_code == 0
    shown = [(bar.desc, bar.unit, bar.n) for bar in bars]
    files = ("encode", "file", 1)
    assert shown == [files, (gray.name, "round", 2), files]


def test_two_sources_of_one_target_are_refused(mvmic, gray):
    Image.open(gray).save(gray.with_suffix(".bmp"))
    result = mvmic("encode", gray.parent)
    assert result.exit_code == 1 and "would both be written" in result.stderr


def test_quiet_says_nothing(mvmic, gray):
    result = mvmic("encode", gray, "--quiet")
    assert result.exit_code == 0 and result.output == ""


def test_pages_without_a_resolution_get_none(mvmic, tmp_path):
    pages = [Image.new("L", (9, 7), value) for value in (3, 200)]
    for count in (1, 2):
        path = tmp_path / f"{count}.tif"
        pages[0].save(path, save_all=True, append_images=pages[1:count])
        assert mvmic("encode", path).exit_code == 0
        with Image.open(path.with_suffix(".mvm")) as image:
            assert image.n_frames == count and "dpi" not in image.info


def test_an_animated_png_keeps_its_text_and_its_times(mvmic, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "of a PNG")
    path = tmp_path / "a.png"
    frames = [Image.new("L", (9, 7), value) for value in (3, 200)]
    options = {"append_images": frames[1:], "pnginfo": text, "duration": [20, 40], "loop": 5}
    frames[0].save(path, save_all=True, **options)
    assert mvmic("encode", path).exit_code == 0
    with Image.open(path.with_suffix(".mvm")) as image:
        assert image.info["text"] == {"Title": "of a PNG"}
        assert (image.info["loop"], image.info["duration"]) == (5, 20)
