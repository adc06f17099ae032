"""Which areas count as flat."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mvmic_codec.bitstream.flatmap import COLOURS_MAX
from mvmic_codec.encoder import flat_search

RNG = np.random.default_rng(8)
ROW, COLUMN = np.mgrid[0:160, 0:200]
DISC = (ROW - 80) ** 2 + (COLUMN - 100) ** 2 < 70**2
LETTER = np.zeros((160, 200), bool)
LETTER[10:17, 12:14] = LETTER[16:18, 12:18] = True


def tissue(grain=12.0):
    """[160,200] around 140, soft and grainy."""
    soft = 140 + 40 * np.sin(ROW / 23) * np.cos(COLUMN / 31)
    return soft + grain * RNG.standard_normal(ROW.shape)


def planes(*channels):
    return np.clip(np.stack(channels) / 255, 0, 1).astype(np.float32)


def widest(planes):
    """Map and colours of what is found first."""
    return flat_search.find(planes)[0]


def test_a_margin_is_flat():
    map, colours = widest(planes(np.where(DISC, tissue(), 16)))
    np.testing.assert_array_equal(map, ~DISC)
    np.testing.assert_allclose(colours * 255, [[16]])


def test_a_margin_with_a_little_grain():
    noisy = 16 + np.rint(0.5 * RNG.standard_normal(ROW.shape))
    map, colours = widest(planes(np.where(DISC, tissue(), noisy)))
    assert (map == ~DISC).mean() > 0.999
    np.testing.assert_allclose(colours * 255, [[16]], atol=0.1)


def test_colour():
    picture = [np.where(DISC, tissue(), value) for value in (10, 60, 110)]
    map, colours = widest(planes(*picture))
    np.testing.assert_array_equal(map, ~DISC)
    np.testing.assert_allclose(colours * 255, [[10, 60, 110]])


def test_letters_in_the_margin_have_colours_of_their_own():
    picture = np.where(DISC, tissue(), 16.0)
    picture[LETTER] = 230
    picture[18, 12:18] = 120
    map, colours = widest(planes(picture))
    np.testing.assert_array_equal(map > 0, ~DISC)
    painted = np.append(0, colours[:, 0])[map] * 255
    assert len(colours) == 3
    np.testing.assert_allclose(painted[~DISC], picture[~DISC], atol=0.01)


def test_no_more_colours_than_the_format_has():
    picture = np.where(DISC, tissue(), 16.0)
    for k in range(20):
        picture[2:6, 5 + 6 * k : 9 + 6 * k] = 60 + 9 * k
    map, colours = widest(planes(picture))
    assert 2 <= len(colours) <= COLOURS_MAX
    assert map.max() == len(colours)
    counts = np.bincount(map.ravel())[1:]
    assert (counts > 0).all() and (np.diff(counts) <= 0).all()


def test_a_picture_in_the_margin_is_left_alone():
    """A small part that no few colours describe stays with the image."""
    picture = np.where(DISC, tissue(), 16.0)
    picture[4:24, 4:44] = RNG.integers(0, 256, (20, 40))
    map, _ = widest(planes(picture))
    assert (map[4:24, 4:44] == 0).mean() > 0.9


@pytest.mark.parametrize("contrast", [40, 100, 220])
def test_a_soft_picture_in_the_margin_is_left_alone(contrast):
    """It has shades, which a few colours would turn into steps."""
    picture = np.where(DISC, tissue(), 16.0)
    shades = 255 - np.hypot(ROW - 4, COLUMN - 4) / 36 * contrast
    picture[4:28, 4:30] = shades[4:28, 4:30]
    map, _ = widest(planes(picture))
    assert (map[4:28, 4:30] == 0).all()


@pytest.mark.parametrize("value", [255, 251])
def test_colours_of_many_pixels_are_exact(value):
    """Sums of hundreds of thousands in single precision once made 256 of 255."""
    points = np.full((500_000, 3), value, np.float32)
    colours = flat_search._with_clusters(np.zeros((1, 3)), points)
    np.testing.assert_array_equal(colours, [[0] * 3, [value] * 3])


def test_a_common_colour_does_not_take_the_place_of_rare_ones():
    """Most pixels of letters are white, with a little grain; the shades of their edges are few."""
    white = 229 + RNG.standard_normal((900, 1)) * 1.5
    shades = np.repeat([[69], [123], [176]], 40, 0)
    points = np.concatenate((white, shades)).repeat(3, 1).astype(np.float32)
    colours = flat_search._with_clusters(np.full((1, 3), 16.0), points)
    np.testing.assert_allclose(sorted(colours[:, 0]), [16, 69, 123, 176, 229], atol=2)


@pytest.mark.parametrize("step", [10, 24, 26, 60])
def test_only_hard_edges_count(step):
    grain = RNG.integers(-4, 5, DISC.shape)
    found = flat_search.find(planes(np.where(DISC, 16 + step + grain, 16)))
    assert bool(found) == (step > 25)


@pytest.mark.parametrize(
    "picture",
    [
        tissue(),
        tissue(grain=0),
        ROW * 255 / 160,
        np.where(ROW < 1, 0, tissue()),
        RNG.integers(0, 256, (160, 200)),
        np.zeros((1, 1)),
        np.zeros((1, 300)),
        np.full((9, 9), 77),
    ],
    ids=["tissue", "soft", "slope", "thin", "noise", "dot", "row", "small"],
)
def test_nothing_flat(picture):
    assert not flat_search.find(planes(picture))


def test_all_flat():
    map, colours = widest(planes(np.full((40, 40), 77)))
    assert (map == 1).all()


def with_text(picture, rim=True, white=255.0):
    """The picture with strokes of white, as a text renderer draws them: smoothly, with a rim."""
    text = Image.new("L", picture.shape[::-1])
    draw = ImageDraw.Draw(text)
    place = {"xy": (40, 60), "text": "PORTABLE", "font": ImageFont.load_default(size=24)}
    draw.text(**place, fill=255, stroke_width=2)
    behind = np.asarray(text) / 255.0 * (0.9 if rim else 0.0)
    text.paste(0, (0, 0, *text.size))
    draw.text(**place, fill=255)
    letters = np.asarray(text) / 255.0
    mixed = (picture * (1 - behind)) * (1 - letters) + white * letters
    return mixed, (letters > 0) | (behind > 0)


@pytest.mark.parametrize("rim", [True, False])
def test_letters_in_the_picture(rim):
    picture, text = with_text(tissue(grain=3) * 0.8, rim)
    map, colours = widest(planes(picture))
    assert 2 <= len(colours) <= 7
    # Strokes but for stray pixels, and nothing far from them.
    assert (map > 0)[picture == 255].mean() > 0.95
    far = ~ndimage.binary_dilation(text, np.ones((9, 9)))
    assert not (map > 0)[far].any()
    errors = np.append(0, colours[:, 0])[map] * 255 - picture
    assert np.sqrt(np.square(errors[map > 0]).mean()) < 20
    assert (colours[map[(map > 0) & (picture == 255)] - 1] == 1).all()


def test_letters_and_a_margin():
    inside, text = with_text(tissue(grain=3) * 0.8)
    margin = (COLUMN < 43) | (ROW < 20)
    assert (text & margin).any()
    map, colours = widest(planes(np.where(margin, 16, inside)))
    assert (map > 0)[~margin & (inside == 255)].mean() > 0.95
    assert len(colours) <= COLOURS_MAX
    # The margin is what it was, also where letters touch it.
    assert (map > 0)[margin].all()
    np.testing.assert_allclose(colours[map[margin] - 1] * 255, 16, atol=0.1)


def test_no_letters_in_colour():
    picture, _ = with_text(tissue(grain=3) * 0.8)
    assert not flat_search.find(planes(picture, picture, picture))


def test_grains_as_bright_as_letters():
    many, one = tissue(grain=3) * 0.8, tissue(grain=3) * 0.8
    for row in range(20, 140, 20):
        for column in range(20, 180, 20):
            many[row : row + 3, column : column + 3] = 255
    one[80:85, 60:65] = 255
    assert not flat_search.find(planes(many)) and not flat_search.find(planes(one))


def test_a_soft_spot_as_bright_as_letters():
    spot = 255 * np.exp(-((ROW - 80) ** 2 + (COLUMN - 100) ** 2) / 60**2)
    assert not flat_search.find(planes(np.maximum(tissue(grain=1) * 0.6, spot)))
