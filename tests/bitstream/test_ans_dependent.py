"""Dependent passes: levels of two quantisers, each said by the levels before it."""

import itertools

import numpy as np
import pytest
from ladder import laplace_tables

from mvmic_codec.bitstream import ans
from mvmic_codec.encoder import trellis
from mvmic_codec.errors import InputError, TruncatedError

# Tables 1 to 11, and 12 to 22 for the second quantiser.
OFFSET = 11
HALF, CDF = laplace_tables(2 * OFFSET + 1)
LAPLACE = ans.Tables(HALF, CDF)
# As formats/ans.md has it.
NEXT_EVEN = (0, 2, 4, 6, 5, 7, 1, 3)
NEXT_ODD = (2, 0, 6, 4, 7, 5, 3, 1)


def levels_of(numbers, indices):
    """Symbols and tables of a pass, by the specification's words."""
    symbols, tables, state = [], [], 0
    for number, index in zip(numbers.tolist(), indices.tolist(), strict=True):
        if index == 0:
            symbols.append(0)
            tables.append(0)
            continue
        second = state >= 4
        symbol = 2 * number - int(np.sign(number)) * second
        symbols.append(max(-32767, min(32767, symbol)))
        tables.append(index + OFFSET * second)
        state = (NEXT_ODD if number % 2 else NEXT_EVEN)[state]
    return np.array(symbols, np.int16), np.array(tables, np.uint8)


def draw_numbers(size, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, OFFSET + 1, size).astype(np.uint8)
    numbers = np.rint(rng.laplace(scale=spread, size=size)).clip(-16383, 16383)
    return (numbers * (indices > 0)).astype(np.int16), indices


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
@pytest.mark.parametrize("size", [1, 2, 9, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("spread", [0.4, 3.0, 3000.0])
def test_levels_survive(size, lanes, spread):
    """Also where most of them are escapes."""
    numbers, indices = draw_numbers(size, size, spread)
    symbols, tables = levels_of(numbers, indices)
    resolved = ans.resolve(symbols, indices, OFFSET)
    np.testing.assert_array_equal(resolved[0], numbers)
    np.testing.assert_array_equal(resolved[1], tables)
    coded = ans.encode([resolved], LAPLACE, lanes)
    decoder = ans.Decoder(coded, LAPLACE)
    np.testing.assert_array_equal(decoder.decode(indices, OFFSET), symbols)
    decoder.finish()


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_every_pass_starts_anew(lanes):
    """And the lanes go on, from passes that are dependent to others and back."""
    passes = [draw_numbers(size, size) for size in (7, 30, 1, 200, 5)]
    whole = [levels_of(*each) for each in passes]
    coded = [
        (numbers, indices if k % 2 else whole[k][1]) for k, (numbers, indices) in enumerate(passes)
    ]
    decoder = ans.Decoder(ans.encode(coded, LAPLACE, lanes), LAPLACE)
    for k, (numbers, indices) in enumerate(passes):
        found = decoder.decode(indices, 0 if k % 2 else OFFSET)
        np.testing.assert_array_equal(found, numbers if k % 2 else whole[k][0])
    decoder.finish()


def test_the_example_of_the_specification():
    numbers = np.array([1, -1, 0, 3], np.int16)
    symbols = np.array([2, -2, 0, 6], np.int16)
    tables = np.array([1, 1, 4, 1], np.uint8)
    found = ans.resolve(symbols, np.ones(4, np.uint8), 3)
    np.testing.assert_array_equal(found[0], numbers)
    np.testing.assert_array_equal(found[1], tables)


@pytest.mark.parametrize("number", [16383, -16383, 16384, 32767, -32768])
def test_the_largest_levels(number):
    """What no encoder writes still has a meaning: levels stay within 16 bits."""
    numbers = np.array([2, 0, number, 1], np.int16)  # the third is in state 0, after 0 and 0
    indices = np.full(4, 5, np.uint8)
    symbols, tables = levels_of(numbers, indices)
    assert symbols[2] == max(-32767, min(32767, 2 * number))
    decoder = ans.Decoder(ans.encode([(numbers, tables)], LAPLACE, 1), LAPLACE)
    np.testing.assert_array_equal(decoder.decode(indices, OFFSET), symbols)
    decoder.finish()
    if abs(number) <= 16383:
        np.testing.assert_array_equal(ans.resolve(symbols, indices, OFFSET)[0], numbers)
    else:
        with pytest.raises(InputError, match="none of the levels"):
            ans.resolve(symbols, indices, OFFSET)


@pytest.mark.parametrize(
    ("symbols", "indices"),
    [
        ([1], [5]),  # odd, but the first quantiser comes first
        ([2, 2, 2], [5, 5, 5]),  # even, but not 0, in the second one
        ([2, 0, 32767], [5, 5, 5]),  # the number 16384 in the second one
        ([2, 0, 0], [5, 5, 250]),  # 250 + OFFSET is more than a byte
    ],
)
def test_what_no_encoder_may_ask_for(symbols, indices):
    arrays = np.array(symbols, np.int16), np.array(indices, np.uint8)
    with pytest.raises(InputError, match="none of the levels"):
        ans.resolve(*arrays, OFFSET)


def test_a_table_that_is_not_there_is_found_by_the_coder():
    resolved = ans.resolve(np.zeros(1, np.int16), np.array([250], np.uint8), OFFSET)
    with pytest.raises(InputError, match="number of tables"):
        ans.encode([resolved], LAPLACE, 1)


@pytest.mark.parametrize("lanes", ans.LANE_COUNTS)
def test_a_lane_that_runs_out(lanes):
    numbers, indices = draw_numbers(300)
    coded = ans.encode([(numbers, levels_of(numbers, indices)[1])], LAPLACE, lanes)
    with pytest.raises(TruncatedError, match="ran out"):
        ans.Decoder(coded, LAPLACE).decode(np.tile(indices, 10), OFFSET)


def test_tables_must_be_there_for_both_quantisers():
    """Even if the second one is never met."""
    decoder = ans.Decoder(ans.encode([draw_numbers(20)], LAPLACE, 1), LAPLACE)
    for index, second in ((OFFSET + 1, OFFSET), (10, 2**32 - 5)):
        with pytest.raises(InputError, match="number of tables"):
            decoder.decode(np.full(1, index, np.uint8), second)


def test_arrays_of_another_kind():
    symbols, indices = np.zeros(3, np.int16), np.ones(3, np.uint8)
    for wrong in ((symbols.astype(int), indices), (symbols, indices.astype(int))):
        with pytest.raises(InputError, match="must be a 1-D"):
            ans.resolve(*wrong, OFFSET)
    with pytest.raises(InputError, match="3 symbols but 2"):
        ans.resolve(symbols, indices[:2], OFFSET)
    nothing = ans.resolve(symbols[:0], indices[:0], OFFSET)
    assert [len(each) for each in nothing] == [0, 0]


def bits_by_magnitude():
    """[tables,M] of a number, the last column for all above."""
    bits = np.zeros((len(HALF), int(HALF[1:].max()) + 2), np.float32)
    for t in range(1, len(HALF)):
        half = int(HALF[t])
        row = 12 - np.log2(np.diff(CDF[t, : 2 * half + 3].astype(float)))
        bits[t] = row[-1] + 16
        bits[t, : half + 1] = row[half : 2 * half + 1]
    return bits


BITS = bits_by_magnitude()


def cost_of(numbers, symbols, positions, tables, prices, spacing):
    """Of one way to code a pass: bits, and squared errors at their price."""
    sizes = np.abs(numbers).clip(max=BITS.shape[1] - 1)
    error = np.square(positions - spacing * symbols) * prices / 2
    return float((BITS[tables, sizes] + error).sum())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("count", "scale", "reach", "price", "narrowest"),
    [(4, 1.3, 3, 20, 1), (5, 0.7, 2, 900, 1), (3, 2.5, 6, 10, 7)],
)
def test_no_other_levels_cost_less(seed, count, scale, reach, price, narrowest):
    """By all numbers up to `reach`.

    Of something far out of its table, at a low price, others might pay that are neither next to
    the position nor 0: they are not tried.
    """
    rng = np.random.default_rng(seed)
    spacing = float(rng.choice([0.5, 0.75, 1.0]))
    positions = rng.normal(scale=scale, size=count)
    indices = rng.integers(narrowest, OFFSET + 1, count).astype(np.uint8)
    prices = price * rng.uniform(0.1, 1, count)
    found = trellis.quantise(positions, indices, prices, BITS, spacing, OFFSET)
    ours = cost_of(*with_tables(found, indices, positions), prices, spacing)
    least = np.inf
    for numbers in itertools.product(range(-reach, reach + 1), repeat=count):
        numbers = np.array(numbers, np.int16)
        symbols, tables = levels_of(numbers, indices)
        least = min(least, cost_of(numbers, symbols, positions, tables, prices, spacing))
    assert ours == pytest.approx(least, rel=1e-6)


def with_tables(symbols, indices, positions):
    numbers, tables = ans.resolve(symbols, indices, OFFSET)
    return numbers, symbols, positions, tables


def test_positions_far_out_and_places_that_nothing_is_paid_for():
    positions = np.array([1e30, -1e30, 40_000.0, 0.2])
    indices = np.full(4, 3, np.uint8)
    found = trellis.quantise(positions, indices, np.full(4, 1e6), BITS, 0.5, OFFSET)
    assert found[0] > 30_000 and found[1] < -30_000
    ans.resolve(found, indices, OFFSET)
    free = trellis.quantise(positions, indices, np.zeros(4), BITS, 0.5, OFFSET)
    numbers, tables = ans.resolve(free, indices, OFFSET)
    assert (BITS[tables, abs(numbers)] < 1).all()
    assert len(trellis.quantise(positions[:0], indices[:0], positions[:0], BITS, 1.0, 1)) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"tables": np.ones(2, np.uint8)},
        {"tables": np.full(3, OFFSET + 1, np.uint8)},
        {"lambdas": np.ones(2)},
        {"spacing": 0.0},
        {"positions": np.array([0.0, np.nan, 1.0])},
        {"bits": BITS[:, :0]},
        {"second": 2 * OFFSET + 1},
    ],
)
def test_quantise_refuses(change):
    given = {
        "positions": np.zeros(3),
        "tables": np.ones(3, np.uint8),
        "lambdas": np.ones(3),
        "bits": BITS,
        "spacing": 0.5,
        "second": OFFSET,
    }
    assert trellis.quantise(**given).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="."):
        trellis.quantise(**(given | change))
