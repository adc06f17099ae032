"""How images are cut into tiles, and which blocks of a tile are coded."""

from itertools import product

import decode as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmic_codec.bitstream.grid import Box, Sides, Tiling, block_size, coded_sites, hyper_size

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(SIZES, st.sampled_from([0, 64, 128, 256]))
def test_tiles_cover_every_pixel_and_every_block_once(size, side):
    tiling = Tiling(size, side)
    pixels, blocks = np.zeros(size, int), np.zeros(block_size(size), int)
    for row, column in product(range(tiling.rows), range(tiling.columns)):
        box = tiling.box(row, column)
        pixels[box.top : box.bottom, box.left : box.right] += 1
        rows, columns = block_size(box[2:])
        top, left = box.top // 16, box.left // 16
        blocks[top : top + rows, left : left + columns] += 1
        sides = tiling.sides(row, column)
        assert sides == (box.top > 0, box.left > 0, box.bottom < size[0], box.right < size[1])
    assert (pixels == 1).all() and (blocks == 1).all()
    assert block_size(size) == tuple(4 * each for each in hyper_size(size))


@given(SIZES, st.sampled_from([0, 64, 128]), st.data())
def test_tiles_of_a_window_are_those_that_it_meets(size, side, data):
    tiling = Tiling(size, side)
    top, left = (data.draw(st.integers(0, each - 1)) for each in size)
    height, width = data.draw(SIZES)
    window = Box(top, left, height, width)
    rows, columns = tiling.covering(window)
    for row, column in product(range(tiling.rows), range(tiling.columns)):
        both = tiling.box(row, column).overlap(window)
        assert (row in rows and column in columns) == (both.height > 0 and both.width > 0)


@pytest.mark.parametrize("sides", [Sides(*each) for each in product((False, True), repeat=4)])
def test_sites_beside_another_tile_are_coded(sides):
    rng = np.random.default_rng(0)
    size = 128 if sides.bottom else 101, 128 if sides.right else 90
    hidden = np.ones(size, np.bool_)
    everywhere = coded_sites(size, hidden, sides)
    inside = coded_sites(size, None)
    expected = np.zeros_like(inside)
    for edge, is_tile in zip((np.s_[0], np.s_[:, 0], np.s_[-1], np.s_[:, -1]), sides, strict=True):
        expected[edge] |= is_tile
    assert np.array_equal(everywhere, expected & inside)
    # With some pixels visible as well, as the reference decoder has it.
    hidden &= (rng.random((9, 9)) < 0.8).repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    out = reference.outside(size) | reference.hidden_sites(hidden, sides)
    found = coded_sites(size, hidden, sides)
    for k in range(4):
        assert np.array_equal(~found[k // 2 :: 2, k % 2 :: 2], out[k])


def test_squares_of_a_box():
    assert Box(7, 16, 9, 1).reduced(8) == (0, 2, 2, 1)
    assert Box(7, 16, 10, 9).reduced(8) == (0, 2, 3, 2)
    assert Box(7, 16, 10, 9).reduced(1) == (7, 16, 10, 9)
