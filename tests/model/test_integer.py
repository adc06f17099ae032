"""The integer entropy model gives one answer, and it is the specification's."""

import contextlib
import math
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import codec
import decode as reference
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from slow import first_is_quick
from small_model import SMALL, picture

from mvmic_codec.decoder import decode
from mvmic_codec.encoder.candidate import encoding_model
from mvmic_codec.errors import ModelError
from mvmic_codec.model import decoding
from mvmic_codec.model.arrays import check_bounds
from mvmic_codec.model.definition import LAYERS, LINEAR_BITS, SECOND
from mvmic_codec.model.integer import IntegerEntropy, code_mode_tree
from mvmic_codec.model.integerise import neutral_neighbours
from mvmic_codec.model.intnet import usable_paths
from mvmic_codec.model.loaded import make_entropy
from mvmic_codec.model.native import NativeEntropy, NativeEvaluation
from mvmic_codec.model.native_tensors import NativeTensors
from mvmic_codec.model.schedule import GROUPS, step_sites

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
WAYS = [*DEVICES, *usable_paths()]  # doubles by torch, then C
RATES = [0, 31, 63]
SIZES = [(1, 1), (64, 128), (63, 65), (130, 70), (40, 450)]
HYPER = 2  # passes of z
BITS = 6  # passes of bits of modes, before the parts
FIRST = HYPER + BITS  # the number of the first pass of part 0, which has two
SHAPE = SMALL[3]  # of the arrays that tests have if they do not ask for others


class Recorder:
    """Makes up the symbols of all passes, and keeps them and their table indices."""

    def __init__(self, seed, spread=2.0):
        self.rng, self.spread = np.random.default_rng(seed), spread
        self.indices = []
        self.given = []

    def take(self, index, dependent=False):
        assert dependent == (len(self.given) >= FIRST)
        if HYPER <= len(self.given) < FIRST:
            # Files may say a bit with other numbers than 0 and 1.
            symbols = self.rng.choice([0, 1, 0, 1, -3, 5, -32768, 32767], index.shape)
        else:
            symbols = np.round(self.rng.laplace(size=index.shape) * self.spread)
        symbols = np.clip(symbols, -32768, 32767).astype(np.int64) * (index > 0)
        self.indices.append(index)
        self.given.append(symbols)
        return symbols

    def asked(self, means):
        """What a coder is asked: the table index of each pass, and the mean of each part."""
        parts = zip(self.indices[FIRST + 1 :], means, strict=True)
        return self.indices[: FIRST + 1] + [array for part in parts for array in part]


class Playback:
    """Gives the recorded symbols back to the torch implementation, for each image of the batch."""

    def __init__(self, recorders, device="cpu", channels_last=False):
        self.recorders, self.device = recorders, device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.asked = []

    def give(self, number):
        symbols = torch.from_numpy(np.stack([r.given[number] for r in self.recorders]))
        return symbols.to(self.device).contiguous(memory_format=self.format)

    def hyper(self, index, mean):
        assert not (mean.cpu()[(index == 0).expand_as(mean).cpu()] != 0).any()
        self.asked.append(np.broadcast_to(index.cpu().numpy(), self.give(0).shape))
        return self.give(len(self.asked) - 1)

    def modes(self, half, index):
        def bits(bit, table):
            self.asked.append(table.cpu().numpy())
            return self.give(HYPER + 3 * half + bit)

        return code_mode_tree(index, bits)

    def symbols(self, part, index, mean, predicted, scores):
        number = FIRST + part + (len(self.asked) > FIRST)
        self.asked.append(index.cpu().numpy())
        if number > FIRST:
            self.asked.append(mean.cpu().numpy())
        return self.give(number)


def inside_image(size, hidden=None):
    rows = np.arange(math.ceil(size[0] / 64) * 4) * 16 < size[0]
    columns = np.arange(math.ceil(size[1] / 64) * 4) * 16 < size[1]
    inside = rows[:, None] & columns
    return torch.from_numpy(inside if hidden is None else inside & ~hidden)


def entropy_arrays(path):
    prefix = "entropy."
    arrays = load_file(path).items()
    return {name[len(prefix) :]: array for name, array in arrays if name.startswith(prefix)}


def run_reference(arrays, size, rate, seeds=(0,), spread=2.0, shape=SHAPE, hidden=None):
    """Recorders, what each was asked, latents [N,C,h,w] and modes [N,h,w]; an image for a seed."""
    named = {f"entropy.{name}": array for name, array in arrays.items()}
    recorders = [Recorder(seed, spread) for seed in seeds]
    if hidden is not None:
        hidden = np.stack([hidden[k // 2 :: 2, k % 2 :: 2] for k in range(4)])
    results = [
        reference.decode_latent(named, asdict(shape), rate, size, recorder.take, hidden)
        for recorder in recorders
    ]
    asked = [r.asked(latent.means) for r, latent in zip(recorders, results, strict=True)]
    latents = np.stack([latent.y3 for latent in results])
    return recorders, asked, latents, np.stack([latent.modes for latent in results])


def make(arrays, way):
    if way in DEVICES:
        return IntegerEntropy(arrays, True, torch.device(way))
    return NativeTensors(NativeEntropy(arrays, True, way))


def run_package(arrays, size, rate, recorders, way="cpu", channels_last=False, hidden=None):
    """What an implementation of the package asks for, its latents and modes."""
    entropy, device = make(arrays, way), way if way in DEVICES else "cpu"
    inside = inside_image(size, hidden).to(device)
    playback = Playback(recorders, device, channels_last)
    z = entropy.code_hyper(rate, *(math.ceil(side / 64) for side in size), playback.hyper)
    latent, modes = entropy.code(z, rate, inside, playback.modes, playback.symbols)
    assert latent.dtype == torch.int16 and modes.dtype == torch.uint8
    return playback.asked, latent.permute(0, 3, 1, 2).cpu().numpy(), modes.cpu().numpy()


def of_one_image(latent, modes):
    """What `decode` gives, as arrays [C,h,w] and [h,w]."""
    latent, modes = (torch.as_tensor(each).cpu().numpy() for each in (latent, modes))
    assert latent.dtype == np.int16 and modes.dtype == np.uint8
    return latent.reshape(latent.shape[-3:]).transpose(2, 0, 1), modes.reshape(modes.shape[-2:])


def assert_decodes(expected, arrays, size, rate, way, hidden=None):
    """Of one image: the same indices are asked for in order, and it gives the same result."""
    (recorder,), _, (expected_latent,), (expected_modes,) = expected
    numbers = iter(range(len(recorder.given)))

    def next_symbols(index, second):
        k = next(numbers)
        assert index.dtype == np.uint8 and np.array_equal(index, recorder.indices[k].ravel())
        assert second == (SECOND if k >= FIRST else 0)
        return recorder.given[k].astype(np.int16).ravel()

    entropy = make(arrays, way) if way in DEVICES else NativeEntropy(arrays, True, way)
    inside = inside_image(size, hidden).numpy()
    hyper = tuple(math.ceil(side / 64) for side in size)
    z = entropy.decode_hyper(rate, hyper, next_symbols)
    latent, modes = of_one_image(*entropy.decode(z, rate, inside, next_symbols))
    assert next(numbers, None) is None
    assert np.array_equal(latent, expected_latent)
    assert np.array_equal(modes, expected_modes)


def assert_same(expected, asked, latent, modes):
    _, expected_asked, expected_latent, expected_modes = expected
    for k, image in enumerate(expected_asked):
        assert len(image) == len(asked) == FIRST + 1 + 2 * GROUPS
        for ours, theirs in zip(asked, image, strict=True):
            assert np.array_equal(ours[k], theirs)
    assert np.array_equal(modes, expected_modes)
    assert np.array_equal(latent, expected_latent)


@pytest.fixture
def arrays(weights_path):
    return entropy_arrays(weights_path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", first_is_quick([31, 0, 63]))
@pytest.mark.parametrize("size", SIZES)
def test_same_as_the_reference(arrays, size, rate, channels):
    expected = run_reference(arrays, size, rate, shape=SMALL[channels])
    for way in WAYS:
        assert_same(expected, *run_package(arrays, size, rate, expected[0], way=way))
        assert_decodes(expected, arrays, size, rate, way)


@pytest.mark.parametrize("size", [(300, 1), (1, 300), (130, 200)])
def test_hidden_sites(arrays, size):
    """They say nothing to their neighbours, but have means by them."""
    hidden = np.random.default_rng(3).random(inside_image(size).shape) < 0.4
    expected = run_reference(arrays, size, 31, hidden=hidden)
    for way in WAYS:
        result = run_package(arrays, size, 31, expected[0], way=way, hidden=hidden)
        assert_same(expected, *result)
        assert_decodes(expected, arrays, size, 31, way, hidden)


def around(place, size):
    """The four neighbours of a place [2] on a board of `size`, as far as there are any."""
    moved = [(place[0] + i, place[1] + j) for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    return {(i, j) for i, j in moved if 0 <= i < size[0] and 0 <= j < size[1]}


def changed(before, after):
    """Places [2] of arrays [1,n,h,w] that differ in any channel."""
    return {tuple(place) for place in np.argwhere((before != after)[0].any(0)).tolist()}


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 1), (3, 4)])
def test_black_places_of_z_see_the_four_white_ones_around(arrays, size):
    entropy = make(arrays, "cpu")

    def ask(symbols):
        """Index and mean of both passes, and z."""
        asked = []

        def give(index, mean):
            asked.append((index.numpy(), mean.numpy()))
            return symbols * (index > 0)

        z = entropy.code_hyper(31, *size, give)
        return asked, z.numpy()

    symbols = torch.from_numpy(np.random.default_rng(1).integers(-90, 90, (1, SHAPE.hyper, *size)))
    (white, black), z = ask(symbols)
    for place in np.ndindex(size):
        at, is_white = (..., *place), sum(place) % 2 == 0
        assert (white[0][at] > 0).all() == is_white
        assert (black[0][at] > 0).all() != is_white
        assert not white[1].any() and (not is_white or not black[1][at].any())
        other = symbols.clone()
        other[at] += 150
        (white_again, black_again), z_again = ask(other)
        assert np.array_equal(white_again[0], white[0])
        seen_by = around(place, size) if is_white else set()
        assert changed(black_again[1], black[1]) == seen_by
        assert changed(black_again[0], black[0]) <= seen_by
        assert changed(z_again, z) == seen_by | {place}


@pytest.mark.parametrize("way", WAYS)
def test_black_cells_of_the_first_part_see_the_four_white_ones_around(arrays, way):
    """And no other part does: it has the networks."""
    size, cells = (130, 70), (6, 4)
    recorders, asked, _, _ = run_reference(arrays, size, 31)
    other = Recorder(0)
    other.given = [symbols.copy() for symbols in recorders[0].given]
    place = (2, 2)
    other.given[FIRST][:, 2, 2] += 50
    (again, _, _) = run_package(arrays, size, 31, [other], way=way)
    before = [array[None] for array in asked[0]]
    assert np.array_equal(again[FIRST], before[FIRST])
    index, mean = FIRST + 1, FIRST + 2
    assert changed(again[mean], before[mean]) == around(place, cells)
    assert set() < changed(again[index], before[index]) <= around(place, cells)
    assert all(len(each[0]) == SHAPE.near for each in (before[FIRST], before[index]))


def test_neutral_arrays_change_nothing(arrays):
    """Then all places are coded by what they would be coded by at once."""
    neutral = arrays | {
        name: array.numpy() for name, array in neutral_neighbours(SHAPE.hyper, SHAPE.near).items()
    }
    _, (asked,), _, _ = run_reference(neutral, (130, 200), 31)
    index = neutral["hyper_index"][31].astype(int)[:, None, None]
    assert np.array_equal(asked[0] + asked[1], np.broadcast_to(index, asked[0].shape))


def test_a_magnitude_of_0_has_the_first_class(arrays):
    """Whatever the table of companded magnitudes says of it."""
    arrays["compand"] = arrays["compand"].copy()
    arrays["compand"][0] = 127
    expected = run_reference(arrays, (130, 200), 31, spread=0.0)
    for way in WAYS:
        assert_same(expected, *run_package(arrays, (130, 200), 31, expected[0], way=way))
        assert_decodes(expected, arrays, (130, 200), 31, way)


def test_the_made_up_case_is_not_trivial(arrays):
    """Else the tests of this file would hold for a model that says nothing."""
    _, (asked,), latent, modes = run_reference(arrays, (200, 130), 31)
    assert len(np.unique(asked[0])) < len(np.unique(asked[1]))
    for index in asked[HYPER:FIRST]:
        assert index.max() >= 64 and len(np.unique(index)) > 4
    indices, means = asked[FIRST + 1 :: 2], asked[FIRST + 2 :: 2]
    for part, (index, mean) in enumerate(zip(indices, means, strict=True)):
        assert len(np.unique(index)) > 8
        assert mean.any() == (part % 2 == 0)
        assert part % 2 or len(np.unique(mean)) > 20
    assert len(np.unique(latent)) > 100
    assert set(np.unique(modes)) == set(range(8))
    assert len(np.unique(arrays["base_mode"])) > 20
    assert set(np.unique(arrays["aligned"])) == {0, 1}


def test_outside_the_image_nothing_is_coded(arrays):
    _, (asked,), _, modes = run_reference(arrays, (1, 1), 63, (1,))
    bits, parts = asked[HYPER:FIRST], [asked[FIRST], *asked[FIRST + 1 :: 2]]
    assert [int((index > 0).sum()) for index in bits] == [1, 1, 1, 0, 0, 0]
    assert 0 < sum(int((index > 0).sum()) for index in parts) <= SHAPE.latent
    assert modes[0, 0, 0] and np.count_nonzero(modes) == 1


@pytest.mark.parametrize(
    ("symbols", "mode"), [((1, 0, 0), 4), ((0, 0, 1), 1), ((-1, 5, -3), 2), ((32767, -32768, 2), 5)]
)
def test_a_flag_above_zero_is_a_one(symbols, mode):
    index = torch.full((1, 2, 7, 1, 1), 64.0)
    modes = code_mode_tree(index, lambda bit, table: torch.full_like(table, symbols[bit]))
    assert modes.flatten().tolist() == [mode, mode]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("autocast", [False, True])
def test_nothing_around_it_matters(arrays, device, channels_last, threads, autocast):
    """Threads, batch, memory format, autocast: batch of 4 against 4 single references."""
    size, seeds = (130, 200), (1, 2, 3, 4)
    expected = run_reference(arrays, size, 31, seeds)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    around = torch.autocast(device, torch.bfloat16) if autocast else contextlib.nullcontext()
    try:
        with around:
            result = run_package(
                arrays,
                size,
                31,
                expected[0],
                way=device,
                channels_last=channels_last,
            )
    finally:
        torch.set_num_threads(before)
    assert_same(expected, *result)


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
    extreme["compand"] = rng.integers(0, 128, arrays["compand"].shape).astype(np.uint8)
    extreme["hyper_near"], extreme["near_mean"] = (
        rng.choice([-(2**15), 2**15 - 1], arrays[name].shape).astype(np.int16)
        for name in ("hyper_near", "near_mean")
    )
    extreme["hyper_shift"], extreme["near_shift"] = (
        rng.choice([-128, 127], arrays[name].shape).astype(np.int8)
        for name in ("hyper_shift", "near_shift")
    )
    extreme["aligned"] = rng.integers(0, 2, arrays["aligned"].shape).astype(np.uint8)
    extreme["start"] = rng.integers(-300, 300, arrays["start"].shape).astype(np.int16)
    sums = [np.abs(extreme[n].astype(np.int64)).reshape(len(extreme[n]), -1).sum(1).max()
            for n in ("hyper_linear", "predict.2")]  # fmt: skip
    most = 2**52 * 2**LINEAR_BITS // (sum(int(s) for s in sums) * 2**23) - 1
    extreme["gain"] = np.full_like(arrays["gain"], most)
    for name in LAYERS:
        # Biases that take sums up to the last integer that is allowed, of both signs.
        weight, bias = extreme[f"{name}.weight"], extreme[f"{name}.bias"]
        sums = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1) * 255
        room = 2**30 - 1 - sums
        extreme[f"{name}.bias"] = np.clip(bias, -room, room).astype(np.int32)
    return extreme


@pytest.mark.parametrize("spread", [2.0, 1e4])
@pytest.mark.parametrize("seed", range(4))
def test_extreme_weights_and_symbols(arrays, seed, spread):
    size, extreme = (70, 450), at_the_bounds(arrays, seed)
    expected = run_reference(extreme, size, 31, spread=spread)
    for way in WAYS:
        result = run_package(extreme, size, 31, expected[0], way=way)
        assert_same(expected, *result)
        assert_decodes(expected, extreme, size, 31, way)
    # Latents beyond 16 bits are clamped.
    assert expected[2].min() == -(2**15) and expected[2].max() == 2**15 - 1


@pytest.mark.parametrize("way", WAYS)
def test_weights_beyond_the_bounds_are_refused(arrays, way):
    extreme = at_the_bounds(arrays, 0)
    make(extreme, way)
    extreme["gain"] = extreme["gain"] + 2
    with pytest.raises(ModelError, match="too large"):
        make(extreme, way)


@pytest.mark.parametrize("name", ["hyper_rise", "merge.3", "means.0"])
@pytest.mark.parametrize("by", [1, -1])
def test_sums_beyond_32_bits_are_refused(arrays, name, by):
    extreme = at_the_bounds(arrays, 0)
    bias = extreme[f"{name}.bias"].astype(np.int64)
    sums = np.abs(extreme[f"{name}.weight"].astype(np.int64)).reshape(len(bias), -1).sum(1)
    bias[-1] = by * (2**30 - 1 - 255 * int(sums[-1]))
    extreme[f"{name}.bias"] = bias.astype(np.int32)
    named = {f"entropy.{key}": array for key, array in extreme.items()}
    for way in WAYS:
        make(extreme, way)
    reference.check_bounds(named)
    bias[-1] += by
    extreme[f"{name}.bias"] = named[f"entropy.{name}.bias"] = bias.astype(np.int32)
    for way in WAYS:
        with pytest.raises(ModelError, match="too large"):
            make(extreme, way)
    with pytest.raises(reference.ModelError, match="32 bits"):
        reference.check_bounds(named)


@pytest.mark.parametrize("inputs", [4096, 4097])
def test_a_layer_of_too_many_inputs_is_refused(arrays, inputs):
    wide = np.zeros((len(arrays["think.5.weight"]), inputs, 3, 3), np.int8)
    many = {**arrays, "think.5.weight": wide}
    named = {f"entropy.{key}": array for key, array in many.items()}
    refused = contextlib.nullcontext() if inputs == 4096 else pytest.raises(ModelError)
    with refused:
        check_bounds(many)
    with refused if inputs == 4096 else pytest.raises(reference.ModelError):
        reference.check_bounds(named)


def test_on_the_cpu_c_evaluates_the_model(arrays):
    """Its portable path serves all machines. Other devices have doubles."""
    native = NativeEntropy(arrays, True, "portable")
    assert make_entropy(native, arrays, torch.device("cpu")).native is native
    assert isinstance(make_entropy(native, arrays, torch.device("meta")), IntegerEntropy)


@pytest.mark.parametrize("way", usable_paths())
def test_many_threads_at_once(arrays, way):
    """One model, eight images of different sizes at the same time."""
    sizes = [(65 + 40 * k, 200 - 20 * k) for k in range(8)]
    expected = [run_reference(arrays, size, 31, (k,)) for k, size in enumerate(sizes)]
    entropy = make(arrays, way)

    def run(k):
        for _ in range(3):
            playback = Playback(expected[k][0])
            size = (math.ceil(side / 64) for side in sizes[k])
            z = entropy.code_hyper(31, *size, playback.hyper)
            latent, modes = entropy.code(
                z,
                31,
                inside_image(sizes[k]),
                playback.modes,
                playback.symbols,
            )
            planes = latent.permute(0, 3, 1, 2).numpy()
            assert_same(expected[k], playback.asked, planes, modes.numpy())
            assert_decodes(expected[k], arrays, sizes[k], 31, way)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))


@pytest.mark.parametrize("way", usable_paths())
def test_c_takes_images_one_by_one(arrays, way):
    z = torch.zeros(2, SHAPE.hyper, 1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="one by one"):
        make(arrays, way).code(z, 0, inside_image((64, 64)), None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aligned", 2),
        ("aligned", 255),
        ("compand", 128),
        ("think.5.shift", 15),
        ("hyper_index", 0),
        ("hyper_index", 64),
        ("step", 0),
        ("hyper_step", -1),
    ],
)
def test_values_out_of_range_are_refused(arrays, name, value):
    arrays[name] = arrays[name].copy()
    arrays[name].flat[-1] = value
    with pytest.raises(ModelError, match="out of range"):
        check_bounds(arrays)


def test_a_negative_gain_counts_by_its_size(arrays):
    extreme = at_the_bounds(arrays, 0)
    extreme["gain"] = -extreme["gain"] - 2
    with pytest.raises(ModelError, match="too large"):
        check_bounds(extreme)


@pytest.mark.parametrize("rotate", [False, True])
def test_every_site_is_coded_once(rotate):
    sites = step_sites(9, rotate)
    assert sorted(sites.flatten().tolist()) == list(range(36))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", RATES)
def test_the_reference_decodes_what_the_codec_writes(weights, channels, rate):
    """Real symbols of a real payload, and the latent that synthesis takes."""
    size = (100, 70)
    planes = picture(*size, channels)
    coded = codec.encode_planes(planes, rate, device="cpu")
    released = encoding_model(planes, "cpu")
    model = reference.load_model(weights / f"{released.identity.name}.safetensors")
    payload = reference.Payload(coded, model.tables)
    expected = reference.decode_latent(model.arrays, model.shape, rate, size, payload.take)
    payload.close()
    assert rate == 0 or len(np.unique(expected.modes)) > 2
    small = decoding.load(bytes.fromhex(released.identity.fingerprint))
    for each in (small, released):
        latent, modes = of_one_image(*decode.decode_symbols(each, coded, rate, size))
        assert np.array_equal(latent, expected.y3)
        assert np.array_equal(modes, expected.modes)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_freed_when_the_next_are_there(monkeypatch, released, channels):
    """No name keeps them, such as that of the map that the modes were chosen from."""
    begin = NativeEvaluation.begin_group
    freed = []

    def watched(evaluation, group):
        before = weakref.ref(evaluation.features)
        begin(evaluation, group)
        if before() is not evaluation.features:
            freed.append(before() is None)

    monkeypatch.setattr(NativeEvaluation, "begin_group", watched)
    codec.encode_planes(np.zeros((channels, 64, 64), np.float32), 20)
    assert len(freed) > 2 and all(freed)
