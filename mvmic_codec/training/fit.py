"""Fit a release to the symbols that an encoder writes: neighbours first, then frequency tables.

Training assumes that each table is a discretised logistic. The symbols of an encoder are a mixture
of scales, chosen with their bits in mind. They have more zeros and far more outliers than a
logistic. Only the tables have to change for that, so they are fitted once training is over. The
arrays for neighbours (`neighbours.py`) are fitted first, since they change which symbols a table
gets.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.model.definition import FLAG_TABLES, SECOND, TABLES
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.entropy import flag_logit
from mvmic_codec.model.export import replace_arrays
from mvmic_codec.model.identity import Identity, read_card
from mvmic_codec.model.integerise import neutral_neighbours, scale_ladder
from mvmic_codec.model.loaded import LoadedModel, read
from mvmic_codec.model.tables import (
    HALF_MAX,
    as_arrays,
    fitted_table,
    flag_table,
    logistic_tail,
    quantiser_steps,
)
from mvmic_codec.training.neighbours import fit_neighbours, take_sample

# Rate indices at which crops are coded.
FIT_RATES = (6, 18, 32, 48, 60)
# The logistic counts as this many symbols of each table.
PRIOR = 3000.0
# An encoder chooses symbols by the tables it has, so fitting takes turns.
TURNS = 2

# [SECOND + TABLES, HALF_MAX + 2]: by table and magnitude; the last column counts all above
Counts = npt.NDArray[np.float64]


def fit_release(weights: Path, crops: Tensor) -> Identity:
    """Fit the release in NAME.safetensors to crops [N,P,S,S] in 0..1."""
    cells = [(crop.numpy(), rate) for crop in crops for rate in FIT_RATES]
    # Forget an earlier fit.
    release = at_present(weights)
    replace_arrays(weights, neutral_neighbours(release.shape.hyper, release.shape.near))
    release = at_present(weights)
    samples = [take_sample(release, *cell) for cell in tqdm(cells, desc="near", disable=None)]
    replace_arrays(weights, fit_neighbours(release, samples))
    for turn in range(1, TURNS + 1):
        release = at_present(weights)
        name = f"tables, {turn} of {TURNS}"
        counts = [count_symbols(release, *cell) for cell in tqdm(cells, desc=name, disable=None)]
        half, cdf = fit_tables(release, counts)
        tables = {"table_half": torch.from_numpy(half), "table_cdf": torch.from_numpy(cdf)}
        identity = replace_arrays(weights, tables)
    return identity


def at_present(weights: Path) -> LoadedModel:
    """The release in NAME.safetensors as it is now."""
    return read(read_card(weights.with_suffix(".json")), weights, torch.device("cpu"))


def count_symbols(release: LoadedModel, planes: npt.NDArray[np.float32], rate: int) -> Counts:
    """Count the numbers of each magnitude that an encoder codes by each table, for [P,H,W]."""
    with full_precision(release.device):
        passes = Encoder(release, planes, rate).encode_two_pass().passes
    counts = np.zeros((SECOND + TABLES, HALF_MAX + 2))
    for each in passes:
        numbers, tables = each.coded()
        size = np.minimum(np.abs(numbers.astype(np.int64)), HALF_MAX + 1)
        np.add.at(counts, (tables, size), 1)
    # The tables of modes are not fitted.
    counts[0] = counts[TABLES : SECOND + 1] = 0
    return counts


def fit_tables(
    release: LoadedModel, counts: Iterable[Counts]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Tables (half, cdf) for counted numbers. Each of the counts weighs alike in bits."""
    bits = release.bits.cpu().double().numpy()
    reach = np.minimum(np.arange(HALF_MAX + 2), bits.shape[1] - 1)
    number = np.zeros((SECOND + TABLES, HALF_MAX + 2))
    weighed = np.zeros_like(number)
    for each in counts:
        number += each
        weighed += each / max(1.0, float((each * bits[:, reach]).sum()))
    rows: list[npt.NDArray[np.int64]] = []
    for second in (0, 1):
        for table, scale in enumerate(scale_ladder().tolist(), start=1 + second * SECOND):
            total = number[table].sum()
            share = weighed[table] / max(weighed[table].sum(), 1e-300)
            one_sign = share[: HALF_MAX + 1] / np.where(np.arange(HALF_MAX + 1), 2, 1)
            prior = logistic_tail(scale, quantiser_steps(second))
            rows.append(fitted_table((one_sign * total + prior * PRIOR) / (total + PRIOR)))
    odds = flag_logit(torch.arange(FLAG_TABLES, dtype=torch.float64))
    flags = [flag_table(each) for each in odds.tolist()]
    return as_arrays(rows[: TABLES - 1] + flags + rows[TABLES - 1 :])
