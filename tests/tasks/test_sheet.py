"""The sheet of best and worst overlays."""

import numpy as np
import pytest
from PIL import Image

from mvmic_codec.tasks.sheet import Scored, draw_sheet

# Each image has a colour of its own, by its score.
SHADES = {0.9: 40, 0.1: 80, 0.5: 120, 0.7: 160, 0.3: 200}


def scored(scores):
    return [
        Scored(f"image {k}", score, Image.new("RGB", (96, 48), (SHADES[score],) * 3))
        for k, score in enumerate(scores)
    ]


def shades(sheet, left):
    """The shades of the pictures in the column that begins at `left`, from the top."""
    column = np.asarray(sheet)[:, left + 240, 0].tolist()
    found = [shade for shade in column if shade in SHADES.values()]
    return [shade for k, shade in enumerate(found) if k == 0 or shade != found[k - 1]]


@pytest.mark.parametrize(
    ("scores", "best", "worst"),
    [
        ([0.5, 0.1, 0.9, 0.3, 0.7], [0.9, 0.7], [0.1, 0.3]),
        ([0.5, 0.1, 0.9], [0.9, 0.5], [0.1]),
    ],
)
def test_the_best_are_on_the_left_and_the_worst_on_the_right(scores, best, worst):
    sheet = draw_sheet(scored(scores), 2)
    # Pictures of 480x240, each below a line of text.
    assert sheet.size == (960, 2 * (24 + 240))
    assert shades(sheet, 0) == [SHADES[score] for score in best]
    assert shades(sheet, 480) == [SHADES[score] for score in worst]


def test_one_image_has_one_side():
    sheet = draw_sheet(scored([0.5]), 3)
    assert sheet.size == (480, 264) and shades(sheet, 0) == [120]
    assert np.asarray(sheet)[:24].min() < 128, "a line of text"
