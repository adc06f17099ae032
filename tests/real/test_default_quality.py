"""The default quality keeps lines as fine and faint as the small vessels of a fundus photograph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

import mvmic_codec

Pixels = npt.NDArray[np.uint8]

SIDE = 256

# Levels by which a line stands out from the ground, as a small vessel does in green.
CONTRAST = 20


def lines(seed: int) -> npt.NDArray[np.float64]:
    """[SIDE, SIDE], 0 to 1: crossing lines, one and two pixels wide by turns."""
    rng = np.random.default_rng(seed)
    fine = Image.new("L", (4 * SIDE, 4 * SIDE))
    pen = ImageDraw.Draw(fine)
    for number in range(4):
        corners = rng.uniform(0.1, 0.9, (4, 2)) * 4 * SIDE
        pen.line([tuple(corner) for corner in corners], fill=255, width=4 * (1 + number % 2))
    return np.asarray(fine.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255


def texture(blur: float, deviation: float) -> npt.NDArray[np.float64]:
    """[SIDE, SIDE]: noise of this standard deviation, with grains of this size."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(SIDE, SIDE)), blur)
    return noise * deviation / noise.std()


BRIGHT, DARK = lines(1), lines(2)


def fundus(mode: str) -> Pixels:
    """Bright and dark lines on a ground with soft patches and fine grain."""
    gray = 120 + texture(4, 6) + texture(0.7, 2) + CONTRAST * (BRIGHT - DARK)
    planes = gray if mode == "L" else gray[:, :, None] * (1.3, 0.8, 0.4)
    return planes.clip(0, 255).round().astype(np.uint8)


def contrast_kept(original: Pixels, decoded: Pixels, drawn: npt.NDArray[np.float64]) -> float:
    """Contrast that the drawn lines have in the decode, as a share of that in the original."""

    def contrast(pixels: Pixels) -> float:
        green = (pixels[:, :, 1] if pixels.ndim == 3 else pixels).astype(np.float64)
        fine = [each - gaussian_filter(each, 4) for each in (drawn, green)]
        return abs(float(np.sum(fine[0] * fine[1])))

    return contrast(decoded) / contrast(original)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_fine_lines_stay(mode: str) -> None:
    original = fundus(mode)
    default = np.asarray(mvmic_codec.decode(mvmic_codec.encode(original)))
    coarse = np.asarray(mvmic_codec.decode(mvmic_codec.encode(original, quality=3)))
    for drawn in (BRIGHT, DARK):
        assert contrast_kept(original, default, drawn) > 0.8
        assert contrast_kept(original, coarse, drawn) < 0.4  # so the measure sees a loss
