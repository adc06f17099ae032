"""The integer entropy model gives one answer, and it is the specification's."""

import contextlib
import math

import numpy as np
import pytest
import torch
from nets.reference import chroma_channels, decode_latent
from safetensors.numpy import load_file
from small_model import SMALL, picture

from mvmic_codec import codec
from mvmic_codec.errors import ModelError
from mvmic_codec.nets.entropy import PARTS, pass_sites
from mvmic_codec.nets.integer import LINEAR_BITS, IntegerEntropy, walk_modes

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
RATES = [0, 31, 63]
SIZES = [(1, 1), (64, 128), (63, 65), (130, 70)]
BITS = 6  # passes of bits of modes, before the parts
COLOUR = np.ones(SMALL.latent, bool)
GRAY = ~chroma_channels(SMALL.latent, SMALL.near_luma, SMALL.near_chroma)


class Recorder:
    """Coders that make up symbols and keep what they were asked."""

    def __init__(self, seed, spread=2.0):
        self.rng, self.spread = np.random.default_rng(seed), spread
        self.asked = []
        self.given = []

    def bits(self, half, bit, index):
        """Bits of a mode; files may say them with other numbers than 0 and 1."""
        assert len(self.given) == 3 * half + bit
        symbols = self.rng.choice([0, 1, 0, 1, -3, 5, -32768, 32767], index.shape) * (index > 0)
        self.asked.append(np.asarray(index, np.int64))
        self.given.append(symbols)
        return symbols

    def symbols(self, part, index, mean):
        assert len(self.given) == BITS + part
        index, mean = np.asarray(index, np.int64), np.asarray(mean, np.int64)
        symbols = np.round(self.rng.laplace(size=index.shape) * self.spread)
        symbols = np.clip(symbols, -32768, 32767).astype(np.int64) * (index > 0)
        self.asked += [index, mean]
        self.given.append(symbols)
        return symbols


class Playback:
    """Gives the recorded symbols back to the torch implementation, for each image of the batch."""

    def __init__(self, recorders, device="cpu", channels_last=False):
        self.recorders, self.device = recorders, device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.asked = []

    def give(self, number):
        symbols = torch.from_numpy(np.stack([r.given[number] for r in self.recorders]))
        return symbols.to(self.device).contiguous(memory_format=self.format)

    def modes(self, half, index):
        def bits(bit, table):
            self.asked.append(table.cpu().numpy())
            return self.give(3 * half + bit)

        return walk_modes(index, bits)

    def symbols(self, part, index, mean):
        self.asked += [index.cpu().numpy(), mean.cpu().numpy()]
        return self.give(BITS + part)


def hyper_symbols(size, seed, spread=3.0):
    rng = np.random.default_rng(seed)
    shape = (SMALL.hyper, math.ceil(size[0] / 64), math.ceil(size[1] / 64))
    return np.clip(np.round(rng.laplace(size=shape) * spread), -32768, 32767).astype(np.int64)


def inside_image(size):
    rows = np.arange(math.ceil(size[0] / 64) * 4) * 16 < size[0]
    columns = np.arange(math.ceil(size[1] / 64) * 4) * 16 < size[1]
    return torch.from_numpy(rows[:, None] & columns)


def entropy_arrays(path):
    prefix = "entropy."
    arrays = load_file(path).items()
    return {name[len(prefix) :]: array for name, array in arrays if name.startswith(prefix)}


def as_tensors(arrays):
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def run_reference(arrays, size, rate, live, seeds=(0,), spread=2.0):
    """Recorders, latents [N,C,h,w] and modes [N,h,w] of one made-up image for each seed."""
    recorders = [Recorder(seed, spread) for seed in seeds]
    results = [
        decode_latent(
            arrays, hyper_symbols(size, s, spread), rate, size, live, True, r.bits, r.symbols
        )
        for s, r in zip(seeds, recorders, strict=True)
    ]
    latents, modes = zip(*results, strict=True)
    return recorders, np.stack(latents), np.stack(modes)


def run_torch(
    arrays, size, rate, live, recorders, seeds=(0,), spread=2.0, device="cpu", channels_last=False
):
    """What the torch implementation asks for, its latents and modes."""
    entropy = IntegerEntropy(as_tensors(arrays), True, torch.device(device))
    z = torch.from_numpy(np.stack([hyper_symbols(size, seed, spread) for seed in seeds])).to(device)
    if channels_last:
        z = z.contiguous(memory_format=torch.channels_last)
    mask, inside = torch.from_numpy(live).to(device), inside_image(size).to(device)
    playback = Playback(recorders, device, channels_last)
    latent, modes = entropy.code(z, rate, mask, inside, playback.modes, playback.symbols)
    return playback.asked, latent.cpu().numpy(), modes.cpu().numpy()


def assert_same(reference, asked, latent, modes):
    recorders, latents, expected_modes = reference
    for k, recorder in enumerate(recorders):
        assert len(recorder.asked) == len(asked) == BITS + 2 * PARTS
        for ours, theirs in zip(asked, recorder.asked, strict=True):
            assert np.array_equal(ours[k], theirs)
    assert np.array_equal(modes, expected_modes)
    assert np.array_equal(latent, (latents / 16).astype(np.float32))


@pytest.fixture
def arrays(weights_path):
    return entropy_arrays(weights_path)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("live", [COLOUR, GRAY], ids=["colour", "gray"])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("size", SIZES)
def test_same_as_the_reference(arrays, size, rate, live, device):
    reference = run_reference(arrays, size, rate, live)
    assert_same(reference, *run_torch(arrays, size, rate, live, reference[0], device=device))


def test_the_made_up_case_is_not_trivial(arrays):
    """Else the tests of this file would hold for a model that says nothing."""
    (recorder,), latent, modes = run_reference(arrays, (130, 70), 31, COLOUR)
    for index in recorder.asked[:BITS]:
        assert index.max() >= 64 and len(np.unique(index)) > 4
    indices, means = recorder.asked[BITS::2], recorder.asked[BITS + 1 :: 2]
    for part, (index, mean) in enumerate(zip(indices, means, strict=True)):
        assert len(np.unique(index)) > 8
        assert mean.any() == (part % 2 == 0)
        assert part % 2 or len(np.unique(mean)) > 20
    assert len(np.unique(latent)) > 100
    assert set(np.unique(modes)) == set(range(8))
    assert len(np.unique(arrays["base_mode"])) > 20
    assert set(np.unique(arrays["aligned"])) == {0, 1}


def test_outside_the_image_and_chroma_of_gray_are_not_coded(arrays):
    (recorder,), _, modes = run_reference(arrays, (1, 1), 63, GRAY)
    bits, parts = recorder.asked[:BITS], recorder.asked[BITS::2]
    assert [int((index > 0).sum()) for index in bits] == [1, 1, 1, 0, 0, 0]
    assert 0 < sum(int((index > 0).sum()) for index in parts) <= GRAY.sum()
    assert modes[0, 0, 0] and np.count_nonzero(modes) == 1
    _, latent, _ = run_reference(arrays, (64, 64), 63, GRAY)
    assert not latent[0, ~GRAY].any() and latent[0, GRAY].any()


@pytest.mark.parametrize(
    ("symbols", "mode"), [((1, 0, 0), 4), ((0, 0, 1), 1), ((-1, 5, -3), 2), ((32767, -32768, 2), 5)]
)
def test_a_flag_above_zero_is_a_one(symbols, mode):
    index = torch.full((1, 2, 7, 1, 1), 64.0)
    modes = walk_modes(index, lambda bit, table: torch.full_like(table, symbols[bit]))
    assert modes.flatten().tolist() == [mode, mode]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("autocast", [False, True])
def test_nothing_around_it_matters(arrays, device, channels_last, threads, autocast):
    """Threads, batch, memory format, autocast: batch of 4 against 4 single references."""
    size, seeds = (130, 200), (1, 2, 3, 4)
    reference = run_reference(arrays, size, 31, COLOUR, seeds)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    around = torch.autocast(device, torch.bfloat16) if autocast else contextlib.nullcontext()
    try:
        with around:
            result = run_torch(
                arrays,
                size,
                31,
                COLOUR,
                reference[0],
                seeds,
                device=device,
                channels_last=channels_last,
            )
    finally:
        torch.set_num_threads(before)
    assert_same(reference, *result)


def at_the_bounds(arrays, seed):
    """Arrays with extreme weights, biases and shifts whose sums come close to the limit."""
    rng = np.random.default_rng(seed)
    extreme = {}
    for name, array in arrays.items():
        if name.endswith(".weight"):
            extreme[name] = rng.choice([-127, 127], array.shape).astype(np.int8)
        elif name.endswith(".bias"):
            extreme[name] = rng.choice([-(2**31), -5000, 5000, 2**31 - 1], array.shape).astype(
                np.int32
            )
        elif name.endswith(".shift"):
            extreme[name] = rng.choice([0, 7, 14], array.shape).astype(np.uint8)
        elif name.startswith("predict.") or name == "hyper_linear":
            extreme[name] = rng.choice([-32767, 32767], array.shape).astype(np.int16)
        else:
            extreme[name] = array.copy()
    extreme["step"] = rng.integers(1, 2**31, arrays["step"].shape).astype(np.int32)
    extreme["hyper_step"] = rng.integers(1, 2**31, arrays["hyper_step"].shape).astype(np.int32)
    for name in ("base", "base_mode", "mode_base"):
        extreme[name] = rng.integers(-(2**15), 2**15, arrays[name].shape).astype(np.int16)
    extreme["aligned"] = rng.integers(0, 2, arrays["aligned"].shape).astype(np.uint8)
    extreme["start"] = rng.integers(-300, 300, arrays["start"].shape).astype(np.int16)
    sums = [np.abs(extreme[n].astype(np.int64)).reshape(len(extreme[n]), -1).sum(1).max()
            for n in ("hyper_linear", "predict.2")]  # fmt: skip
    most = 2**52 * 2**LINEAR_BITS // (sum(int(s) for s in sums) * 2**23) - 1
    extreme["gain"] = np.full_like(arrays["gain"], most)
    return extreme


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spread", [2.0, 1e4])
@pytest.mark.parametrize("seed", range(4))
def test_extreme_weights_and_symbols(arrays, seed, spread, device):
    extreme = at_the_bounds(arrays, seed)
    size = (130, 70)
    reference = run_reference(extreme, size, 31, COLOUR, spread=spread)
    result = run_torch(extreme, size, 31, COLOUR, reference[0], spread=spread, device=device)
    assert_same(reference, *result)


def test_weights_beyond_the_bounds_are_refused(arrays):
    extreme = at_the_bounds(arrays, 0)
    IntegerEntropy(as_tensors(extreme), True, torch.device("cpu"))
    extreme["gain"] = extreme["gain"] + 2
    with pytest.raises(ModelError, match="too large"):
        IntegerEntropy(as_tensors(extreme), True, torch.device("cpu"))


@pytest.mark.parametrize("value", [2, 255])
def test_aligned_is_zero_or_one(arrays, value):
    arrays["aligned"][3, 1] = value
    with pytest.raises(ModelError, match="out of range"):
        IntegerEntropy(as_tensors(arrays), True, torch.device("cpu"))


@pytest.mark.parametrize("rotate", [False, True])
def test_every_site_is_coded_once(rotate):
    sites = pass_sites(9, rotate)
    assert sorted(sites.flatten().tolist()) == list(range(36))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", RATES)
def test_the_reference_decodes_what_the_codec_writes(weights_path, released, channels, rate):
    """Real symbols of a real payload, and the latent that synthesis takes."""
    from mvmic_codec.symbols import Unpacker

    size, gray = (100, 70), channels == 1
    payload = codec.encode_planes(picture(*size, channels), rate, device="cpu")
    arrays = entropy_arrays(weights_path)
    unpacker = Unpacker(payload, released.tables)
    z_index = np.repeat(arrays["hyper_index"][rate], 2 * 2)
    z = unpacker.next(z_index).astype(np.int64).reshape(-1, 2, 2)

    def take(index):
        symbols = unpacker.next(index.astype(np.uint8).ravel())
        return symbols.astype(np.int64).reshape(index.shape)

    expected, expected_modes = decode_latent(
        arrays,
        z,
        rate,
        size,
        GRAY if gray else COLOUR,
        True,
        lambda half, bit, index: take(index),
        lambda part, index, mean: take(index),
    )
    unpacker.finish()
    assert rate == 0 or len(np.unique(expected_modes)) > 2
    latent, modes = codec.decode_symbols(released, payload, rate, size, gray)
    assert np.array_equal(latent[0].numpy(), (expected / 16).astype(np.float32))
    assert np.array_equal(modes[0].numpy(), expected_modes)
