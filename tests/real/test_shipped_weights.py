"""The weights in the package, on images that come with scikit-image."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from slow import first_is_quick

import mvmic_codec
from mvmic_codec.evaluation.metrics import psnr


def fundus(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(data.retina()).resize(size, Image.Resampling.LANCZOS)


def deep(size: tuple[int, int]) -> Image.Image:
    """A 12-bit gray image."""
    gray = np.asarray(fundus(size).convert("L")).astype(np.uint16)
    return Image.fromarray(gray * np.uint16(16) + np.uint16(7))


@pytest.mark.parametrize("quality", first_is_quick([3, 1, 5, 8]))
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (67, 3), (65, 129), (400, 300)])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_every_size_and_mode_comes_back(mode: str, size: tuple[int, int], quality: int) -> None:
    image = deep(size) if mode == "I;16" else fundus(size).convert(mode)
    decoded = Image.open(io.BytesIO(mvmic_codec.encode(image, quality=quality)))
    assert (decoded.size, decoded.mode) == (image.size, mode)
    original, result = np.asarray(image), np.asarray(decoded)
    if min(size) > 60:
        assert psnr(original, result) > 22


@pytest.mark.slow
def test_the_largest_test_size() -> None:
    image = fundus((2400, 1900))
    decoded = mvmic_codec.decode(mvmic_codec.encode(image, quality=3))
    assert decoded.size == image.size
    assert psnr(np.asarray(image), np.asarray(decoded)) > 33


@pytest.mark.slow
def test_more_rate_is_more_bytes_and_less_error() -> None:
    image = fundus((512, 512))
    sizes, qualities = [], []
    for index in (0, 9, 18, 27, 36, 45, 54, 63):
        coded = mvmic_codec.encode(image, rate_index=index)
        sizes.append(len(coded))
        qualities.append(psnr(np.asarray(image), np.asarray(mvmic_codec.decode(coded))))
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)


def test_targets_are_met() -> None:
    image = fundus((128, 128))
    pixels = 128 * 128
    assert len(mvmic_codec.encode(image, bpp=0.2)) * 8 <= 0.2 * pixels
    assert len(mvmic_codec.encode(image, max_bytes=2000)) <= 2000
    decoded = mvmic_codec.decode(mvmic_codec.encode(image, psnr=36))
    assert psnr(np.asarray(image), np.asarray(decoded)) >= 36


def test_decoding_leaves_the_callers_random_numbers_alone() -> None:
    from mvmic_codec.model import loaded

    coded = mvmic_codec.encode(fundus((70, 70)))
    loaded.load.cache_clear()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mvmic_codec.decode(coded)
    assert torch.equal(torch.rand(3), expected)


def test_the_callers_autocast_changes_nothing() -> None:
    eight = np.asarray(fundus((200, 130)))
    deep = eight[:, :, 1].astype(np.uint16) * 257
    for image in (eight, deep):
        coded = mvmic_codec.encode(image)
        plain = np.asarray(mvmic_codec.decode(coded))
        with torch.autocast("cpu", torch.bfloat16):
            assert mvmic_codec.encode(image) == coded
            assert np.array_equal(np.asarray(mvmic_codec.decode(coded)), plain)
