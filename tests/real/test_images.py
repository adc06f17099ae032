"""Test images to .mvm and back with the weights that ship.

Each image is coded at one of four qualities in turn, or at all of them with MVMIC_ALL_QUALITIES=1.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import codec
import numpy as np
import pytest
from PIL import Image
from slow import first_is_quick

import mvmic_codec
from mvmic_codec.evaluation.metrics import psnr
from mvmic_codec.image.samples import from_image
from mvmic_codec.rate import index_of

QUALITIES = (1, 3, 5, 8)
KINDS = (
    "ultrasound",  # the fewest samples: the quick tests take these
    "cxr",
    "cxr_hires",
    "derm",
    "fundus",
    "gray16",
    "histo",
    "kodak",
    "polyp",
    "polyp_etis",
    "street",
)
# Far under what is measured: a broken path fails, a weaker model does not.
LOWEST_PSNR = {1: 17.0, 3: 20.0, 5: 23.0, 8: 30.0}


def qualities(position: int) -> tuple[int, ...]:
    if os.environ.get("MVMIC_ALL_QUALITIES"):
        return QUALITIES
    return (QUALITIES[position % len(QUALITIES)],)


@pytest.mark.parametrize("kind", first_is_quick(KINDS))
def test_each_image_keeps_size_mode_and_depth(test_images: Path, kind: str) -> None:
    paths = sorted((test_images / kind).iterdir())
    assert paths
    for position, path in enumerate(paths):
        with Image.open(path) as opened:
            image = opened.copy()
        if image.mode not in ("L", "RGB", "I;16"):
            image = image.convert("RGB")
        for quality in qualities(position):
            data = mvmic_codec.encode(image, quality=quality)
            with Image.open(io.BytesIO(data)) as decoded:
                decoded.load()
            assert (decoded.size, decoded.mode) == (image.size, image.mode), path.name
            original, result = np.asarray(image), np.asarray(decoded)
            assert result.dtype == original.dtype
            quality_found = psnr(original, result)
            assert quality_found > LOWEST_PSNR[quality], (path.name, quality, quality_found)


@pytest.mark.parametrize("kind", first_is_quick(KINDS))
def test_written_size_is_the_estimate(test_images: Path, kind: str) -> None:
    for position, path in enumerate(sorted((test_images / kind).iterdir())):
        if position % 3 and not os.environ.get("MVMIC_ALL_QUALITIES"):
            continue
        with Image.open(path) as image:
            planes = from_image(image).planes
            if (planes == planes[:1]).all():
                planes = planes[:1]  # RGB with equal channels is coded as gray
            for quality in qualities(position):
                written = len(codec.encode_planes(planes, index_of(quality)))
                estimate = codec.estimate_bits(planes, index_of(quality)) / 8
                assert abs(written - estimate) <= max(32, 0.01 * estimate), path.name


@pytest.mark.slow
def test_the_ends_of_the_ladder_on_chest_x_rays(test_images: Path) -> None:
    smallest, best = [], []
    for path in sorted((test_images / "cxr").iterdir())[::7]:
        with Image.open(path) as opened:
            image = opened.convert("L")
        smallest.append(
            len(mvmic_codec.encode(image, rate_index=0)) * 8 / (image.width * image.height)
        )
        data = mvmic_codec.encode(image, rate_index=63)
        with Image.open(io.BytesIO(data)) as decoded:
            best.append(psnr(np.asarray(image), np.asarray(decoded)))
    assert np.mean(smallest) <= 0.02
    assert np.mean(best) >= 45.0
