"""Masks, boxes and true contours over an image."""

import numpy as np
import pytest
from PIL import Image

from mvmic_codec import InputError
from mvmic_codec.tasks.overlay import FOUND, TRUE, draw_overlay


def gray(height=40, width=60, value=100):
    return Image.new("L", (width, height), value)


def block(top, left, bottom, right, shape=(40, 60)):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def where(drawn, colour):
    return (np.asarray(drawn) == colour).all(-1)


def test_a_mask_is_tinted_within_its_contour():
    mask = block(10, 20, 20, 40)
    drawn = draw_overlay(gray(), mask=mask)
    inner = block(11, 21, 19, 39)
    assert drawn.mode == "RGB" and drawn.size == (60, 40)
    assert np.array_equal(where(drawn, FOUND), mask & ~inner)
    # 0.7 of 100 and 0.3 of the colour.
    assert where(drawn, tuple(round(70 + 0.3 * each) for each in FOUND))[inner].all()
    assert where(drawn, (100, 100, 100))[~mask].all()


def test_the_truth_stays_in_sight_around_a_mask_that_is_right():
    mask = block(10, 20, 20, 40)
    drawn = draw_overlay(gray(), mask=mask, truth=mask.astype(np.uint8))
    ring = block(9, 20, 21, 40) | block(10, 19, 20, 41)
    assert np.array_equal(where(drawn, TRUE), ring & ~mask)
    assert np.array_equal(where(drawn, FOUND), mask & ~block(11, 21, 19, 39))


def test_contours_at_the_edge_of_the_image():
    half = block(0, 0, 40, 30)
    drawn = draw_overlay(gray(), mask=half, truth=half)
    # The contour of a mask is closed. That of the truth, beyond the image, is not.
    assert where(drawn, FOUND)[0, :30].all() and where(drawn, FOUND)[:, 0].all()
    assert np.array_equal(where(drawn, TRUE), block(0, 30, 40, 31))


def test_boxes_lie_on_their_samples():
    drawn = draw_overlay(gray(), boxes=np.array([[20.2, 10, 40, 19.8], [50, 30, 70, 50]]))
    outer, inner = block(10, 20, 20, 40), block(11, 21, 19, 39)
    cut = block(30, 50, 40, 60) & ~block(31, 51, 40, 60)
    assert np.array_equal(where(drawn, FOUND), (outer & ~inner) | cut)


def test_lines_are_wider_in_large_images():
    mask = block(100, 100, 900, 900, (1000, 1000))
    drawn = draw_overlay(gray(1000, 1000), mask=mask)
    assert np.array_equal(where(drawn, FOUND), mask & ~block(104, 104, 896, 896, (1000, 1000)))


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_images_are_stretched(mode):
    values = np.array([[1000, 1500], [2000, 3000]])
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    image = Image.fromarray(values.astype(kind))
    assert image.mode == mode
    assert np.asarray(draw_overlay(image))[..., 0].tolist() == [[0, 64], [128, 255]]
    flat = Image.fromarray(np.full((2, 2), 7, kind))
    assert not np.asarray(draw_overlay(flat)).any()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1"])
def test_the_image_is_left_as_it_was(mode):
    image = Image.new("RGB", (60, 40), "white").convert(mode)
    before = image.tobytes()
    drawn = draw_overlay(image, mask=block(10, 20, 20, 40), boxes=np.zeros((0, 4)))
    assert image.tobytes() == before
    assert where(drawn, (255, 255, 255))[0].all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"the mask has the shape \[60, 40\], but the image \[40"):
        draw_overlay(gray(), mask=np.zeros((60, 40), bool))
    with pytest.raises(InputError, match=r"the true mask has the shape \[1, 40, 60\]"):
        draw_overlay(gray(), truth=np.zeros((1, 40, 60), bool))
    with pytest.raises(InputError, match=r"boxes have the shape \[K,4\], but got \[4\]"):
        draw_overlay(gray(), boxes=np.zeros(4))
