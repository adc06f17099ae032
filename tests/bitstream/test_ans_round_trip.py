import concurrent.futures
import hashlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ladder import draw, laplace_tables

from mvmic_codec.bitstream import ans
from mvmic_codec.errors import InputError

TABLES = ans.Tables(*laplace_tables(12))
EMPTY = (np.zeros(0, np.int16), np.zeros(0, np.uint8))


def decode(lanes, passes, tables=TABLES):
    decoder = ans.Decoder(lanes, tables)
    symbols = [decoder.decode(indices) for _, indices in passes]
    decoder.finish()
    return symbols


def check(passes, lanes, tables=TABLES):
    coded = ans.encode(passes, tables, lanes)
    assert len(coded) == lanes
    for (expected, _), found in zip(passes, decode(coded, passes, tables), strict=True):
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, expected)
    return coded


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 1023, 1024, 1025, 5000])
def test_any_length_survives(lanes, size):
    check([draw(np.random.default_rng(size), 12, size)], lanes)


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_lanes_carry_on_over_passes_of_odd_lengths(lanes):
    rng = np.random.default_rng(1)
    check([draw(rng, 12, size) for size in (5, 0, 1, 1, 1030, 3, 2048, 0)], lanes)


def test_cutting_into_passes_does_not_change_the_bytes():
    symbols, indices = draw(np.random.default_rng(2), 12, 3000)
    whole = ans.encode([(symbols, indices)], TABLES, 4)
    cut = [(symbols[a:b], indices[a:b]) for a, b in ((0, 1), (1, 1), (1, 1500), (1500, 3000))]
    assert ans.encode(cut, TABLES, 4) == whole


@settings(deadline=None, max_examples=150)
@given(data=st.data(), lanes=st.sampled_from(ans.LANE_COUNTS))
def test_any_symbols_survive(data, lanes):
    coded = st.tuples(st.integers(-32768, 32767), st.integers(1, 11))
    near = st.tuples(st.integers(-3, 3), st.integers(1, 11))
    pairs = st.lists(st.one_of(coded, near, st.just((0, 0))), max_size=60)
    passes = []
    for pairs_of_pass in data.draw(st.lists(pairs, max_size=4)):
        table = np.array(pairs_of_pass, np.int64).reshape(-1, 2)
        passes.append((table[:, 0].astype(np.int16), table[:, 1].astype(np.uint8)))
    check(passes, lanes)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_table_survives(data):
    half = data.draw(st.integers(0, 40))
    inner = st.sets(st.integers(1, 4095), min_size=2 * half + 1, max_size=2 * half + 1)
    cdf = np.array([[0] * (2 * half + 3), [0, *sorted(data.draw(inner)), 4096]], np.uint16)
    tables = ans.Tables(np.array([0, half], np.uint16), cdf)
    symbols = np.arange(-half - 2, half + 3, dtype=np.int16).repeat(30)
    np.random.default_rng(half).shuffle(symbols)
    check([(symbols, np.ones(len(symbols), np.uint8))], data.draw(st.sampled_from((1, 4))), tables)


def test_every_frequency_divides_exactly():
    """Frequencies 1 to 4094 at many states: the reciprocal must never be one off."""
    rng = np.random.default_rng(3)
    for freq in [*range(1, 40), *range(40, 4095, 61), 2047, 2048, 2049, 4093, 4094]:
        cdf = np.array([[0, 0, 0], [0, freq, 4096]], np.uint16)
        tables = ans.Tables(np.zeros(2, np.uint16), cdf)
        symbols = (rng.random(200) < 0.2).astype(np.int16) * 300
        check([(symbols, np.ones(200, np.uint8))], 1, tables)


@pytest.mark.parametrize("symbol", [-32768, -32767, -1024, 1024, 32767, 255, 256, -256, -1])
def test_escapes_hold_any_int16(symbol):
    tables = ans.Tables(np.zeros(2, np.uint16), np.array([[0] * 3, [0, 4095, 4096]], np.uint16))
    symbols = np.full(9, symbol, np.int16)
    check([(symbols, np.ones(9, np.uint8))], 2, tables)


def test_widest_alphabet():
    half = ans.Tables(
        np.array([0, 1023], np.uint16),
        np.stack([np.zeros(2049), np.append(np.arange(2048), 4096)]).astype(np.uint16),
    )
    symbols = np.arange(-1030, 1031, dtype=np.int16)
    check([(symbols, np.ones(len(symbols), np.uint8))], 4, half)


@pytest.mark.parametrize("size", [1, 2, 8, 9, 40001])
def test_the_dearest_symbols_stay_under_a_word_each(size):
    """The encoder's buffers count on it: an escape of frequency 1 is 28 bits, 24 more at first."""
    tables = ans.Tables(np.zeros(2, np.uint16), np.array([[0] * 3, [0, 4095, 4096]], np.uint16))
    symbols = np.full(size, -1, np.int16)
    for lanes in ans.LANE_COUNTS:
        coded = check([(symbols, np.ones(size, np.uint8))], lanes, tables)
        assert max(len(lane) for lane in coded) <= 4 * (-(-size // lanes) + 1)


def test_skipped_symbols_cost_nothing():
    skipped = (np.zeros(1000, np.int16), np.zeros(1000, np.uint8))
    assert check([skipped, skipped], 4) == [b""] * 4
    pair = draw(np.random.default_rng(4), 12, 500)
    assert check([skipped, pair], 4) == ans.encode([pair], TABLES, 4)


@pytest.mark.parametrize("size", [15, 16, 17, 47, 48, 1024, 1041])
def test_one_coded_symbol_among_skipped_ones_is_found_anywhere(size):
    for place in {0, 7, 15, 16, 17, 31, 46, size - 2, size - 1} & set(range(size)):
        symbols, indices = np.zeros(size, np.int16), np.zeros(size, np.uint8)
        symbols[place], indices[place] = -5, 7
        assert check([(symbols, indices)], 1) == ans.encode(
            [(symbols[place:][:1], indices[place:][:1])], TABLES, 1
        )
        with pytest.raises(InputError, match="skipped"):
            ans.encode([(symbols, indices * 0)], TABLES, 1)
        with pytest.raises(InputError, match="table index"):
            ans.encode([(symbols, indices * 2)], TABLES, 1)
        with pytest.raises(InputError, match="table index"):
            ans.Decoder([b""], TABLES).decode(indices * 2)


def test_nothing_to_code_is_no_bytes():
    assert check([], 1) == [b""]
    assert check([EMPTY, EMPTY], 8) == [b""] * 8


def test_only_row_zero_is_enough_when_all_is_skipped():
    tables = ans.Tables(np.array([9], np.uint16), np.zeros((1, 0), np.uint16))
    check([(np.zeros(5, np.int16), np.zeros(5, np.uint8))], 1, tables)
    assert tables.count == 1


def test_the_caller_may_change_its_tables_afterwards():
    half, cdf = laplace_tables(12)
    tables = ans.Tables(half, cdf)
    pair = draw(np.random.default_rng(5), 12, 2000)
    before = ans.encode([pair], tables, 1)
    half[:] = 1023
    cdf[:] = 0
    assert ans.encode([pair], tables, 1) == before


def test_read_only_and_strided_arrays_are_accepted():
    symbols, indices = draw(np.random.default_rng(6), 12, 2000)
    symbols.flags.writeable = indices.flags.writeable = False
    check([(symbols[::3], indices[::3])], 2)


def test_output_is_stable():
    """Files are for ever: this hash may only change with the container version."""
    rng = np.random.Generator(np.random.PCG64(7))
    indices = (np.arange(4000) * 7 % 12).astype(np.uint8)
    symbols = (rng.integers(0, 41, 4000) - 20).astype(np.int16)
    symbols[indices == 0] = 0
    half = np.array([0] + [5] * 11, np.uint16)
    row = np.array([0, 1, 40, 200, 700, 1500, 2600, 3400, 3900, 4050, 4090, 4093, 4096], np.uint16)
    lanes = ans.encode([(symbols, indices)], ans.Tables(half, np.tile(row, (12, 1))), 4)
    digest = hashlib.sha256(b"|".join(lanes)).hexdigest()
    assert digest == "9deaa85b1f2a5cc16a382e9ac101d338b6bd0f0f76b29b413119442c72874916"


def test_eight_threads_write_and_read_the_same():
    rng = np.random.default_rng(8)
    passes = [draw(rng, 12, 20000) for _ in range(3)]
    expected = ans.encode(passes, TABLES, 4)
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(5):
            assert ans.encode(passes, TABLES, 4) == expected
            for (symbols, _), found in zip(passes, decode(expected, passes), strict=True):
                assert (symbols == found).all()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result()


def test_one_decoder_shared_by_threads_stays_whole():
    """Which thread gets which part is chance; together they get every part once."""
    symbols = np.random.default_rng(9).integers(-2, 3, 80000).astype(np.int16)
    indices = np.full(80000, 6, np.uint8)
    decoder = ans.Decoder(ans.encode([(symbols, indices)], TABLES, 8), TABLES)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda part: decoder.decode(part).tobytes(), np.split(indices, 8)))
    decoder.finish()
    assert sorted(parts) == sorted(part.tobytes() for part in np.split(symbols, 8))


def test_estimate_is_what_is_written():
    pair = draw(np.random.default_rng(10), 12, 30000)
    for lanes in ans.LANE_COUNTS:
        written = sum(len(lane) for lane in ans.encode([pair], TABLES, lanes))
        estimated = ans.estimate_bits(*pair, TABLES) / 8
        assert abs(written - estimated) <= 8 * lanes


def test_estimate_by_hand():
    tables = ans.Tables(np.zeros(2, np.uint16), np.array([[0] * 3, [0, 1024, 4096]], np.uint16))
    symbols = np.array([0, 0, 5], np.int16)
    escape = -np.log2(3 / 4) + 16
    assert ans.estimate_bits(symbols, np.array([1, 0, 1], np.uint8), tables) == pytest.approx(
        2 + escape
    )


SYMBOLS = np.zeros(3, np.int16)
INDICES = np.ones(3, np.uint8)


@pytest.mark.parametrize(
    ("symbols", "indices", "words"),
    [
        (SYMBOLS.astype(np.int32), INDICES, "int16"),
        (SYMBOLS, INDICES.astype(np.int64), "uint8"),
        (SYMBOLS.tolist(), INDICES, "list"),
        (SYMBOLS.reshape(3, 1), INDICES, "1-D"),
        (SYMBOLS, INDICES[:2], "3 symbols"),
        (SYMBOLS, INDICES * 12, "table index"),
        (SYMBOLS + np.int16(1), INDICES * 0, "skipped"),
    ],
)
def test_bad_passes_are_named(symbols, indices, words):
    with pytest.raises(InputError, match=words):
        ans.encode([(symbols, indices)], TABLES, 1)
    with pytest.raises(InputError, match=words):
        ans.estimate_bits(symbols, indices, TABLES)


@pytest.mark.parametrize("lanes", [-1, 0, 3, 5, 16])
def test_bad_lane_counts_are_named(lanes):
    with pytest.raises(InputError, match="lanes"):
        ans.encode([], TABLES, lanes)
    with pytest.raises(InputError, match="lanes"):
        ans.Decoder([b""] * max(lanes, 0), TABLES)


def test_bad_index_when_decoding_is_named():
    decoder = ans.Decoder([b""], TABLES)
    with pytest.raises(InputError, match="table index"):
        decoder.decode(np.full(2000, 12, np.uint8))


@pytest.mark.parametrize(
    ("half", "row", "words"),
    [
        (1, [0, 1, 2, 3, 4095], "0 to 4096"),
        (1, [1, 2, 3, 4, 4096], "0 to 4096"),
        (1, [0, 2, 2, 3, 4096], "at least 1"),
        (1, [0, 3, 2, 5, 4096], "at least 1"),
        (2, [0, 1, 2, 3, 4096], "columns"),
        (1024, [0, 1, 2, 3, 4096], "1023"),
    ],
)
def test_bad_tables_are_named(half, row, words):
    with pytest.raises(InputError, match=words):
        ans.Tables(np.array([0, half], np.uint16), np.array([row, row], np.uint16))


@pytest.mark.parametrize(
    ("half", "cdf"),
    [
        (np.zeros(2, np.int32), np.zeros((2, 3), np.uint16)),
        (np.zeros(2, np.uint16), np.zeros((2, 3), np.int64)),
        (np.zeros(2, np.uint16), np.zeros(6, np.uint16)),
        (np.zeros(3, np.uint16), np.zeros((2, 3), np.uint16)),
        (np.zeros(0, np.uint16), np.zeros((0, 3), np.uint16)),
        (np.zeros(257, np.uint16), np.zeros((257, 3), np.uint16)),
    ],
)
def test_tables_of_the_wrong_shape_or_type(half, cdf):
    with pytest.raises(InputError):
        ans.Tables(half, cdf)
