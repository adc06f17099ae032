"""Files with flat areas, by the released model: what they gain and that they are exact."""

import dataclasses
import itertools
import json

import numpy as np
import one_tile
import pytest
from click.testing import CliRunner
from PIL import Image

import mvmic_codec
from mvmic_codec.bitstream import flat
from mvmic_codec.cli import main
from mvmic_codec.encoder import flat_choice
from mvmic_codec.encoder.candidate import EncodeCandidate
from mvmic_codec.encoder.flat_choice import Areas, FlatCandidates, flat_candidates_of
from mvmic_codec.errors import InputError, TruncatedError
from mvmic_codec.evaluation.metrics import psnr
from mvmic_codec.image.samples import from_array

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
DEEP = (np.where(DISC, tissue(0) * 12 - 1000, -1200)).astype(np.int16)
# Where networks alone are near the original anyway, a hard edge costs most.
INDEX = 36


def flat_of(data):
    return one_tile.read(data).flat


def without_flat(image, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr("mvmic_codec.encoder.flat_search.find", lambda planes: [])
        data = mvmic_codec.encode(image, **options)
    assert flat_of(data) is None
    return data


@pytest.mark.parametrize(
    ("image", "margin"),
    [
        (GRAY, 7),
        (COLOUR, (16, 17, 18)),
        (GRAY[:, :, None].repeat(3, 2), (7, 7, 7)),
        (DEEP, -1200),
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
    assert fields["layers"]["FLAT"] == len(flat_of(data)) > 0
    assert fields["metadata"] == {}


def ragged():
    """A soft and ragged edge costs a transform little, and its map much."""
    radius = np.hypot(ROW - 64, COLUMN - 75) + 4 * RNG.standard_normal(ROW.shape)
    inside = np.clip((60 - radius) / 6, 0, 1)
    return (16 + inside * (tissue(0) - 16)).astype(np.uint8)


@pytest.mark.parametrize(("image", "pays"), [(GRAY, True), (ragged(), False)])
def test_true_files_decide_where_the_rule_of_thumb_does_not_know(monkeypatch, image, pays):
    def cost(candidate):
        return 1e6 * (1 if candidate.flat is None else 1 - flat_choice.UNSEEN)

    monkeypatch.setattr(EncodeCandidate, "estimate_rd_cost", cost)
    data = mvmic_codec.encode(image, rate_index=0, device="cpu")
    assert (flat_of(data) is not None) == pays


def test_left_out_where_it_does_not_pay(monkeypatch):
    image = ragged()
    chosen = []

    def at(self, *arguments):
        chosen.append(real(self, *arguments))
        return chosen[-1]

    real = FlatCandidates.at
    monkeypatch.setattr(FlatCandidates, "at", at)
    data = mvmic_codec.encode(image, rate_index=0, device="cpu")
    assert [each.flat for each in itertools.chain(*chosen)] == [None]
    assert flat_of(data) is None


def always(monkeypatch):
    """Flat areas always seem to pay."""

    def cost(candidate):
        return float("inf") if candidate.encoder.seen.all() else 0.0

    monkeypatch.setattr(EncodeCandidate, "estimate_rd_cost", cost)


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


def test_a_size_that_only_a_plain_file_has(monkeypatch):
    """At the lowest rates a map may take more bytes than it saves, though it pays in quality."""
    image = np.where(DISC, 46 + RNG.integers(-3, 4, DISC.shape), 16).astype(np.uint8)
    always(monkeypatch)
    plain = without_flat(image, monkeypatch, rate_index=0, device="cpu")
    assert len(plain) < len(mvmic_codec.encode(image, rate_index=0, device="cpu"))
    assert mvmic_codec.encode(image, max_bytes=len(plain), device="cpu") == plain
    with pytest.raises(InputError, match=f"smallest file takes {len(plain)}"):
        mvmic_codec.encode(image, max_bytes=len(plain) - 1, device="cpu")


def test_a_psnr_above_what_flat_pixels_allow(monkeypatch):
    """They keep their error at every rate: a target above it is not to be bought by the rest."""
    always(monkeypatch)
    monkeypatch.setattr(Areas, "psnr", lambda self: 39.0)
    assert flat_of(mvmic_codec.encode(GRAY, psnr=38, device="cpu")) is not None
    assert flat_of(mvmic_codec.encode(GRAY, psnr=40, device="cpu")) is None


@pytest.mark.slow
def test_a_psnr_that_only_a_plain_file_has(monkeypatch):
    """Whatever the reason is for which one with flat areas does not reach it."""
    whole = one_tile.read(mvmic_codec.encode(GRAY))
    areas, black = flat.from_payload(whole.flat, whole.header), np.zeros((1, *GRAY.shape), "f4")

    def gone(self, index, device):
        options = {"flat": areas, "flat_payload": whole.flat, "device": device}
        return [EncodeCandidate(black, index, **options)]

    monkeypatch.setattr(FlatCandidates, "at", gone)
    data = mvmic_codec.encode(GRAY, psnr=40, device="cpu")
    assert flat_of(data) is None
    assert psnr(GRAY, np.asarray(mvmic_codec.decode(data, device="cpu"))) >= 40
    with pytest.raises(InputError, match="the best quality reaches 4"):
        mvmic_codec.encode(GRAY, psnr=60, device="cpu")


def test_many_white_pixels_stay_white():
    """Colours of hundreds of thousands of pixels once came to 256, and that to 0."""
    image = np.full((600, 600, 3), (16, 17, 18), np.uint8)
    square = (np.arange(600) % 20) < 16
    white = square[:, None] & square
    image[white] = 255
    samples = from_array(image)
    candidates = flat_candidates_of(samples.planes, samples)
    np.testing.assert_array_equal(candidates.areas[0].values, [[255] * 3, [16, 17, 18]])


@pytest.mark.parametrize("kind", [np.uint16, np.int8])
def test_one_value_needs_no_map(kind):
    image = np.full((64, 64), 77, kind)
    data = mvmic_codec.encode(image, rate_index=63, device="cpu")
    assert flat_of(data) is None
    assert (np.asarray(mvmic_codec.decode(data, device="cpu")) == 77).all()


def test_all_of_it_flat():
    image = np.full((100, 130), 77, np.uint8)
    data = mvmic_codec.encode(image, rate_index=63, device="cpu")
    assert (np.asarray(mvmic_codec.decode(data, device="cpu")) == 77).all()


def test_soft_edges_are_blends(monkeypatch):
    """An edge of one row of pixels between margin and tissue, as resampling leaves it."""
    cover = np.clip(60.5 - np.hypot(ROW - 64, COLUMN - 75), 0, 1)
    image = np.rint(7 + cover * (tissue(0) - 7)).astype(np.uint8)
    data = mvmic_codec.encode(image, rate_index=INDEX, device="cpu")
    areas = flat.from_payload(flat_of(data), mvmic_codec.read_header(data))
    assert set(np.unique(areas.blends)) == {0, 1, 2, 3}
    monkeypatch.setattr(
        Areas, "blended", lambda self, map: (np.zeros_like(map), self.planes.copy())
    )
    hard = mvmic_codec.encode(image, rate_index=INDEX, device="cpu")
    assert len(data) < 0.95 * len(hard)
    errors = [
        np.square(np.asarray(mvmic_codec.decode(file, device="cpu")).astype(float) - image).mean()
        for file in (data, hard)
    ]
    assert errors[0] < 1.05 * errors[1]


def test_files_of_the_first_form_are_painted_and_coded_whole():
    """What 0.5.0 wrote: without blends, and with symbols for what is hidden."""
    data = mvmic_codec.encode(GRAY, rate_index=INDEX, device="cpu")
    whole = one_tile.read(data)
    areas = flat.from_payload(whole.flat, whole.header)
    from codec import encode_planes

    planes = from_array(GRAY).planes
    old = flat.Flat(areas.colours, areas.map, None)
    file = one_tile.write(
        whole.header,
        encode_planes(planes, INDEX, device="cpu"),
        {},
        flat.to_payload(old, 8, False),
    )
    decoded = np.asarray(mvmic_codec.decode(file, device="cpu"))
    assert (decoded[areas.map > 0] == 7).all()
    assert psnr(GRAY, decoded) > 35


def test_a_map_is_not_begun_for_an_image_that_cannot_be_there(monkeypatch):
    """A few bytes may claim the map of any size, but not the rest of the image."""
    whole = one_tile.read(mvmic_codec.encode(COLOUR, rate_index=INDEX, device="cpu"))
    header = dataclasses.replace(whole.header, width=12000, height=12000)
    huge = one_tile.write(header, whole.payload, {}, whole.flat)
    monkeypatch.setattr("mvmic_codec.bitstream.flat.from_payload", None)
    with pytest.raises(TruncatedError, match="ran out"):
        mvmic_codec.decode(huge, device="cpu")
