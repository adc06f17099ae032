"""A small ladder of discretised Laplacians and symbols drawn from it."""

import numpy as np
import numpy.typing as npt

Pass = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]


def laplace_tables(count: int, widest: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """half [count] and cdf [count, W] with scales from 0.15 to 20; row 0 is filled with junk."""
    scales = np.geomspace(0.15, 20, count)
    half = np.minimum(np.ceil(4 * scales), widest).astype(np.uint16)
    cdf = np.full((count, 2 * int(half[1:].max(initial=0)) + 3), 65535, np.uint16)
    half[0] = 65535
    for t in range(1, count):
        h = int(half[t])
        weights = np.exp(-np.abs(np.arange(-h, h + 1)) / scales[t])
        freq = np.append(np.floor(weights / weights.sum() * (4096 - 2 * h - 2)), 0) + 1
        freq[h] += 4096 - freq.sum()
        cdf[t, : 2 * h + 3] = np.concatenate([[0], np.cumsum(freq)])
    return half, cdf


def draw(rng: np.random.Generator, count: int, size: int, *, skip: float = 0.3) -> Pass:
    """Symbols that fit their tables, a few that escape, and a share of skipped ones."""
    indices = rng.integers(1, count, size).astype(np.uint8)
    indices[rng.random(size) < skip] = 0
    symbols = np.round(rng.laplace(size=size) * np.geomspace(0.15, 20, count)[indices])
    far = rng.random(size) < 0.01
    symbols[far] = rng.integers(-32768, 32768, size)[far]
    symbols[indices == 0] = 0
    return symbols.astype(np.int16), indices
