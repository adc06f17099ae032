"""Encode and decode times of whole images, by size.

    python -m pytest benchmarks/bench_codec.py --benchmark-enable

Times are of one process with as many threads as torch takes by default.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

import mvmic_codec

SIDES = {0.25: 512, 1: 1024, 4: 2048}


def photograph(side: int) -> Image.Image:
    """A fundus photograph (scikit-image) resized to side x side."""
    return Image.fromarray(np.asarray(data.retina())).resize((side, side), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("megapixels", SIDES)
def test_encode(benchmark, megapixels):
    image = photograph(SIDES[megapixels])
    assert benchmark(mvmic_codec.encode, image, quality=3)


@pytest.mark.parametrize("megapixels", SIDES)
def test_decode(benchmark, megapixels):
    image = photograph(SIDES[megapixels])
    coded = mvmic_codec.encode(image, quality=3)
    decoded = benchmark(lambda: Image.open(io.BytesIO(coded)).copy())
    assert decoded.size == image.size
