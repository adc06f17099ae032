import math

import numpy as np
import pytest

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.metrics import luma_psnr, max_error, ms_ssim, peak_of, psnr


def test_psnr_by_hand():
    reference = np.zeros((10, 10, 3), np.uint8)
    decoded = reference.copy()
    decoded[0, 0, 0] = 30  # mean squared error 900 / 300 = 3
    assert psnr(reference, decoded) == pytest.approx(10 * math.log10(255**2 / 3))
    assert psnr(decoded, reference) == psnr(reference, decoded)
    assert psnr(reference, reference) == math.inf
    assert max_error(reference, decoded) == 30


def test_luma_psnr_by_hand():
    reference = np.zeros((10, 10, 3), np.uint8)
    decoded = reference.copy()
    decoded[0, 0] = 10, 0, 20  # luma 2.99 + 2.28 = 5.27
    assert luma_psnr(reference, decoded) == pytest.approx(10 * math.log10(255**2 / 0.277729))
    assert luma_psnr(reference, reference) == math.inf
    deep = np.array([[1000, 3000]], np.uint16)
    assert luma_psnr(deep, deep + np.uint16(2)) == psnr(deep, deep + np.uint16(2))


def test_the_peak_of_16_bits_is_the_range_of_the_image():
    reference = np.array([[1000, 3000]], np.uint16)
    assert peak_of(reference) == 2000
    assert peak_of(np.full((2, 2), 9, np.uint16)) == 1
    decoded = np.array([[1002, 3000]], np.uint16)
    assert psnr(reference, decoded) == pytest.approx(10 * math.log10(2000**2 / 2))
    assert max_error(np.array([[0]], np.uint16), np.array([[65535]], np.uint16)) == 65535


@pytest.mark.parametrize(
    "shape", [(200, 170), (180, 200, 3), (176, 175), (20, 300), (1, 1), (3, 1, 3)]
)
def test_ms_ssim_takes_every_size(shape):
    rng = np.random.default_rng(1)
    reference = rng.integers(60, 200, shape).astype(np.uint8)
    noisy = np.clip(reference + rng.normal(0, 20, shape), 0, 255).astype(np.uint8)
    # Variances in single precision cost up to 5e-4 where an image is flat.
    assert ms_ssim(reference, reference) == pytest.approx(1, abs=1e-3)
    assert 0 <= ms_ssim(reference, noisy) < 1


def test_ms_ssim_of_16_bits_depends_on_the_range_alone():
    rng = np.random.default_rng(2)
    reference = rng.integers(0, 1000, (180, 176)).astype(np.uint16)
    reference[0, :2] = 0, 1000
    noisy = (reference + rng.integers(0, 200, reference.shape)).astype(np.uint16)
    one = ms_ssim(reference, noisy)
    other = ms_ssim(reference + np.uint16(5000), noisy + np.uint16(5000))
    assert one == pytest.approx(other, abs=1e-5) and one < 0.999


def test_different_images_cannot_be_compared():
    with pytest.raises(InputError, match="cannot be compared"):
        psnr(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match="cannot be compared"):
        max_error(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint16))
