"""Speed of the ANS coder against constriction's, in one run on the same symbols.

    pytest benchmarks/bench_ans.py --benchmark-enable

is a smoke size; MVMIC_BENCH_SYMBOLS=1000000 gives figures worth keeping. `ns_per_symbol` among the
extra information counts coded symbols only. constriction codes each table's symbols in one call,
its fastest way, and so in another order than ours; the amount of work is the same.
"""

import os

import constriction
import numpy as np
import pytest
from ladder import draw, laplace_tables

from mvmic_codec import ans

SIZE = int(os.environ.get("MVMIC_BENCH_SYMBOLS", "20000"))
TABLE_COUNT = 32
HALF, CDF = laplace_tables(TABLE_COUNT)
TABLES = ans.Tables(HALF, CDF)
SKIPS = (0.0, 0.7)


def symbols_of(skip):
    """Symbols without escapes, which constriction's models here have no code for."""
    symbols, indices = draw(np.random.default_rng(0), TABLE_COUNT, SIZE, skip=skip)
    half = np.where(indices == 0, 0, HALF[indices]).astype(np.int16)
    return np.clip(symbols, -half, half), indices


def report(benchmark, indices):
    if benchmark.stats is not None:
        coded = max(int(np.count_nonzero(indices)), 1)
        benchmark.extra_info["ns_per_symbol"] = round(1e9 * benchmark.stats["min"] / coded, 2)


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_encode(benchmark, lanes, skip):
    symbols, indices = symbols_of(skip)
    benchmark(ans.encode, [(symbols, indices)], TABLES, lanes)
    report(benchmark, indices)


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_decode(benchmark, lanes, skip):
    symbols, indices = symbols_of(skip)
    coded = ans.encode([(symbols, indices)], TABLES, lanes)
    found = benchmark(lambda: ans.Decoder(coded, TABLES).decode(indices))
    np.testing.assert_array_equal(found, symbols)
    report(benchmark, indices)


def constriction_models():
    models = []
    for t in range(1, TABLE_COUNT):
        row = CDF[t, : 2 * int(HALF[t]) + 3].astype(np.float64)
        models.append(constriction.stream.model.Categorical(np.diff(row), perfect=False))
    return models


def constriction_groups(symbols, indices):
    return [symbols[indices == t].astype(np.int32) + int(HALF[t]) for t in range(1, TABLE_COUNT)]


def constriction_encode(groups, models):
    coder = constriction.stream.stack.AnsCoder()
    for group, model in zip(groups[::-1], models[::-1], strict=True):
        coder.encode_reverse(group, model)
    return coder.get_compressed()


@pytest.mark.parametrize("skip", SKIPS)
def test_constriction_encode(benchmark, skip):
    symbols, indices = symbols_of(skip)
    benchmark(constriction_encode, constriction_groups(symbols, indices), constriction_models())
    report(benchmark, indices)


@pytest.mark.parametrize("skip", SKIPS)
def test_constriction_decode(benchmark, skip):
    symbols, indices = symbols_of(skip)
    groups = constriction_groups(symbols, indices)
    models = constriction_models()
    coded = constriction_encode(groups, models)

    def decode():
        coder = constriction.stream.stack.AnsCoder(coded)
        return [
            coder.decode(model, len(group)) for model, group in zip(models, groups, strict=True)
        ]

    for expected, found in zip(groups, benchmark(decode), strict=True):
        np.testing.assert_array_equal(found, expected)
    report(benchmark, indices)
