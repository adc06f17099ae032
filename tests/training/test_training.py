import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvmic_codec.errors import InputError
from mvmic_codec.nets import release, transforms
from mvmic_codec.nets.model import Model, Shape
from mvmic_codec.rate import lambda_of
from mvmic_codec.training import images, loop, start

SMALL = {
    "chroma": 8,
    "near_luma": 9,
    "near_chroma": 3,
    "hyper": 8,
    "width8": 16,
    "blocks8": 1,
    "width16": 16,
    "blocks16": 1,
    "context": 16,
}


def draw(rng, height, width, channels):
    """Smooth blobs and a little noise."""
    y, x = np.mgrid[:height, :width] / 40.0
    planes = [
        128 + 60 * np.sin(x + rng.uniform(0, 6)) * np.cos(y * rng.uniform(0.5, 2)) for _ in range(3)
    ]
    planes = planes[:channels] if channels == 3 else planes[:1] * 3
    noisy = np.stack(planes, -1) + rng.normal(0, 3, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for kind, stems, channels in (
        ("cxr", [f"{p:08}_000" for p in range(12)], 1),
        ("cxr_half", ["00000001_001", "00000011_004"], 1),
        ("polyp", ["C1_a", "C1_b", "C2_c", *[f"C3_{k:03}" for k in range(34)]], 3),
    ):
        (root / kind).mkdir()
        for stem in stems:
            draw(rng, 144, 160, channels).save(root / kind / f"{stem}.png")
    return root


@pytest.fixture
def config(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "START_CROPS", 4)
    monkeypatch.setattr(loop, "START_SIZE", 128)
    path = tmp_path / "small.json"
    values = {
        "data": str(folder),
        "steps": 4,
        "batch": 2,
        "crop": 64,
        "validate_every": 2,
        "threads": 1,
        "shape": SMALL,
    }
    path.write_text(json.dumps(values))
    return path


def test_validation_is_held_out_by_patient_and_source(folder):
    split = images.load_split(folder)
    assert len(split.validation["cxr"]) == 8 and len(split.train["cxr"]) == 4
    # Patient 11 is held out, in every size.
    assert len(split.train["cxr_half"]) == 1
    # The 30 last frames of the centre are kept from training, every fourth is validated with.
    assert len(split.train["polyp"]) == 3 + 4 and len(split.validation["polyp"]) == 8


def test_a_folder_without_images_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        images.load_split(tmp_path)


def test_a_run_trains_exports_and_goes_on(config, tmp_path):
    out = tmp_path / "run"
    checkpoint = loop.train(loop.read_config(config), out)
    first = torch.load(checkpoint, weights_only=True)
    assert first["step"] == 4
    with (out / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(np.isfinite(float(row["log_loss"])) for row in rows)
    # What it exported can be trained on, and the run itself goes on where it stopped.
    assert release.model_of(out / "mvmic-1.safetensors").shape == Shape(**SMALL)
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "steps": 6}))
    second = torch.load(loop.train(loop.read_config(config), out), weights_only=True)
    assert second["step"] == 6
    with (out / "validation.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["2", "4", "6"]
    assert second["seconds"] > first["seconds"]


def test_a_run_starts_from_a_release(config, tmp_path):
    loop.train(loop.read_config(config), tmp_path / "run")
    values = json.loads(config.read_text())
    config.write_text(
        json.dumps({**values, "start": str(tmp_path / "run" / "mvmic-1.safetensors"), "steps": 2})
    )
    started = loop.read_config(config)
    split = images.load_split(Path(started.data))
    trainer = loop.prepare(started, split, torch.device("cpu"), tmp_path / "no checkpoint")
    expected = release.model_of(tmp_path / "run" / "mvmic-1.safetensors").state_dict()
    for net in (trainer.model, trainer.ema):
        for name, values in net.state_dict().items():
            assert torch.equal(values, expected[name]), name


def test_a_signal_saves_and_stops(config, tmp_path, monkeypatch):
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "steps": 10_000}))
    one_step = loop.Trainer.train_step

    def step_and_signal(self, batch):
        facts = one_step(self, batch)
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return facts

    monkeypatch.setattr(loop.Trainer, "train_step", step_and_signal)
    checkpoint = loop.train(loop.read_config(config), tmp_path / "run")
    assert torch.load(checkpoint, weights_only=True)["step"] == 3


def test_an_unknown_setting_is_refused(config):
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "stepps": 1}))
    with pytest.raises(ValueError, match="stepps"):
        loop.read_config(config)


def test_the_first_guess_is_a_codec_already():
    """Before any step: fewer bits and less error than an image of its own mean would have."""
    rng = np.random.default_rng(1)
    crops = np.stack([np.asarray(draw(rng, 128, 128, 3)).transpose(2, 0, 1) for _ in range(6)])
    planes = torch.from_numpy(crops.astype(np.float32) / 255)
    gray = torch.zeros(6, dtype=torch.bool)
    torch.manual_seed(0)
    model = Model(Shape(**SMALL)).eval()
    start.start_from_statistics(model, planes, gray)
    errors, bits = [], []
    with torch.no_grad():
        for rate in (0, 31, 63):
            out = model(planes, torch.full((6,), rate), gray)
            errors.append(float(out.error.mean()))
            bits.append(float(out.bits.mean()) / 128**2)
    assert errors[0] > errors[1] > errors[2]
    assert bits[0] < bits[1] < bits[2]
    assert errors[2] < 30 and bits[0] < 0.3


def edges(count, seed):
    """DCT coefficients [count,256] of blocks with one straight edge each, at any angle."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16] - 7.5
    angle, offset = rng.uniform(0, np.pi, (count, 1, 1)), rng.uniform(-6, 6, (count, 1, 1))
    side = np.cos(angle) * rows + np.sin(angle) * columns > offset
    blocks = torch.from_numpy(side * rng.uniform(30, 200, (count, 1, 1))).float()
    return transforms.rows_of(transforms.block_dct(blocks[:, None]))


def nonzero(luma, rotations, rate):
    """Coefficients of a block that quantisation leaves, in its best mode; mean over blocks."""
    step = torch.full_like(luma, start.theory_step(rate))
    weight = torch.full((len(luma),), lambda_of(rate) / 3)
    modes = transforms.mode_costs(luma, rotations, step, weight).argmin(1)
    out = transforms.rotate_rows(luma, modes, rotations)[:, 1:]
    return float((out.abs() > transforms.ZERO_BELOW * step[:, 1:]).float().sum(1).mean())


def test_rotations_are_orthonormal_share_the_mean_and_learn_edges():
    rotations = start.first_rotations(torch.eye(256, dtype=torch.float64))
    learned = start.learn_rotations(edges(6000, 0), torch.eye(256, dtype=torch.float64), turns=4)
    for each in (*rotations, *learned):
        assert torch.allclose(each @ each.t(), torch.eye(256), atol=1e-4)
        assert torch.allclose(each[0], torch.eye(256)[0], atol=1e-5)
    unseen = edges(1000, 1)
    alone, first, best = (nonzero(unseen, r, 30) for r in (rotations[3:4], rotations, learned))
    assert first < 0.93 * alone
    assert best < 0.93 * first


def test_border_filter_is_orthonormal_and_gains():
    """At least 0.3 dB of coding gain over the plain block transform for AR(1) with rho = 0.95."""
    lags = (torch.arange(64)[:, None] - torch.arange(64)[None]).abs().double()
    covariance = 0.95**lags
    matrix = start.best_borders([covariance])
    unit = torch.eye(16, dtype=torch.float64)
    assert torch.allclose(matrix @ matrix.t(), unit, atol=1e-9)
    half = torch.eye(8, dtype=torch.float64)
    k = torch.arange(16, dtype=torch.float64)
    dct = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / 32) * (2 / 16) ** 0.5
    dct[0] /= 2**0.5

    def gain(border):
        whole = torch.block_diag(*[dct] * 4) @ torch.block_diag(half, border, border, border, half)
        variance = (whole @ covariance @ whole.t()).diagonal()[16:32]
        return float(-10 * variance.log10().mean())

    assert gain(matrix) - gain(unit) > 0.3
