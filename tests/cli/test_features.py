"""`mvmic features`: feature maps of files and folders, as files."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.numpy import load_file

import mvmic_codec
from mvmic_codec.cli import main

GOLDEN = Path(__file__).parents[2] / "formats/golden"
FILE = GOLDEN / "flat-blends-colour.mvm"


@pytest.fixture
def mvmic():
    def run(*arguments, **options):
        result = CliRunner().invoke(main, [*map(str, arguments)], **options)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


def test_safetensors_hold_the_maps_and_say_what_they_are(mvmic, tmp_path):
    out = tmp_path / "x.safetensors"
    result = mvmic("features", FILE, "-o", out, "--map", "s16", "--map", "s8")
    assert result.exit_code == 0 and "s16 1x224x" in result.stdout
    features = mvmic_codec.decode_features(FILE, ("s16", "s8"))
    arrays = load_file(out)
    assert sorted(arrays) == ["flat", "s16", "s8"]
    assert np.array_equal(arrays["s8"], features["s8"].numpy())
    assert np.array_equal(arrays["flat"] > 0, features.flat) and features.flat.any()
    with safe_open(out, "numpy") as file:
        described = json.loads(file.metadata()["features"])
    header = mvmic_codec.read_header(FILE)
    assert described == {
        "height": header.height,
        "width": header.width,
        "rate_index": header.rate_index,
        "model": header.fingerprint.hex(),
        "strides": {"s16": 16, "s8": 8},
    }


def test_npz_holds_the_same(mvmic, tmp_path):
    out = tmp_path / "x.npz"
    assert mvmic("features", FILE, "-o", out, "--quiet").output == ""
    with np.load(out) as arrays:
        assert sorted(arrays) == ["features", "flat", "s16"]
        assert np.array_equal(arrays["s16"], mvmic_codec.decode_features(FILE)["s16"].numpy())
        assert json.loads(str(arrays["features"]))["strides"] == {"s16": 16}


def test_folders_keep_their_tree_and_failures_leave_nothing(mvmic, tmp_path):
    (tmp_path / "in/deeper").mkdir(parents=True)
    (tmp_path / "in/a.mvm").write_bytes(FILE.read_bytes())
    (tmp_path / "in/deeper/b.mvm").write_bytes(FILE.read_bytes()[:-9])
    (tmp_path / "in/notes.txt").write_text("none")
    result = mvmic("features", tmp_path / "in", "-o", tmp_path / "out", "--to", "npz")
    assert result.exit_code == 1
    assert [
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")
    ] == ["a.npz"]
    assert "b.mvm" in result.stderr and "notes.txt" in result.stderr
    assert (
        "exists; use --force"
        in mvmic("features", tmp_path / "in", "-o", tmp_path / "out", "--to", "npz").stderr
    )


def test_pipes(mvmic):
    result = mvmic("features", "-", "-o", "-", "--to", "npz", input=FILE.read_bytes())
    assert result.exit_code == 0
    with np.load(io.BytesIO(result.stdout_bytes)) as arrays:
        assert "s16" in arrays
    assert "s16 1x224x" in result.stderr


def test_wrong_usage(mvmic, tmp_path):
    assert "there is no feature map 's4'" in mvmic("features", FILE, "--map", "s4").stderr
    result = mvmic("features", FILE, "-o", tmp_path / "x.png")
    assert result.exit_code == 2 and "no format for features" in result.stderr
    assert "by --map s16 --map s8" in mvmic("features", FILE, "--map", "s16,s8").stderr
    assert not list(tmp_path.iterdir())


def test_one_file_does_not_hold_the_maps_of_many_images(mvmic, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mvm").write_bytes(FILE.read_bytes())
    for many in ((tmp_path / "in",), (FILE, tmp_path / "in/a.mvm")):
        result = mvmic("features", *many, "-o", tmp_path / "one.npz")
        assert result.exit_code == 2 and "-o, and --to npz" in result.stderr
        assert not (tmp_path / "one.npz").exists()
    # A folder that is there, or is named as one, is meant.
    (tmp_path / "x.npz").mkdir()
    for folder in ("x.npz", "y.npz/"):
        result = mvmic("features", tmp_path / "in", "-o", f"{tmp_path}/{folder}", "--to", "npz")
        assert result.exit_code == 0 and (tmp_path / folder / "a.npz").is_file()
