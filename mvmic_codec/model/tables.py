"""Frequency tables of symbols in units of 1/4096, made once at export.

Two kinds: for latents discretised logistics, or what fits symbols that were counted better, and
tables of one bit for modes. Of the first kind there are two sets, for the two quantisers of
dependent passes (formats/ans.md, section 4); the first is for other passes, too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.ans import ESCAPE_BITS, SLOTS
from mvmic_codec.model.entropy import FRACTION, SECOND, SPACING, TABLES

HALF_MAX = 255


def logistic_cdf(x: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    """Cumulative logistic distribution of the given scale, around 0."""
    return 1.0 / (1.0 + np.exp(-np.clip(x / scale, -700, 700)))


def logistic_tail(scale: float, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P(0), P(1), ... of a logistic rounded to the nearest of 0, +-values[1], +-values[2], ..."""
    between = (values[1:] + values[:-1]) / 2
    edges = np.concatenate(([-between[0]], between, [2 * values[-1] - between[-1]]))
    tail: npt.NDArray[np.float64] = np.diff(logistic_cdf(edges, scale))
    return tail


def quantiser_steps(second: int) -> npt.NDArray[np.float64]:
    """What numbers 0 to HALF_MAX stand for, in steps, in the first (0) or second (1) quantiser."""
    number = np.arange(HALF_MAX + 1)
    return (2 * number - second * (number > 0)) * (SPACING / FRACTION)


def frequencies(tail: npt.NDArray[np.float64], half: int) -> npt.NDArray[np.int64]:
    """Frequencies of -half..half and the escape, each at least 1, sum 4096, for P(0), P(1), ..."""
    probability = np.concatenate([tail[half:0:-1], tail[: half + 1]])
    escape = max(1.0 - probability.sum(), 0.0)
    exact = np.append(probability, escape) * SLOTS
    frequency = np.maximum(np.round(exact), 1).astype(np.int64)
    # Rounding is settled where it costs least: at the most likely symbol.
    frequency[half] += SLOTS - frequency.sum()
    # Symmetric by construction: both signs of a symbol round alike.
    return frequency


def logistic_table(scale: float, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Frequencies of a logistic rounded as by `logistic_tail`.

    A symbol gets an entry of its own when its probability is at least half a unit, and that leaves
    something for the others.
    """
    tail = logistic_tail(scale, values)
    half = int(np.count_nonzero(tail[1:] * SLOTS >= 0.5))
    while (frequency := frequencies(tail, half))[half] < 1:
        half -= 1
    return frequency


def fitted_table(tail: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Frequencies for P(0), P(1), ... P(HALF_MAX), with as many entries as take fewest bits."""
    both = tail * np.where(np.arange(len(tail)), 2, 1)
    best, least = np.zeros(0, np.int64), np.inf
    for half in range(1, HALF_MAX + 1):
        frequency = frequencies(tail, half)
        if frequency[half] < 1:
            break
        bits = np.log2(SLOTS / frequency)
        cost = float(both[: half + 1] @ bits[half : 2 * half + 1])
        cost += float(both[half + 1 :].sum() * (bits[-1] + ESCAPE_BITS))
        if cost < least:
            best, least = frequency, cost
    return best


def flag_table(log_odds: float) -> npt.NDArray[np.int64]:
    """Frequencies of -1, 0, 1 and the escape for a bit; the first and the last never occur."""
    coded = SLOTS - 2
    ones = int(np.clip(round(coded / (1.0 + np.exp(-log_odds))), 1, coded - 1))
    return np.array([1, coded - ones, ones, 1], np.int64)


def make_tables(
    scales: npt.NDArray[np.float64], log_odds: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Scales of tables 1..T-1, log odds of the tables that follow -> (half, cdf).

    The second quantiser's tables come last. half [N] and cdf [N, W] as `ans.Tables` takes them, N
    tables in all with table 0.
    """
    first, second = (
        [logistic_table(float(scale), quantiser_steps(which)) for scale in scales]
        for which in (0, 1)
    )
    return as_arrays(first + [flag_table(float(odds)) for odds in log_odds] + second)


def as_arrays(
    rows: list[npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Frequencies of tables 1, 2, ... -> (half, cdf) as `make_tables`."""
    width = max(len(row) for row in rows) + 1
    half = np.zeros(len(rows) + 1, np.uint16)
    cdf = np.zeros((len(rows) + 1, width), np.uint16)
    for t, row in enumerate(rows, start=1):
        half[t] = (len(row) - 2) // 2
        cdf[t, 1 : len(row) + 1] = np.cumsum(row)
    return half, cdf


def whole_step_bits(bits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """About what whole steps would cost [TABLES,M], by what numbers cost, as by `magnitude_bits`.

    A step lies between two levels, which two quantisers have. A zero costs what it does in both on
    average; elsewhere a step is narrower than what a number stands for.
    """
    first, second = bits[:TABLES].astype(np.float64), bits[SECOND:].astype(np.float64)
    second[0] = 0.0
    # Levels 1, 2, 3, ... are numbers 1 of the second, 1 of the first, 2 of the second ...
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
    """Bits [T,M] of a symbol by table and magnitude; the last column is the escape for all above.

    Table 0 codes nothing and takes none.
    """
    largest = int(half.max())
    bits = np.zeros((len(half), largest + 2), np.float32)
    for t in range(1, len(half)):
        own = int(half[t])
        frequency = np.diff(cdf[t, : 2 * own + 3].astype(np.float64))
        bits[t] = np.log2(SLOTS / frequency[-1]) + ESCAPE_BITS
        bits[t, : own + 1] = np.log2(SLOTS / frequency[own : 2 * own + 1])
    return bits
