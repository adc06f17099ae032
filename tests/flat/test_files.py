"""Files with flat areas, by the released model: what they gain and that they are exact."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import mvmic_codec
from mvmic_codec import container
from mvmic_codec.cli import main
from mvmic_codec.evaluation.metrics import psnr

RNG = np.random.default_rng(4)
ROW, COLUMN = np.mgrid[0:128, 0:150]
DISC = (ROW - 64) ** 2 + (COLUMN - 75) ** 2 < 60**2


def tissue(scale):
    soft = 130 + 50 * np.sin(ROW / 31) * np.cos(COLUMN / 41 + scale)
    return np.clip(soft + 3 * RNG.standard_normal(ROW.shape), 0, 255)


def margined(*values):
    planes = [np.where(DISC, tissue(k), value) for k, value in enumerate(values)]
    return np.stack(planes, 2).astype(np.uint8).squeeze()


GRAY = margined(7)
COLOUR = margined(16, 17, 18)
DEEP = (np.where(DISC, tissue(0) * 12 - 1000, -2000)).astype(np.int16)
# Where networks alone are near the original anyway, a hard edge costs most.
INDEX = 36


def flat_of(data):
    return container.read(data).flat


def without_flat(image, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr("mvmic_codec.flat_search.find", lambda planes: None)
        data = mvmic_codec.encode(image, **options)
    assert flat_of(data) is None
    return data


@pytest.mark.parametrize(
    ("image", "margin"),
    [
        (GRAY, 7),
        (COLOUR, (16, 17, 18)),
        (GRAY[:, :, None].repeat(3, 2), (7, 7, 7)),
        (DEEP, -2000),
        (DEEP.clip(0).astype(np.uint16) + 500, 500),
    ],
    ids=["gray", "colour", "equal channels", "signed", "deep"],
)
def test_smaller_better_and_exact(image, margin, monkeypatch):
    data = mvmic_codec.encode(image, rate_index=INDEX, device="cpu")
    plain = without_flat(image, monkeypatch, rate_index=INDEX, device="cpu")
    assert flat_of(data) is not None
    assert len(data) < 0.9 * len(plain)
    one, other = (np.asarray(mvmic_codec.decode(file, device="cpu")) for file in (data, plain))
    assert (one[~DISC] == margin).all()
    assert one.shape == image.shape
    errors = [np.square(decoded.astype(float) - image).mean() for decoded in (one, other)]
    assert errors[0] < errors[1]


def test_by_way_of_pillow(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "scan.mvm", rate_index=INDEX)
    with Image.open(tmp_path / "scan.mvm") as scan:
        assert (np.asarray(scan)[~DISC] == (16, 17, 18)).all()
    data = (tmp_path / "scan.mvm").read_bytes()
    assert data == mvmic_codec.encode(COLOUR, rate_index=INDEX)
    described = CliRunner().invoke(main, ["info", str(tmp_path / "scan.mvm"), "--json"])
    (fields,) = json.loads(described.stdout)
    assert fields["flat_bytes"] == len(flat_of(data)) > 0
    assert fields["metadata"] == {}


def test_left_out_where_it_does_not_pay(monkeypatch):
    """A soft and ragged edge costs a transform little, and its map much."""
    radius = np.hypot(ROW - 64, COLUMN - 75) + 4 * RNG.standard_normal(ROW.shape)
    inside = np.clip((60 - radius) / 6, 0, 1)
    image = (16 + inside * (tissue(0) - 16)).astype(np.uint8)
    monkeypatch.setattr("mvmic_codec.api._FlatCandidate.pays", _recorded(monkeypatch))
    data = mvmic_codec.encode(image, rate_index=0, device="cpu")
    assert ASKED == [False]
    assert flat_of(data) is None


ASKED = []


def _recorded(monkeypatch):
    from mvmic_codec.api import _FlatCandidate

    real = _FlatCandidate.pays

    def pays(self, *arguments):
        ASKED.append(real(self, *arguments))
        return ASKED[-1]

    return pays


def test_asking_for_a_psnr_counts_the_flat_pixels():
    data = mvmic_codec.encode(GRAY, psnr=40, device="cpu")
    assert flat_of(data) is not None
    assert psnr(GRAY, np.asarray(mvmic_codec.decode(data, device="cpu"))) >= 40
    index = mvmic_codec.read_header(data).rate_index
    below = mvmic_codec.encode(GRAY, rate_index=index - 1, device="cpu")
    assert psnr(GRAY, np.asarray(mvmic_codec.decode(below, device="cpu"))) < 40


def test_asking_for_a_size_counts_the_map():
    data = mvmic_codec.encode(GRAY, max_bytes=700, device="cpu")
    assert flat_of(data) is not None
    assert len(data) <= 700
    index = mvmic_codec.read_header(data).rate_index
    assert len(mvmic_codec.encode(GRAY, rate_index=index + 1, device="cpu")) > 700


def test_all_of_it_flat():
    image = np.full((100, 130), 77, np.uint8)
    data = mvmic_codec.encode(image, rate_index=63, device="cpu")
    assert (np.asarray(mvmic_codec.decode(data, device="cpu")) == 77).all()
