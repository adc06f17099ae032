"""Rate index, quality and lambda, and the search for the index that meets a target.

The rate index runs from 0 (smallest file) to 63 (best quality). Quality is the same scale for
people, from 1 to 8 in steps of 1/9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

from mvmic_codec.errors import InputError

# Number of rate indices, of every model and of the file format.
RATES = 64
# Chosen by looking at crops at 1:1 (docs/quality.md). At 7 the smallest fundus vessels, lung
# markings and bone edges stay; at 6 some vessels fade or break up, at 3 they are gone.
DEFAULT_QUALITY = 7.0

# Lambda at index 0, and the number of indices over which it doubles. Lambda weights distortion in
# the training loss R + lambda D; D is the mean squared error on the 0 to 255 scale. Chest X-rays of
# 1024x1024 set the ends: under 0.02 bpp at index 0, over 45 dB at index 63.
LAMBDA_MIN = 0.0006
LAMBDA_DOUBLING = 7.0


def lambda_of(index: float) -> float:
    """The Lagrange multiplier of a rate index. Fractional indices are allowed."""
    return float(LAMBDA_MIN * 2 ** (index / LAMBDA_DOUBLING))


def index_of(quality: float) -> int:
    """The rate index nearest to a quality from 1 to 8. Raises InputError outside that range."""
    value = _number("quality", quality)
    if not 1 <= value <= 8:
        raise InputError(f"quality runs from 1 (smallest file) to 8 (best), got {value:g}")
    return round(9 * (value - 1))


def quality_of(index: int) -> float:
    """The quality of a rate index; `index_of` is the inverse. Errors as `checked_index`."""
    return 1 + checked_index(index) / 9


def checked_index(index: int) -> int:
    """The index as an int. Raises InputError if it is not an integer from 0 to 63."""
    value = _number("the rate index", index)
    if not (0 <= value < RATES and value.is_integer()):
        raise InputError(f"the rate index is an integer from 0 to {RATES - 1}, got {value:g}")
    return int(value)


def checked_target(name: str, target: float) -> float:
    """A target of a search as a float. Raises InputError if it is not positive and finite."""
    value = _number(name, target)
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive finite number, got {value:g}")
    return value


def last_index(holds: Callable[[int], bool]) -> int | None:
    """The largest index at which `holds` is true, if it turns false once on the way up.

    Returns None if it is false at index 0. Takes at most 7 calls. Both the returned index and the
    one above it were tried, so `holds` is true at the result even if it is not quite monotone.
    """
    low, high = -1, RATES
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low if low >= 0 else None


def first_index(holds: Callable[[int], bool]) -> int | None:
    """The smallest index at which `holds` is true, if it turns true once on the way up.

    Returns None if it is false at index 63. See `last_index`.
    """
    last_false = last_index(lambda index: not holds(index))
    first = 0 if last_false is None else last_false + 1
    return first if first < RATES else None


def _number(name: str, value: object) -> float:
    # Real includes numpy's numbers. bool is a number only by inheritance.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{name} is far out of range") from None
