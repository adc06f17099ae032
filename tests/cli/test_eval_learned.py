"""Models of CompressAI: trained for some steps, then measured by the command."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from slow import first_is_quick

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation import learned
from mvmic_codec.evaluation.codec import LEARNED
from mvmic_codec.evaluation.rows import read_rows

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training" / "learned_peer.py"


@pytest.fixture
def compressai():
    pytest.importorskip("compressai", reason="CompressAI is not installed; benchmarks/README.md")


@pytest.fixture
def scans(tmp_path):
    """A folder of training images, of which one is for validation, in colour and of odd sides."""
    folder = tmp_path / "data" / "polyp"
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:71, 0:83]
    for k, name in enumerate(("a.png", "b.png", "C3_c.png")):
        waves = [128 + 90 * np.sin(x / (5 + k + c) + y / 9) for c in range(3)]
        Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(folder / name)
    Image.fromarray(waves[0].astype(np.uint8)).save(folder / "C3_gray.png")
    return folder


def train(scans, out, name, *more):
    command = [sys.executable, SCRIPT, name, out, "--data", scans.parent, "--crop", "64", *more]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("compressai")
@pytest.mark.parametrize("name", first_is_quick(LEARNED))
def test_from_training_to_rows(mvmic, scans, tmp_path, name):
    out, table = tmp_path / "peers", tmp_path / "rows.csv"
    first = train(scans, out, name, "--minutes", "0.02", "--price", "0.1")
    start = out / f"{name}-0.1000.pt"
    train(scans, out, name, "--minutes", "0.001", "--price", "0.002", "--start", start)
    # Minutes count from the first step, which may take long on a slow machine.
    spent = torch.load(start, weights_only=True)["seconds"] / 60
    again = train(scans, out, name, "--minutes", str(spent + 0.001), "--price", "0.1")
    steps = [int(text.split(": ")[1].split()[0]) for text in (first, again)]
    assert steps[1] > steps[0] > 0, "the second run went on"
    result = mvmic("eval", scans, "--codec", name, "--learned", out, "--csv", table, "--memory")
    assert result.exit_code == 0, result.output
    rows = read_rows(table)
    assert {row.image for row in rows} == {"a.png", "b.png", "C3_c.png", "C3_gray.png"}
    assert [row.setting for row in rows[:2]] == ["0.0020", "0.1000"]
    assert {row.channels for row in rows if row.image == "C3_gray.png"} == {1}
    assert all(row.bytes > 9 and row.psnr > 5 for row in rows)


@pytest.mark.usefixtures("compressai")
@pytest.mark.parametrize("name", ["bmshj2018-hyperprior", "mbt2018-mean"])
def test_files_decode_to_what_the_model_means(tmp_path, name):
    """Coded bytes give what the model gives when it rounds without coding."""
    torch.manual_seed(0)
    model = learned.make(name)
    torch.save({"model": model.state_dict()}, learned.weights_path(tmp_path, name, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    codec = learned.learned(name, tmp_path)
    (setting,) = codec.curves(False)[0]
    decoded = np.asarray(codec.decode(setting.encode(Image.fromarray(pixels))))
    with torch.inference_mode():
        planes = torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255))[None]
        expected = model.eval()(planes)["x_hat"][0].clamp(0, 1) * 255
    assert np.abs(decoded.transpose(2, 0, 1) - expected.numpy()).max() < 1


@pytest.mark.usefixtures("compressai")
def test_weights_that_do_not_fit(tmp_path):
    torch.save({"model": {}}, learned.weights_path(tmp_path, "mbt2018-mean", 0.013))
    with pytest.raises(InputError, match="mbt2018-mean-0.0130.pt holds no weights"):
        learned.learned("mbt2018-mean", tmp_path)


@pytest.mark.parametrize("name", LEARNED)
def test_without_weights_there_is_one_sentence(mvmic, scans, tmp_path, name):
    for options, said in (((), "--learned"), (("--learned", tmp_path), "holds no weights")):
        result = mvmic("eval", scans, "--codec", name, *options)
        assert result.exit_code == 1 and said in result.stderr
        assert result.stderr.count("\n") == 1
