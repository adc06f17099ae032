"""Features of the mirror image, from a file of the image."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import mvmic_codec
from mvmic_codec.bitstream import container
from mvmic_codec.decoder import decode
from mvmic_codec.decoder.image import flat_areas
from mvmic_codec.features import mirror
from mvmic_codec.features.extract import decode_features
from mvmic_codec.model.device import full_precision

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
    """Model, coefficients and modes of a file."""
    whole = container.read(io.BytesIO(data))
    header = whole.header
    model = decode.model_of_file(header, "cpu")
    areas = flat_areas(whole, "cpu")
    with full_precision(model.device):
        latent, modes = decode.decode_symbols(
            model,
            whole.payload,
            header.rate_index,
            (header.height, header.width),
            None if areas is None else areas.hidden,
        )
        return model, model.blocks.inverse(latent, modes), modes


def linear(model, coefficients):
    with full_precision(model.device):
        return model.synthesis.linear_planes(coefficients)


def mirrored_features(data, names=MAPS):
    return mirror.decode_mirrored_features(container.read(io.BytesIO(data)), names, "cpu")


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("width", [128, 112, 101])
def test_linear_picture_of_mirrored_coefficients(monkeypatch, planes, width):
    """It is the mirror image. Where an image meets its padding, the borders of blocks differ."""
    data = mvmic_codec.encode(picture(64, width, planes), rate_index=36, device="cpu")
    model, coefficients, modes = parts_of(data)
    columns = -(-width // 16)
    seen = linear(model, coefficients)[..., : 16 * columns]
    mirrored, mirrored_modes = mirror.mirror(coefficients, modes, columns)
    assert mirrored.shape == coefficients.shape
    assert len(modes.unique()) > 1
    assert torch.equal(mirrored_modes[..., :columns], modes[..., :columns].flip(2))
    # The border filter is stored in half precision, which its two halves are rounded to apart.
    found = linear(model, mirrored)[..., : 16 * columns]
    inner = slice(None) if width == 128 else slice(8, -8)
    assert (found.flip(3) - seen)[..., inner].abs().max() < 0.5
    borders = model.synthesis.borders
    symmetric = (borders + borders.flip(0, 1)) / 2
    monkeypatch.setitem(model.synthesis._buffers, "borders", symmetric)
    seen = linear(model, coefficients)[..., : 16 * columns]
    found = linear(model, mirrored)[..., : 16 * columns]
    assert (found.flip(3) - seen)[..., inner].abs().max() < 2e-3


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
    expected = mvmic_codec.decode_features(file_of_mirror, MAPS, device="cpu")
    plain = mvmic_codec.decode_features(file, MAPS, device="cpu")
    for name in ("s16", "s8"):
        target = expected[name]
        assert view[name].shape == target.shape
        # The margin may be a column of s8 that the plain map does not have.
        columns = plain[name].shape[3]
        flipped = distance(plain[name].flip(3), target[..., -columns:])
        assert distance(view[name], target) < 0.7 * flipped, name


def distance(maps, others):
    """Root of the mean squared difference."""
    return (maps - others).square().mean().sqrt()


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
    found, found_modes = mirror.mirror(coefficients, modes, 5)
    padding = expected[..., 5:]
    assert distance(found[..., 5:], padding) < 0.6 * distance(padding, 0)
    assert torch.equal(found_modes[..., 5:], expected_modes[..., 5:])


def test_the_mirror_of_a_view_is_the_image():
    data = mvmic_codec.encode(picture(64, 128, 3), rate_index=24, device="cpu")
    _, coefficients, modes = parts_of(data)
    again = mirror.mirror(*mirror.mirror(coefficients, modes, 8), 8)
    assert torch.equal(again[0], coefficients) and torch.equal(again[1], modes)


@pytest.mark.parametrize("blocks", [80, 1])
def test_stripes_join(monkeypatch, blocks):
    data = mvmic_codec.encode(picture(400, 90, 1), rate_index=9, device="cpu")
    whole = mirrored_features(data)
    monkeypatch.setattr(decode, "STRIPE_BLOCKS", blocks)
    stripes = mirrored_features(data)
    for name in MAPS:
        assert torch.allclose(stripes[name], whole[name], rtol=1e-3, atol=1e-3)


def test_flat_areas_are_mirrored():
    image = Image.fromarray(picture(64, 150, 1))
    image.paste(0, (0, 0, 40, 64))
    data = mvmic_codec.encode(image, rate_index=24, device="cpu")
    whole = container.read(io.BytesIO(data))
    plain = decode_features(whole, ("s16",), "cpu").flat[0]
    assert plain[:, :40].all() and not plain[:, 60:].any()
    flat = mirrored_features(data, ("s16",)).flat[0]
    assert flat.shape == (64, 160)
    assert np.array_equal(flat[:, 10:], plain[:, ::-1]) and not flat[:, :10].any()
