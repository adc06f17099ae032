"""Features of the mirror image, from a file of the image."""

import io

import numpy as np
import one_tile
import pytest
from PIL import Image

import mvmic_codec
from mvmic_codec.decoder import decode, reconstruct
from mvmic_codec.decoder.stripes import coefficients_of
from mvmic_codec.decoder.tiles import only_tile, overlays_of
from mvmic_codec.features import mirror
from mvmic_codec.features.extract import decode_features
from mvmic_codec.model.arrays import read_arrays, synthesis_arrays
from mvmic_codec.model.definition import PLANE_BITS
from mvmic_codec.model.identity import find_identity
from mvmic_codec.model.synthnet import Linear
from mvmic_codec.model.team import Team

MAPS = ("coefficients", "s16", "s8")


def picture(height, width, planes, seed=0):
    """Slanted waves, a disc and noise: nothing that looks alike when mirrored."""
    rows, columns = np.mgrid[:height, :width]
    waves = 120 + 50 * np.sin(rows / 9 + columns / 23) + columns / 6
    disc = 40 * (np.hypot(rows - height / 3, columns - width / 4) < height / 5)
    noise = np.random.default_rng(seed).normal(0, 5, (height, width, planes))
    samples = np.clip((waves + disc)[..., None] + noise, 0, 255).astype(np.uint8)
    return samples[..., 0] if planes == 1 else samples


def parts_of(data):
    """Synthesis, coefficients [h,w,256P] and modes [h,w] of a file."""
    whole = one_tile.read(io.BytesIO(data))
    header, areas = whole.header, overlays_of(whole, whole.header).flat
    model = decode.model_of_file(header)
    latent, modes = decode.decode_symbols(
        model,
        whole.payload,
        header.rate_index,
        (header.height, header.width),
        None if areas is None else areas.hidden,
    )
    with Team() as team:
        return model.synthesis, coefficients_of(model.synthesis, team, latent, modes), modes


def linear(layer, coefficients):
    """The linear picture [P,16h,16w], in 2^-12."""
    height, width, channels = coefficients.shape
    rows = np.empty((channels // 256, 16 * height, 16 * width), np.int16)
    planes = np.empty(rows.shape, np.int32)
    layer.rows(coefficients, rows, 0, height)
    layer.columns(rows, planes, 0, height + 1)
    return planes


def mirrored_features(data, names=MAPS):
    whole = one_tile.read(io.BytesIO(data))
    return mirror.decode_mirrored_features(whole.header, only_tile(whole), names)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("width", [128, 112, 101])
def test_linear_picture_of_mirrored_coefficients(planes, width):
    """It is the mirror image. Where an image meets its padding, the borders of blocks differ."""
    data = mvmic_codec.encode(picture(64, width, planes), rate_index=36, device="cpu")
    net, coefficients, modes = parts_of(data)
    columns = -(-width // 16)
    mirrored = mirror.mirror(coefficients, columns)
    mirrored_modes = mirror.mirror_modes(modes, columns)
    assert mirrored.shape == coefficients.shape and mirrored_modes.shape == modes.shape
    assert len(np.unique(modes)) > 1
    assert np.array_equal(mirrored_modes[:, :columns], modes[:, :columns][:, ::-1])
    inner = slice(None) if width == 128 else slice(8, -8)

    def seen_and_found(layer):
        pictures = (linear(layer, each) for each in (coefficients, mirrored))
        seen, found = (each[..., : 16 * columns] for each in pictures)
        return seen[..., inner], found[..., ::-1][..., inner]

    # The border filter was trained in half precision: its two halves were rounded apart.
    seen, found = seen_and_found(net.linear)
    assert np.ptp(seen) > 100 * 2**PLANE_BITS
    assert np.abs(found - seen).max() < 0.25 * 2**PLANE_BITS
    fingerprint = mvmic_codec.read_header(data).fingerprint
    arrays = synthesis_arrays(read_arrays(*find_identity(fingerprint)))
    borders = arrays["borders"].astype(np.int32)
    symmetric = ((borders + borders[::-1, ::-1]) // 2).astype(np.int16)
    seen, found = seen_and_found(Linear(arrays["dct"], symmetric, net.path))
    assert np.array_equal(found, seen)


@pytest.mark.parametrize(
    ("planes", "width"),
    [
        pytest.param(1, 192, marks=pytest.mark.slow),
        (3, 208),
        pytest.param(3, 192, marks=pytest.mark.slow),
        pytest.param(1, 197, marks=pytest.mark.slow),
        (3, 197),
    ],
)
def test_view_is_nearer_to_the_file_of_the_mirror_image_than_flipped_maps(planes, width):
    image = picture(128, width, planes)
    margin = mirror.margin_of(width)
    sides = ((0, 0), (margin, 0), (0, 0))[: image.ndim]
    other = np.pad(image[:, ::-1], sides, mode="edge")
    file, file_of_mirror = (
        mvmic_codec.encode(each, rate_index=24, device="cpu") for each in (image, other)
    )
    view = mirrored_features(file)
    assert view.size == other.shape[:2]
    view = view.numpy()
    expected, plain = (
        mvmic_codec.decode_features(each, MAPS, device="cpu").numpy()
        for each in (file_of_mirror, file)
    )
    for name in ("s16", "s8"):
        target = expected[name]
        assert view[name].shape == target.shape
        # The margin may be a column of s8 that the plain map does not have.
        columns = plain[name].shape[3]
        flipped = distance(plain[name][..., ::-1], target[..., -columns:])
        assert distance(view[name], target) < 0.7 * flipped, name


def distance(maps, others):
    """Root of the mean squared difference."""
    return np.sqrt(np.square(np.subtract(maps, others, dtype=np.float64)).mean())


@pytest.mark.parametrize("planes", [1, 3])
def test_padding_is_about_what_decoding_makes(planes):
    """Where an image is smooth: decoding guesses what goes on beyond the last block."""
    rows, columns = np.mgrid[:64, :80]
    noise = np.random.default_rng(1).normal(0, 4, (64, 80, planes))
    image = (60 + rows * 1.5 + columns / 2)[..., None] + noise
    image = image.astype(np.uint8).squeeze()
    files = [
        mvmic_codec.encode(each, rate_index=24, device="cpu") for each in (image, image[:, ::-1])
    ]
    (_, coefficients, modes), (_, expected, expected_modes) = map(parts_of, files)
    found, found_modes = mirror.mirror(coefficients, 5), mirror.mirror_modes(modes, 5)
    padding = expected[:, 5:]
    assert distance(found[:, 5:], padding) < 0.6 * distance(padding, 0)
    assert np.array_equal(found_modes[:, 5:], expected_modes[:, 5:])


def test_the_mirror_of_a_view_is_the_image():
    data = mvmic_codec.encode(picture(64, 128, 3), rate_index=24, device="cpu")
    _, coefficients, modes = parts_of(data)
    assert np.array_equal(mirror.mirror(mirror.mirror(coefficients, 8), 8), coefficients)
    assert np.array_equal(mirror.mirror_modes(mirror.mirror_modes(modes, 8), 8), modes)


def test_the_lowest_coefficient_has_a_mirror():
    """-32768 has no positive counterpart in 16 bits."""
    coefficients = np.full((1, 2, 256), -(2**15), np.int16)
    found = mirror.mirror(coefficients, 2)
    assert np.array_equal(found[0, 0, :3], [-(2**15) + 1, 2**15 - 1, -(2**15) + 1])


@pytest.mark.parametrize(
    ("stripe", "band", "threads"), [(80, 512, 1), (1, 512, 2), (2048, 2, 1), (20, 4, 3)]
)
def test_stripes_bands_and_threads_change_nothing(monkeypatch, stripe, band, threads):
    data = mvmic_codec.encode(picture(300, 330, 1), rate_index=9, device="cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole = mirrored_features(data).numpy()
    monkeypatch.setattr(reconstruct, "STRIPE_BLOCKS", stripe)
    monkeypatch.setattr(reconstruct, "BAND_BLOCKS", band)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    found = mirrored_features(data).numpy()
    assert list(found) == list(MAPS)
    assert all(np.array_equal(found[name], whole[name]) for name in MAPS)


def test_flat_areas_are_mirrored():
    image = Image.fromarray(picture(64, 150, 1))
    image.paste(0, (0, 0, 40, 64))
    data = mvmic_codec.encode(image, rate_index=24, device="cpu")
    whole = one_tile.read(io.BytesIO(data))
    plain = decode_features(whole.header, only_tile(whole), ("s16",), "cpu").flat[0]
    assert plain[:, :40].all() and not plain[:, 60:].any()
    flat = mirrored_features(data, ("s16",)).flat[0]
    assert flat.shape == (64, 160)
    assert np.array_equal(flat[:, 10:], plain[:, ::-1]) and not flat[:, :10].any()
