"""Frequency tables of symbols, in units of 1 / SLOTS. Export makes them once.

There are two kinds. Tables for latents are discretised logistics, or fitted to counted symbols.
Flag tables code one bit of a mode. The first kind has two sets, one for each quantiser of dependent
passes (formats/ans.md, section 4). Independent passes use the first set.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.ans import ESCAPE_BITS, SLOTS
from mvmic_codec.model.definition import FRACTION, SECOND, SPACING, TABLES

# Largest magnitude with an entry of its own. formats/ans.md allows up to 1023.
HALF_MAX = 255


def logistic_cdf(x: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    """The cumulative logistic distribution with mean 0 and this scale, at x."""
    return 1.0 / (1.0 + np.exp(-np.clip(x / scale, -700, 700)))


def logistic_tail(scale: float, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P(0), P(1), ... of a logistic that is rounded to the nearest of 0, +-values[1], ...

    scale and values are in steps; values rises from values[0] = 0.
    """
    between = (values[1:] + values[:-1]) / 2
    edges = np.concatenate(([-between[0]], between, [2 * values[-1] - between[-1]]))
    tail: npt.NDArray[np.float64] = np.diff(logistic_cdf(edges, scale))
    return tail


def quantiser_steps(second: int) -> npt.NDArray[np.float64]:
    """The levels of numbers 0 to HALF_MAX, in steps, of the first (0) or second (1) quantiser."""
    number = np.arange(HALF_MAX + 1)
    return (2 * number - second * (number > 0)) * (SPACING / FRACTION)


def frequencies(tail: npt.NDArray[np.float64], half: int) -> npt.NDArray[np.int64]:
    """Frequencies of -half..half and the escape, from tail P(0), P(1), ...

    Each is at least 1 (the middle one is not checked), and their sum is SLOTS.
    """
    probability = np.concatenate([tail[half:0:-1], tail[: half + 1]])
    escape = max(1.0 - probability.sum(), 0.0)
    exact = np.append(probability, escape) * SLOTS
    frequency = np.maximum(np.round(exact), 1).astype(np.int64)
    # The most likely symbol takes the error of rounding, which costs least there.
    frequency[half] += SLOTS - frequency.sum()
    # The result is symmetric: both signs of a symbol round alike.
    return frequency


def logistic_table(scale: float, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Frequencies of a logistic rounded as in `logistic_tail`.

    A symbol gets an entry of its own if its probability is at least half a unit, as long as that
    leaves something for 0.
    """
    tail = logistic_tail(scale, values)
    half = int(np.count_nonzero(tail[1:] * SLOTS >= 0.5))
    while (frequency := frequencies(tail, half))[half] < 1:
        half -= 1
    return frequency


def fitted_table(tail: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Frequencies for P(0), ..., P(HALF_MAX), with the number of entries that takes least bits."""
    both = tail * np.where(np.arange(len(tail)), 2, 1)
    best, least_bits = np.zeros(0, np.int64), np.inf
    for half in range(1, HALF_MAX + 1):
        frequency = frequencies(tail, half)
        if frequency[half] < 1:
            break
        bits = np.log2(SLOTS / frequency)
        cost = float(both[: half + 1] @ bits[half : 2 * half + 1])
        cost += float(both[half + 1 :].sum() * (bits[-1] + ESCAPE_BITS))
        if cost < least_bits:
            best, least_bits = frequency, cost
    return best


def flag_table(log_odds: float) -> npt.NDArray[np.int64]:
    """Frequencies of -1, 0, 1 and the escape, for one bit. -1 and the escape never occur.

    log_odds are those of a one, in nats.
    """
    coded = SLOTS - 2
    ones = int(np.clip(round(coded / (1.0 + np.exp(-log_odds))), 1, coded - 1))
    return np.array([1, coded - ones, ones, 1], np.int64)


def make_tables(
    scales: npt.NDArray[np.float64], log_odds: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """All N tables of a model, table 0 included: half [N] and cdf [N, W], as for `ans.Tables`.

    scales    logistic scales of tables 1, 2, ..., in steps
    log_odds  log odds of the flag tables, which follow

    The tables of the second quantiser come last, for the same scales.
    """
    first, second = (
        [logistic_table(float(scale), quantiser_steps(which)) for scale in scales]
        for which in (0, 1)
    )
    return as_arrays(first + [flag_table(float(odds)) for odds in log_odds] + second)


def as_arrays(
    rows: list[npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Frequencies of tables 1, 2, ... -> (half, cdf), as in `make_tables`."""
    width = max(len(row) for row in rows) + 1
    half = np.zeros(len(rows) + 1, np.uint16)
    cdf = np.zeros((len(rows) + 1, width), np.uint16)
    for t, row in enumerate(rows, start=1):
        half[t] = (len(row) - 2) // 2
        cdf[t, 1 : len(row) + 1] = np.cumsum(row)
    return half, cdf


def whole_step_bits(bits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """About what magnitudes in whole steps would cost, in bits [TABLES,M].

    bits are those of coded numbers, from `magnitude_bits`. A whole step lies between two levels,
    and these belong to different quantisers: its cost is interpolated. A zero costs the average of
    both quantisers. Other magnitudes cost more, since a step is narrower than the distance between
    two levels of one quantiser.
    """
    first, second = bits[:TABLES].astype(np.float64), bits[SECOND:].astype(np.float64)
    second[0] = 0.0
    # Levels 1, 2, 3, ... are number 1 of the second, 1 of the first, 2 of the second, ...
    levels = np.stack((second[:, 1:], first[:, 1:]), 2).reshape(TABLES, -1)
    at = np.arange(1, len(levels[0]) * SPACING // FRACTION) * (FRACTION / SPACING)
    out = np.zeros((TABLES, len(at) + 1))
    for t in range(1, TABLES):
        out[t, 0] = -np.log2((2.0 ** -first[t, 0] + 2.0 ** -second[t, 0]) / 2)
        out[t, 1:] = np.interp(at, np.arange(1, len(levels[t]) + 1), levels[t])
        out[t, 1:] += np.log2(2 * SPACING / FRACTION)
    return out.astype(np.float32)


def magnitude_bits(
    half: npt.NDArray[np.uint16], cdf: npt.NDArray[np.uint16]
) -> npt.NDArray[np.float32]:
    """Bits [T,M] of a symbol, by table and magnitude. The last column is for all larger magnitudes.

    Table 0 codes nothing, and its bits are 0.
    """
    largest = int(half.max())
    bits = np.zeros((len(half), largest + 2), np.float32)
    for t in range(1, len(half)):
        own = int(half[t])
        frequency = np.diff(cdf[t, : 2 * own + 3].astype(np.float64))
        bits[t] = np.log2(SLOTS / frequency[-1]) + ESCAPE_BITS
        bits[t, : own + 1] = np.log2(SLOTS / frequency[own : 2 * own + 1])
    return bits
