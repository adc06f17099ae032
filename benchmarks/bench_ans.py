"""Speed of the ANS coder against constriction's, in one run on the same symbols.

    pytest benchmarks/bench_ans.py --benchmark-enable

is a smoke size; MVMIC_BENCH_SYMBOLS=10000000 gives figures worth keeping. Tables are those of the
model of colour images. "even" draws a table for each symbol, all alike, and a symbol from that
table by its probabilities; "image" repeats the places of one real image (skimage's fundus
photograph, q = 3) in their order, skipped ones included. `ns_per_place` among the extra
information counts all places, `ns_per_symbol` the coded ones only. constriction codes each table's
symbols in one call, its fastest way, and so in another order than ours, and need not find out
which places are skipped.
"""

import os

import constriction
import numpy as np
import pytest
import skimage.data
import torch
from safetensors.numpy import load_file

from mvmic_codec.bitstream import ans
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.identity import find_identity, model_identity
from mvmic_codec.model.loaded import load

SIZE = int(os.environ.get("MVMIC_BENCH_SYMBOLS", "20000"))
RATE_INDEX = 18  # q = 3
DRAWS = ("even", "image")
_, WEIGHTS = find_identity(model_identity(gray=False)[1])
ARRAYS = load_file(WEIGHTS)
HALF, CDF = ARRAYS["entropy.table_half"], ARRAYS["entropy.table_cdf"]
TABLES = ans.Tables(HALF, CDF)
TABLE_COUNT = len(HALF)


def draw_evenly(rng):
    indices = rng.integers(1, TABLE_COUNT, SIZE).astype(np.uint8)
    symbols = np.zeros(SIZE, np.int16)
    for t in range(1, TABLE_COUNT):
        mine = np.flatnonzero(indices == t)
        # Without the escape, which constriction's models here have no code for.
        row = CDF[t, : 2 * int(HALF[t]) + 2]
        symbols[mine] = np.searchsorted(row, rng.integers(0, row[-1], len(mine)), "right") - 1
    return symbols - np.where(indices == 0, 0, HALF[indices]).astype(np.int16), indices


def of_an_image():
    side = 1344 if SIZE > 1_000_000 else 192
    picture = skimage.data.retina()[:side, :side].transpose(2, 0, 1) / 255.0
    release = load(model_identity(gray=False)[1], "cpu")
    with full_precision(release.device), torch.no_grad():
        encoder = Encoder(release, picture.astype(np.float32), RATE_INDEX)
        passes = encoder.encode_two_pass().passes
    coded = [each.coded() for each in passes]
    symbols, indices = (np.concatenate(arrays) for arrays in zip(*coded, strict=True))
    half = np.where(indices == 0, 0, HALF[indices]).astype(np.int16)
    repeats = -(-SIZE // len(symbols))
    return np.tile(np.clip(symbols, -half, half), repeats)[:SIZE], np.tile(indices, repeats)[:SIZE]


@pytest.fixture(scope="module", params=DRAWS)
def places(request):
    return draw_evenly(np.random.default_rng(0)) if request.param == "even" else of_an_image()


def report(benchmark, indices):
    if benchmark.stats is not None:
        nanoseconds = 1e9 * benchmark.stats["min"]
        coded = int(np.count_nonzero(indices))
        benchmark.extra_info["ns_per_symbol"] = round(nanoseconds / coded, 2)
        benchmark.extra_info["ns_per_place"] = round(nanoseconds / len(indices), 2)


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_encode(benchmark, lanes, places):
    benchmark(ans.encode, [places], TABLES, lanes)
    report(benchmark, places[1])


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_decode(benchmark, lanes, places):
    symbols, indices = places
    coded = ans.encode([places], TABLES, lanes)
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


def test_constriction_encode(benchmark, places):
    benchmark(constriction_encode, constriction_groups(*places), constriction_models())
    report(benchmark, places[1])


def test_constriction_decode(benchmark, places):
    groups = constriction_groups(*places)
    models = constriction_models()
    coded = constriction_encode(groups, models)

    def decode():
        coder = constriction.stream.stack.AnsCoder(coded)
        return [
            coder.decode(model, len(group)) for model, group in zip(models, groups, strict=True)
        ]

    for expected, found in zip(groups, benchmark(decode), strict=True):
        np.testing.assert_array_equal(found, expected)
    report(benchmark, places[1])
