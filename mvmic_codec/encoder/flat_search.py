"""Finding flat areas in an image to be encoded.

A seed is a colour that large areas have almost exactly. Its area is all pixels within a tolerance
that are connected to such an area. A small part inside of it, such as a letter or a cursor, is flat
too if a few more colours describe it. These colours must be far apart: letters have steps, where a
picture, however small, has shades.

Single pixels may differ from their flat colour by the tolerance. ERROR_MAX and HOLE_ERROR_MAX bound
the mean squared error.

Letters in a gray picture, white and mostly with a dark rim, are flat as well. Their colours are
steps from rim to white. Errors are larger there, so only some rates gain from it. In colour
letters are not looked for: highlights would be taken for them.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mvmic_codec.bitstream import flatmap
from mvmic_codec.encoder import flat_fill

Planes = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Kind = TypeVar("Kind", np.bool_, np.float32)

# All on the scale of 0 to 255.
# Pixels belong to a seed's area up to this distance. The widest that holds ERROR_MAX is taken: a
# frame's edge is soft and rings, and what of that is not flat is left to the transform.
TOLERANCES = (20.0, 12.0, 6.0, 3.0)
# Mean squared error of the samples of flat pixels.
ERROR_MAX = 1.5
# A seed's neighbourhoods of 3x3 vary by no more than this,
SEED_RANGE = 3.0
# its colour is found in bins of this width,
BIN = 4
# and this share of an area is this near to it: of tissue, less.
NEAR = 1.5
NEAR_SHARE = 0.8
SEEDS_MAX = 3
# Share of the image that a seed takes at least, and pixels of each of its areas.
SHARE_MIN = 0.01
AREA_MIN = 400
# How far the pixels around the areas lie from the commonest colour, on average, at least: at softer
# edges a map did not pay on any of 92 training images, by the rule of thumb.
STEP_MIN = 25.0
# Pixels of what is looked at within an area, the mean squared error of its samples, and the least
# distance of two of its colours in one channel.
HOLE_MAX = 3000
HOLE_ERROR_MAX = 9.0
SEPARATION = 24.0

# Letters: pixels of a part that is this near to the brightest value, and what they come to;
WHITE = 3.0
STROKE_MIN, STROKE_MAX = 12, 600
STROKES_MIN = 60
# how far a rim reaches, how far it lies from what goes on smoothly behind it, and the least share
# of white in all of that: of bones it is less.
RIM = 4
RIM_STEP = 24.0
WHITE_SHARE = 0.12
LETTER_COLOURS = 7

_SQUARE = ndimage.generate_binary_structure(2, 2)


class Found(NamedTuple):
    """A map [H, W] as in `flat.Flat` and its colours [K, C] in 0 to 1, the commonest first."""

    map: npt.NDArray[np.uint8]
    colours: npt.NDArray[np.float64]


def find(planes: Planes) -> list[Found]:
    """Flat areas of planes [C, H, W] in 0 to 1, none or in several ways.

    The first has the areas of all seeds, the others those of one seed each: not all of them pay.
    """
    scaled = planes * np.float32(255)
    # The narrowest tolerance has most exact pixels: seeds that fail there fail in all.
    seeds = [seed for seed in _seeds(scaled) if len(_areas(scaled, [seed], TOLERANCES[-1])[1])]
    found: list[Found] = []
    for some in (seeds, *([seed] for seed in seeds)):
        each = _found(scaled, some)
        if each and not any(np.array_equal(each.map, other.map) for other in found):
            found.append(each)
        if len(seeds) < 2:
            break
    return found


def _found(scaled: Planes, seeds: list[npt.NDArray[np.float64]]) -> Found | None:
    """All flat pixels for these seeds, or None if there are none."""
    flat_map, colours = _flat(scaled, seeds)
    if len(scaled) == 1:
        flat_map, colours = _with_letters(scaled, flat_map, colours)
    if not len(colours):
        return None
    counts = np.bincount(flat_map.ravel(), minlength=len(colours) + 1)[1:]
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    number = np.zeros(len(colours) + 1, np.uint8)
    number[order + 1] = np.arange(1, len(order) + 1)
    return Found(number[flat_map], colours[order] / 255)


def _flat(
    scaled: Planes, seeds: list[npt.NDArray[np.float64]]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Map and colours [K, C] of the seeds' areas and of what lies within them; K may be 0."""
    nothing = np.zeros(scaled.shape[1:], np.uint8), np.zeros((0, len(scaled)))
    if not seeds:
        return nothing
    for tolerance in TOLERANCES:
        flat_map, colours = _areas(scaled, seeds, tolerance)
        error = _squared_errors(scaled[:, flat_map > 0], colours)
        if len(colours) and error.min(0).mean(dtype=np.float64) <= len(scaled) * ERROR_MAX:
            break
    else:
        return nothing
    if _step(scaled, flat_map, colours) < STEP_MIN:
        return nothing
    return _with_holes(scaled, flat_map, colours)


def _seeds(scaled: Planes) -> list[npt.NDArray[np.float64]]:
    """Colours [C] of which there is much that hardly varies, the commonest first."""
    smooth = np.ones(scaled.shape[1:], np.bool_)
    for plane in scaled:
        smooth &= _neighbours(plane, np.maximum) - _neighbours(plane, np.minimum) <= SEED_RANGE
    pixels = scaled[:, smooth]
    bins = np.rint(pixels / BIN).astype(np.int64)
    key = np.ravel_multi_index(tuple(bins), (256 // BIN + 1,) * len(scaled))
    counts = np.bincount(key)
    least = SHARE_MIN * scaled[0].size
    return [
        pixels[:, key == best].mean(1, dtype=np.float64)
        for best in np.argsort(-counts, kind="stable")[:SEEDS_MAX]
        if counts[best] >= least
    ]


def _areas(
    scaled: Planes, seeds: list[npt.NDArray[np.float64]], tolerance: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Map and colours [K, C] of the seeds' areas."""
    flat_map = np.zeros(scaled.shape[1:], np.uint8)
    colours: list[npt.NDArray[np.float64]] = []
    for seed in seeds:
        distance = np.abs(scaled - seed.astype(np.float32)[:, None, None]).max(0)
        near = (distance <= tolerance) & (flat_map == 0)
        # Where at least 3x3 are near, and two more steps from there.
        core = _large(_neighbours(_neighbours(near, np.logical_and), np.logical_or))
        area = core
        for _ in range(2):
            area = _neighbours(area, np.logical_or) & near
        pixels = np.count_nonzero(area)
        exact = np.count_nonzero(distance[area] <= NEAR)
        if pixels < SHARE_MIN * flat_map.size or exact < NEAR_SHARE * pixels:
            continue
        # Not the mean: of a background of one value and some grain the value itself.
        colours.append(np.median(scaled[:, area], 1).astype(np.float64))
        flat_map[area] = len(colours)
    return flat_map, np.array(colours)


def _step(
    scaled: Planes, flat_map: npt.NDArray[np.uint8], colours: npt.NDArray[np.float64]
) -> float:
    """Mean distance of pixels around the areas from the largest area's colour; inf without any."""
    around = _neighbours(flat_map > 0, np.logical_or) & (flat_map == 0)
    largest = colours[np.bincount(flat_map[flat_map > 0]).argmax() - 1]
    distances = np.abs(scaled[:, around] - largest[:, None])
    return float(distances.mean()) if distances.size else math.inf


def _with_holes(
    scaled: Planes, flat_map: npt.NDArray[np.uint8], colours: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """The same with small parts between them that a few more colours describe."""
    parts, count = ndimage.label(flat_map == 0, _SQUARE)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    small = sizes <= HOLE_MAX
    small[0] = False
    holes = small[parts]
    if not holes.any():
        return flat_map, colours
    pixels = scaled[:, holes]
    worst = len(scaled) * HOLE_ERROR_MAX
    far = pixels[:, _squared_errors(pixels, colours).min(0) > worst]
    colours = _with_clusters(colours, far.T)
    error = _squared_errors(pixels, colours)
    of_part = np.bincount(parts[holes], weights=error.min(0), minlength=count + 1)
    good = small & (of_part <= worst * sizes)
    out = flat_map.copy()
    out[holes] = np.where(good[parts[holes]], error.argmin(0) + 1, 0)
    return out, colours


def _with_letters(
    scaled: Planes, flat_map: npt.NDArray[np.uint8], colours: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """The same with letters in the picture [1, H, W], if there are any, in a few colours more."""
    white = (scaled[0] >= scaled.max() - WHITE) & (flat_map == 0)
    strokes = _parts_of(white, white, STROKE_MIN, STROKE_MAX)
    count = min(LETTER_COLOURS, flatmap.COLOURS_MAX - len(colours))
    if np.count_nonzero(strokes) < STROKES_MIN or count < 2:
        return flat_map, colours
    around = strokes
    for _ in range(RIM):
        around = _neighbours(around, np.logical_or)
    around &= flat_map == 0
    if (around | (flat_map > 0)).all():
        return flat_map, colours
    behind = flat_fill.fill(scaled, around | (flat_map > 0))
    differs = around & (np.abs(scaled - behind)[0] >= RIM_STEP)
    letters = _parts_of(differs, strokes, 1, flat_map.size)
    number = np.count_nonzero(letters)
    if np.count_nonzero(letters & strokes) < max(STROKES_MIN, WHITE_SHARE * number):
        return flat_map, colours
    pixels = scaled[:, letters]
    steps = np.linspace(pixels.min(), pixels.max(), count)[:, None]
    # White and the darkest of all stay.
    _move_centres(pixels, steps, range(1, count - 1))
    colours = np.concatenate((colours, steps))
    out = flat_map.copy()
    out[letters] = _squared_errors(pixels, colours).argmin(0) + 1
    return out, colours


def _parts_of(mask: Mask, touched: Mask, size_min: int, size_max: int) -> Mask:
    """The parts of a mask, corners joined, that share a pixel with `touched`, by their size."""
    parts, count = ndimage.label(mask, _SQUARE)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    keep = (sizes >= size_min) & (sizes <= size_max)
    keep &= np.bincount(parts[touched & mask], minlength=count + 1) > 0
    keep[0] = False
    kept: Mask = keep[parts]
    return kept


def _with_clusters(
    colours: npt.NDArray[np.float64], points: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """The colours [K, C], and colours common among the points [N, C] that are far from all others.

    Clusters by Lloyd's rule, from points at even steps of brightness, so that a rare shade has its
    own; then the largest ones first, without those that are near to one that was taken.
    """
    count = min(flatmap.COLOURS_MAX - len(colours), len(points))
    if count == 0:
        return colours
    order = np.argsort(points.sum(1), kind="stable")
    sums = points.sum(1)[order]
    first = np.searchsorted(sums, np.linspace(sums[0], sums[-1], count)).clip(max=len(sums) - 1)
    centres: npt.NDArray[np.float64] = points[order[first]].astype(np.float64)
    nearest = _move_centres(points.T, centres, range(count))
    sizes = np.bincount(nearest, minlength=count)
    for k in np.argsort(-sizes, kind="stable"):
        if np.abs(colours - centres[k]).max(1).min() >= SEPARATION:
            colours = np.concatenate((colours, centres[k : k + 1]))
    return colours


def _move_centres(
    pixels: npt.NDArray[np.float32], centres: npt.NDArray[np.float64], moving: range
) -> npt.NDArray[np.intp]:
    """Lloyd's rule: move centres [K, C] to the means of the pixels [C, N] that are nearest to them.

    Only those of `moving`. Returns the nearest centre of each pixel, before the last move.
    """
    for _ in range(12):
        nearest: npt.NDArray[np.intp] = _squared_errors(pixels, centres).argmin(0)
        for k in moving:
            if (nearest == k).any():
                centres[k] = pixels[:, nearest == k].mean(1, dtype=np.float64)
    return nearest


def _squared_errors(
    pixels: npt.NDArray[np.float32], colours: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """[K, N] of pixels [C, N] against colours [K, C]."""
    exact = colours.astype(np.float32)
    return np.array([np.square(pixels - colour[:, None]).sum(0) for colour in exact])


def _neighbours(pixels: npt.NDArray[Kind], join: np.ufunc) -> npt.NDArray[Kind]:
    """All (logical_and), any (logical_or), most or least of each pixel's 3x3 within the image.

    scipy's erosion, dilation and filters take many times as long for a square.
    """
    rows = pixels.copy()
    join(rows[1:], pixels[:-1], out=rows[1:])
    join(rows[:-1], pixels[1:], out=rows[:-1])
    columns = rows.copy()
    join(columns[:, 1:], rows[:, :-1], out=columns[:, 1:])
    join(columns[:, :-1], rows[:, 1:], out=columns[:, :-1])
    return columns


def _large(mask: Mask) -> Mask:
    """The parts of a mask that have AREA_MIN pixels."""
    parts, count = ndimage.label(mask)
    keep = np.bincount(parts.ravel(), minlength=count + 1) >= AREA_MIN
    keep[0] = False
    kept: Mask = keep[parts]
    return kept
