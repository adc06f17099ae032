"""constriction as the second, independent coder: it must read what we write and the reverse."""

import constriction
import numpy as np
import pytest
from ladder import draw, laplace_tables

from mvmic_codec.bitstream import ans

AnsCoder = constriction.stream.stack.AnsCoder
Categorical = constriction.stream.model.Categorical
BYTE = constriction.stream.model.Uniform(256)

HALF, CDF = laplace_tables(24)
TABLES = ans.Tables(HALF, CDF)


def exact_model(cumulative):
    """The model whose integer table is `cumulative` * 2^12, to the unit.

    Categorical gives each of its n entries one unit of 2^-24 first and shares out the rest by p;
    taking those units off before makes the sum come out as wanted. The 1e-10 is far under a unit
    (6e-8) and keeps a value from being rounded down to the unit below.
    """
    n = len(cumulative) - 1
    shares = (cumulative.astype(np.float64) * 4096 - np.arange(n + 1)) / (2**24 - n)
    shares[1:-1] += 1e-10
    return Categorical(np.diff(shares), perfect=False)


def models(half, cdf):
    return [None] + [exact_model(cdf[t, : 2 * int(half[t]) + 3]) for t in range(1, len(half))]


MODELS = models(HALF, CDF)


def lane_of(pair, lane, lanes):
    symbols, indices = pair
    coded = indices != 0
    return symbols[coded][lane::lanes], indices[coded][lane::lanes]


def constriction_decode(data, indices, half, models):
    coder = AnsCoder(np.frombuffer(data, "<u4").astype(np.uint32))
    symbols = []
    for index in indices:
        entry = coder.decode(models[index])
        if entry == 2 * half[index] + 1:
            high = coder.decode(BYTE)
            bits = high << 8 | coder.decode(BYTE)
            symbols.append(bits - 65536 if bits >= 32768 else bits)
        else:
            symbols.append(entry - int(half[index]))
    assert coder.is_empty()
    return symbols


def constriction_encode(symbols, indices, half, models):
    coder = AnsCoder()
    for symbol, index in zip(symbols[::-1].tolist(), indices[::-1].tolist(), strict=True):
        entry = symbol + int(half[index])
        lost_on_empty_lane = entry == 0 and coder.is_empty()
        if not 0 <= entry <= 2 * half[index] or lost_on_empty_lane:
            coder.encode_reverse(symbol & 255, BYTE)
            coder.encode_reverse(symbol >> 8 & 255, BYTE)
            entry = 2 * int(half[index]) + 1
        coder.encode_reverse(entry, models[index])
    return coder.get_compressed().astype("<u4").tobytes()


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
@pytest.mark.parametrize("size", [0, 1, 3, 40, 3001])
def test_every_lane_is_a_plain_constriction_stream(lanes, size):
    pair = draw(np.random.default_rng(size), 24, size)
    for lane, data in enumerate(ans.encode([pair], TABLES, lanes)):
        symbols, indices = lane_of(pair, lane, lanes)
        assert constriction_decode(data, indices, HALF, MODELS) == symbols.tolist()


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_constriction_writes_the_same_bytes_and_we_read_them(lanes):
    pair = draw(np.random.default_rng(1), 24, 3001)
    data = [constriction_encode(*lane_of(pair, lane, lanes), HALF, MODELS) for lane in range(lanes)]
    assert data == ans.encode([pair], TABLES, lanes)
    decoder = ans.Decoder(data, TABLES)
    np.testing.assert_array_equal(decoder.decode(pair[1]), pair[0])
    decoder.finish()


@pytest.mark.parametrize("seed", range(8))
def test_the_integer_tables_agree_entry_by_entry(seed):
    """Random tables down to frequency 1, each entry coded alone and many times over.

    A table off by one unit of 2^-24 anywhere gives other words.
    """
    rng = np.random.default_rng(seed)
    half = int(rng.choice([0, 1, 2, 9, 60, 300, 1023]))
    inner = np.sort(rng.choice(np.arange(1, 4096), 2 * half + 1, replace=False))
    row = np.concatenate([[0], inner, [4096]]).astype(np.uint16)
    half_and_skip = np.array([0, half], np.uint16)
    tables = ans.Tables(half_and_skip, np.stack([row, row]))
    second = [None, exact_model(row)]
    symbols = np.arange(-half, half + 2, dtype=np.int16).repeat(3)
    rng.shuffle(symbols)
    indices = np.ones(len(symbols), np.uint8)
    ours = ans.encode([(symbols, indices)], tables, 1)[0]
    assert ours == constriction_encode(symbols, indices, half_and_skip, second)
    assert constriction_decode(ours, indices, half_and_skip, second) == symbols.tolist()


def test_a_last_symbol_that_constriction_would_lose_is_escaped():
    symbols = np.array([0, -int(HALF[5]), -int(HALF[5])], np.int16)
    indices = np.full(3, 5, np.uint8)
    (ours,) = ans.encode([(symbols, indices)], TABLES, 1)
    assert ours == constriction_encode(symbols, indices, HALF, MODELS)
    assert constriction_decode(ours, indices, HALF, MODELS) == symbols.tolist()
