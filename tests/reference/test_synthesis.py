"""Synthesis of formats/reference/decode.py against the package's, and what the page says of it."""

import json
import re
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import decode as reference
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from small_model import SMALL, crops

from mvmic_codec.model.arrays import synthesis_arrays
from mvmic_codec.model.calibrate import ranges_of
from mvmic_codec.model.definition import COLOUR_MATRIX
from mvmic_codec.model.identity import COLOUR_MODEL, GRAY_MODEL
from mvmic_codec.model.integer_synthesis import IntegerSynthesis, samples_of
from mvmic_codec.model.integerise_synthesis import integerise_synthesis
from mvmic_codec.model.trainable import model_of

TEXT = (Path(__file__).parents[2] / "formats/model.md").read_text(encoding="utf-8")
SECTION_9 = TEXT[TEXT.index("## 9. Synthesis") : TEXT.index("## 10. Bounds")]
ROWS = re.findall(r"^\| `(\S+)` \| (int\w+) \| ([^|]+) \|", SECTION_9, re.MULTILINE)
SITES = 8, 12


LARGEST_INPUTS = {
    "enter": 2**13 - 1,
    "up": 2**13,
    "inject": 2**13 - 1,
    "leave": 2**13,
    "body16.0.first": 2**12,
    "body16.0.second": 2**13 - 1,
    "body8.0.first": 2**12,
    "body8.0.second": 2**13 - 1,
    "retouch.enter": 2**13 - 1,
    "retouch.first": 2**13,
    "retouch.second": 2**13 - 1,
    "retouch.leave": 2**13,
}


@pytest.fixture(scope="module")
def synthesis(released_folder):
    """By channels: the arrays of a small model's synthesis, as a weights file has them."""
    made = {}
    for channels, name in ((1, GRAY_MODEL), (3, COLOUR_MODEL)):
        model = model_of(released_folder / f"{name}.safetensors")
        ranges = ranges_of(model, crops(channels, count=1))
        arrays, _ = integerise_synthesis(model.synthesis, model.blocks, ranges)
        made[channels] = {f"synthesis.{name}": each.numpy() for name, each in arrays.items()}
        reference.check_synthesis(made[channels], shape_of(channels))
    return made


@pytest.fixture
def arrays(synthesis):
    """Those of the model for colour, to be changed."""
    return {name: array.copy() for name, array in synthesis[3].items()}


def largest_sum(weight):
    """Of an output, that of 3x3 layers four times over."""
    return (2**29 if weight.shape[2] == 3 else 2**31) - 1


def shape_of(channels):
    return {field: int(value) for field, value in asdict(SMALL[channels]).items()}


def stages(arrays, channels, rate, y3, modes):
    """Stages by the package: X, the linear picture, M and O. y3 [C,h,w], modes [h,w]."""
    shape = SMALL[channels]
    net = IntegerSynthesis(
        {name: torch.from_numpy(each) for name, each in synthesis_arrays(arrays).items()},
        torch.device("cpu"),
    )
    far = shape.near + 256 - shape.near_luma
    order = np.r_[: shape.near_luma, shape.near : far, shape.near_luma : shape.near, far : len(y3)]
    modes = torch.from_numpy(modes)[None]
    X = net.coefficients(torch.from_numpy(y3[order]).permute(1, 2, 0)[None], modes)
    linear = net.linear_planes(X)
    a = net.enter16(X, modes, rate)
    for block in net.body16:
        a = block(a)
    b = net.enter8(a, linear, rate)
    for block in net.body8:
        b = block(b)
    M = net.leave8(b, linear)
    return X, linear, M, net.retouch(M, rate)


def latent(channels, seed, kind):
    """y3 and modes at SITES."""
    rng = np.random.default_rng(seed)
    modes = rng.integers(0, 8, SITES)
    shape = SMALL[channels].latent, *SITES
    if kind == "wild":
        return rng.choice([-32768, 32767], shape).astype(np.int16), modes
    return (rng.normal(size=shape) * 250).astype(np.int16), modes


@pytest.mark.parametrize("rate", [0, 29, 63])
@pytest.mark.parametrize("kind", ["lively", "wild"])
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_to_the_bit(synthesis, channels, kind, rate):
    y3, modes = latent(channels, rate, kind)
    X, linear, M, expected = stages(synthesis[channels], channels, rate, y3, modes)
    planes = reference.synthesise(
        synthesis[channels], shape_of(channels), rate, y3, modes.astype(np.int64)
    )
    assert planes.dtype == np.int64
    assert np.array_equal(planes, expected[0].numpy())
    # Every stage has its say.
    assert not torch.equal(M, linear) and not torch.equal(expected, M)
    assert (X.abs() >= 2**15 - 1).any() == (kind == "wild")
    size = 16 * SITES[0] - 5, 16 * SITES[1] - 7
    for bits, lo, hi in ((8, 0, 255), (16, 0, 65535), (16, -32768, 32767), (12, 7, 7)):
        head = head_of(channels, bits, lo, hi)
        samples = reference.to_samples(head, reference.to_range(planes, size))
        seen = expected[..., : size[0], : size[1]]
        assert np.array_equal(samples, samples_of(seen, lo, hi).numpy())
        assert samples.min() >= lo and samples.max() <= hi
        if kind == "lively" and hi > lo:
            assert np.mean((samples > lo) & (samples < hi)) > 0.3


def head_of(channels, bits=8, lo=0, hi=255):
    return reference.Head(
        version=2,
        rate_index=18,
        photometric=0 if channels == 1 else reference.RGB,
        signed=int(lo < 0),
        bits=bits,
        generation=1,
        fingerprint=b"",
        width=4,
        height=3,
        lo=lo,
        hi=hi,
    )


def test_products_are_rounded_halves_up():
    sums, halves = np.array([[[-3, -2, -1, 1, 2, 3]]]), np.array([2**31])
    assert reference.rq(sums, halves).tolist() == [[[-1, -1, 0, 1, 1, 2]]]


def test_numbers_of_samples():
    """A plane in 2^-12 of the 255 scale, and the range in 2^-42."""
    numbers = [int(re.findall(rf"{name} = (\d+)", SECTION_9)[0]) for name in ("c3", "c2", "c6")]
    assert numbers == [round(2**30 / 255 / root**0.5) for root in (3, 2, 6)]
    assert tuple(numbers) == COLOUR_MATRIX[0]


def test_numbers_of_places():
    """The mean of four numbers at each of n places, at a corner, an edge and within."""
    factors = re.search(r"E = (.*) for n = (.*?)  ", SECTION_9).groups()
    for factor, n in zip(*(map(int, each.split(", ")) for each in factors), strict=True):
        assert factor == round(2**26 / (4 * n))
        assert f"({n}, {factor})" in Path(reference.__file__).read_text(encoding="utf-8")


# --- The weights file -----------------------------------------------------------------------------


def size_of(word, shape):
    """A size as the page writes it: 64, 256J, 4b, C-256."""
    if word == "C-256":
        return shape.chroma
    number, letter = re.fullmatch(r"(\d*)([A-Za-z]?)", word).groups()
    sizes = {"": 1, "J": shape.planes, "a": shape.width16, "b": shape.width8, "g": shape.width2}
    return int(number or 1) * sizes[letter]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_array_is_described(synthesis, channels):
    shape = SMALL[channels]
    blocks = {"body16": shape.blocks16, "body8": shape.blocks8}
    described = {}
    for name, kind, sizes in ROWS:
        body = name.split(".")[0]
        names = [name.replace(".k.", f".{k}.") for k in range(blocks.get(body, 1))]
        for each in names:
            described[f"synthesis.{each}"] = (
                kind,
                tuple(size_of(word, shape) for word in sizes.split(", ")),
            )
    if channels == 1:
        described["synthesis.chroma"] = "int16", (0, 0)
    arrays = synthesis[channels]
    assert {name: (str(each.dtype), each.shape) for name, each in arrays.items()} == described
    of_reference = reference.synthesis_arrays(shape_of(channels))
    assert {f"synthesis.{name}": each for name, each in of_reference.items()} == described


def write_model(path, weights_path, channels, synthesis):
    """A decoder's file, whatever it holds named by its own fingerprint."""
    arrays = {k: v for k, v in load_file(weights_path).items() if k.startswith("entropy.")}
    arrays |= synthesis
    shape = shape_of(channels)
    types = {name: str(array.dtype) for name, array in arrays.items()}
    fingerprint = reference.compute_fingerprint(shape, arrays, types)
    identity = {"shape": shape, "fingerprint": fingerprint.hex()}
    save_file(arrays, path, {"identity": json.dumps(identity)})
    return fingerprint


@pytest.mark.parametrize("channels", [1, 3])
def test_a_decoders_file_is_read(synthesis, weights_path, tmp_path, channels):
    path = tmp_path / "model.safetensors"
    fingerprint = write_model(path, weights_path, channels, synthesis[channels])
    model = reference.load_model(path)
    assert model.fingerprint == fingerprint and model.shape == shape_of(channels)
    assert model.arrays.keys() >= synthesis[channels].keys()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("analysis.first.weight", np.zeros(3, np.int16), "analysis.first.weight is none of"),
        ("synthesis.body8.1.first.bias", np.zeros(8, np.int32), "is none of"),
        ("synthesis.leave.bias", np.zeros(192, np.int16), "is int16"),
        ("synthesis.leave.bias", np.zeros(64, np.int32), "is int32"),
        ("synthesis.leave.bias", np.zeros(192, np.float16), "F16"),
        ("synthesis.dct", np.full((16, 16), 4096, np.int16), "a column of dct"),
    ],
)
def test_other_arrays_are_refused(arrays, weights_path, tmp_path, name, array, message):
    path = tmp_path / "model.safetensors"
    write_model(path, weights_path, 3, arrays | {name: array})
    with pytest.raises(reference.ModelError, match=message):
        reference.load_model(path)


# --- Bounds ---------------------------------------------------------------------------------------


def at_a_column(array, total):
    array[:] = 0
    array[:, 3] = 4095
    array[0, 3] = total - 15 * 4095


def at_a_row(array, total):
    array[:] = 0
    array[3] = -4095
    array[3, 0] = total + 15 * 4095


def at_an_entry(array, value):
    array[(-1,) * array.ndim] = value


def at_a_weight(array, value):
    array[-1] = 0
    at_an_entry(array, value)


ENTRIES = [
    ("an entry of luma", at_an_entry, 2**14),
    ("an entry of luma", at_an_entry, -(2**14)),
    ("an entry of chroma", at_an_entry, 2**14),
    ("a column of dct", at_a_column, 2**16 - 1),
    ("a row of borders", at_a_row, -(2**16) + 1),
    ("a weight of body8.0.first", at_a_weight, 3640),
    ("a weight of retouch.enter", at_a_weight, -3640),
]


@pytest.mark.parametrize(("what", "change", "most"), ENTRIES)
def test_bounds_of_entries(arrays, what, change, most):
    name = f"synthesis.{what.split()[-1]}"
    array = arrays[f"{name}.weight" if "weight" in what else name]
    change(array, most)
    reference.check_synthesis(arrays, shape_of(3))
    change(array, most + int(np.sign(most)))
    with pytest.raises(reference.ModelError, match=f"{what} is too large"):
        reference.check_synthesis(arrays, shape_of(3))


def reach_the_sum(arrays, name, beyond):
    """Let the sum of a layer's last output be the largest allowed, or beyond."""
    weight = arrays[f"synthesis.{name}.weight"]
    reach, total = LARGEST_INPUTS[name], largest_sum(weight)
    last = weight[-1].reshape(-1)
    count = total // reach
    bias = arrays.get(f"synthesis.{name}.bias")
    if bias is None:
        # Only as near as whole weights come.
        count += beyond
    else:
        count = min(count, 3640 * last.size)
        bias[..., -1] = 0
        bias.reshape(-1)[-1] = -(total - reach * count) - beyond
    sizes = count // last.size + (np.arange(last.size) < count % last.size)
    last[:] = np.where(np.arange(last.size) % 2, sizes, -sizes)
    arrays[f"synthesis.{name}.multiplier"][..., -1] = 1


@pytest.mark.parametrize("name", LARGEST_INPUTS)
def test_bounds_of_sums(arrays, name):
    reach_the_sum(arrays, name, 0)
    reference.check_synthesis(arrays, shape_of(3))
    reach_the_sum(arrays, name, 1)
    with pytest.raises(reference.ModelError, match=f"a sum of {name} is too large"):
        reference.check_synthesis(arrays, shape_of(3))


def result_of(arrays, name, multiplier):
    """What the results of a layer's last output reach, which gets this multiplier at index 5."""
    arrays[f"synthesis.{name}.multiplier"][5, -1] = multiplier
    weights = arrays[f"synthesis.{name}.weight"][-1].astype(np.int64)
    total = LARGEST_INPUTS[name] * int(np.abs(weights).sum())
    if name == "enter":
        total += int(np.abs(arrays["synthesis.enter.bias"][:, -1].astype(np.int64)).max())
    return total * abs(multiplier) // 2**32 + 1


@pytest.mark.parametrize("name", ["enter", "up", "retouch.enter"])
def test_bounds_of_results(arrays, name):
    """That of `up` has those of `inject` added."""
    reach_the_sum(arrays, name, 0)
    most = result_of(arrays, name, -(2**31))
    if name == "up":
        reach_the_sum(arrays, "inject", 0)
        most += result_of(arrays, "inject", 2**31 - 2**20)
    arrays[f"synthesis.{name}.offset"][5, -1] = most - (2**31 - 1)
    reference.check_synthesis(arrays, shape_of(3))
    arrays[f"synthesis.{name}.offset"][5, -1] -= 1
    with pytest.raises(reference.ModelError, match=f"a result of {name} is too large"):
        reference.check_synthesis(arrays, shape_of(3))


# --- Blends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lo", "hi"), [(0, 255), (-32768, 32767), (3, 3)])
def test_blends_are_rounded_halves_up(lo, hi):
    """By fractions: between the sample and the colour."""
    rng = np.random.default_rng(0)
    m, b = rng.choice([0, 0, 1, 2], (12, 15)), rng.integers(0, 4, (12, 15))
    b[(m > 0) | (reference.neighbour(m) == 0)] = 0
    colours = np.array([[hi], [lo]])
    areas = reference.FlatAreas(2, colours, m, b)
    plain = rng.integers(lo, hi + 1, (1, 12, 15))
    samples = areas.blend(plain)
    beside = reference.neighbour(m)
    for i, j in np.ndindex(12, 15):
        s, c = int(plain[0, i, j]), int(colours[beside[i, j] - 1, 0])
        mixed = s + (c - s) * Fraction(int(b[i, j]), 4)
        assert samples[0, i, j] == (mixed + Fraction(1, 2)).__floor__()
    assert (samples != plain).any() == (hi > lo)
