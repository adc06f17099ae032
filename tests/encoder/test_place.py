"""Tiles in their image: what an encoder does near their borders."""

import numpy as np
import pytest
from small_model import picture

import mvmic_codec
from mvmic_codec.bitstream.grid import Box, Sides
from mvmic_codec.encoder.encode import Encoder, Place

PLANES = picture(192, 192, 1)
PLACE = Place(Sides(top=True, right=True), PLANES, Box(64, 0, 64, 64))


def test_borders():
    near = PLACE.within(16)
    assert near[:16].all() and near[:, -16:].all() and not near[16:, :-16].any()
    assert PLACE.borders().sum() == 64 * 64 - 56 * 56


@pytest.mark.parametrize("channels", [1])
def test_what_depends_on_other_tiles_is_not_known(released):
    tile = PLANES[:, 64:128, :64]
    encoder = Encoder(released, tile, 40, place=PLACE)
    assert not encoder.shown[:16].any() and not encoder.shown[:, -16:].any()
    assert encoder.shown[16:, :-16].all()
    assert Encoder(released, tile, 40).shown.all()


@pytest.mark.parametrize("channels", [1])
def test_analysis_sees_what_is_around(released):
    tile = PLANES[:, 64:128, :64]
    whole = Encoder(released, PLANES, 40).linear[:, :, 4:8, :4]
    assert np.array_equal(Encoder(released, tile, 40, place=PLACE).linear, whole)
    assert not np.array_equal(Encoder(released, tile, 40).linear, whole)


def test_tiles_at_the_best_quality_are_as_good():
    """By the released model: a correction that forgets other tiles lost 0.8 dB."""
    image = np.rint(255 * PLANES[0]).astype(np.uint8)
    errors = [
        np.square(
            mvmic_codec.decode_array(mvmic_codec.encode(image, 8, tile=tile)).astype(float) - image
        ).mean()
        for tile in (64, 0)
    ]
    assert errors[0] < 1.135 * errors[1]
