"""Planes through the codec and back with a small released model."""

import dataclasses
import itertools
import json

import codec
import decode as reference
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from slow import first_is_quick
from small_model import SMALL, crops, picture, small_model

import mvmic_codec
from mvmic_codec.bitstream import ans, grid
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder import decode
from mvmic_codec.encoder.candidate import encoding_model
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.errors import ChecksumError, FormatError, InputError, ModelError, MvmError
from mvmic_codec.model import decoding, export, identity, loaded
from mvmic_codec.model.arrays import entropy_arrays, fingerprint, read_arrays
from mvmic_codec.model.definition import FRACTION
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.entropy import logistic_bits, table_scale
from mvmic_codec.model.integer import COARSER, IntegerEntropy
from mvmic_codec.model.integerise import neutral_neighbours
from mvmic_codec.model.loaded import LoadedModel
from mvmic_codec.model.model import Model
from mvmic_codec.model.schedule import GROUPS
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.transforms import dequantised

SIZES = [(1, 1), (1, 200), (63, 65), (130, 70)]
HYPER = 2  # passes of z
BITS = 6  # passes of bits of modes


def header_of(planes, rate, fingerprint=None):
    channels, height, width = planes.shape
    _, default = identity.model_identity(gray=channels == 1)
    return Header(
        rate_index=rate,
        photometric=2 if channels == 3 else 0,
        signed=False,
        bits=8,
        generation=identity.GENERATION,
        fingerprint=fingerprint or default,
        width=width,
        height=height,
        lo=0,
        hi=255,
    )


@pytest.mark.parametrize("rate", first_is_quick([31, 0, 63]))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_round_trip(weights, size, channels, rate):
    planes = picture(*size, channels)
    payload = codec.encode_planes(planes, rate, device="cpu")
    decoded = codec.decode_planes(payload, header_of(planes, rate), device="cpu")
    assert decoded.shape == planes.shape
    assert decoded.dtype == np.float32
    assert decoded.min() >= 0 and decoded.max() <= 1


def test_more_rate_is_less_error(weights):
    planes = picture(130, 70, 1)
    errors, sizes = [], []
    for rate in (0, 31, 63):
        payload = codec.encode_planes(planes, rate, device="cpu")
        decoded = codec.decode_planes(payload, header_of(planes, rate), device="cpu")
        errors.append(float(np.square(decoded - planes).mean()))
        sizes.append(len(payload))
    assert errors == sorted(errors, reverse=True) and errors[0] > 1.5 * errors[2]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("rate", first_is_quick([31, 0, 63]))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [*SIZES, (512, 384)])
def test_estimate_is_what_is_written(weights, size, channels, rate):
    planes = picture(*size, channels)
    written = len(codec.encode_planes(planes, rate, device="cpu"))
    estimate = codec.estimate_bits(planes, rate, device="cpu") / 8
    assert estimate > 0
    assert abs(written - estimate) < max(32, 0.01 * estimate)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_channel_of_its_model_is_coded(released, channels):
    planes = picture(130, 70, channels)
    shape = SMALL[channels]
    passes = Encoder(released, planes, 40).encode_two_pass().passes
    assert len(passes) == HYPER + BITS + 1 + GROUPS
    for part, (_, index, _) in enumerate(passes[-GROUPS:]):
        count = shape.latent - shape.near if part % 2 else shape.near
        assert index.reshape(count, 6 * 4).any(1).mean() > 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_for_other_images_is_refused(weights, channels):
    """Gray images of any kind have one plane."""
    planes = picture(100, 70, channels)
    payload = codec.encode_planes(planes, 31, device="cpu")
    header = header_of(planes, 31)
    for photometric in (0, 1, 3) if channels == 3 else (2,):
        wrong = dataclasses.replace(header, photometric=photometric)
        for refused in (codec.decode_planes, decode.check_start):
            with pytest.raises(FormatError, match="the model that it names is for"):
                refused(payload, wrong)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_flipped_byte_is_never_garbage(weights, channels):
    planes = picture(100, 70, channels)
    payload = codec.encode_planes(planes, 31, device="cpu")
    header = header_of(planes, 31)
    rng = np.random.default_rng(0)
    places = np.unique(np.concatenate([np.arange(16), rng.integers(0, len(payload), 60)]))
    for at in places:
        damaged = bytearray(payload)
        damaged[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(MvmError):
            codec.decode_planes(bytes(damaged), header, device="cpu")
    for cut in (0, 1, 5, len(payload) // 2, len(payload) - 1):
        with pytest.raises(MvmError):
            codec.decode_planes(payload[:cut], header, device="cpu")


def test_a_wrong_rate_or_size_is_an_error(weights):
    planes = picture(100, 70, 1)
    payload = codec.encode_planes(planes, 31, device="cpu")
    header = header_of(planes, 31)
    for change in ({"rate_index": 32}, {"width": 71 + 64}):
        with pytest.raises(MvmError):
            codec.decode_planes(payload, dataclasses.replace(header, **change), device="cpu")


def test_symbols_that_fail_their_checksum(weights):
    planes = picture(10, 10, 1)
    payload = bytearray(codec.encode_planes(planes, 31, device="cpu"))
    payload[1] ^= 1
    with pytest.raises(ChecksumError):
        codec.decode_planes(bytes(payload), header_of(planes, 31), device="cpu")


def test_unknown_fingerprint(weights):
    planes = picture(10, 10, 1)
    payload = codec.encode_planes(planes, 31, device="cpu")
    with pytest.raises(ModelError, match="0102030405060708"):
        codec.decode_planes(payload, header_of(planes, 31, bytes(range(1, 9))), device="cpu")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_damaged_weights(weights_path, place):
    data = bytearray(weights_path.read_bytes())
    data[int(len(data) * place)] ^= 1
    weights_path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        codec.encode_planes(picture(10, 10, 3), 31)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_cut_weights(weights_path, keep):
    data = weights_path.read_bytes()
    weights_path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(ModelError, match="cannot be read"):
        codec.encode_planes(picture(10, 10, 3), 31)


def test_missing_weights(weights_path):
    weights_path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        codec.encode_planes(picture(10, 10, 3), 31)


def changed(arrays, name, change):
    if change == "missing":
        del arrays[name]
    elif change == "falling":
        arrays[name][5, 1] = 4096
    elif change == "wide":
        arrays[name] = torch.nn.functional.pad(arrays[name], (1, 1, 1, 1))
    elif change == "short":
        arrays[name] = arrays[name][:-1].clone()
    elif change == "scalar":
        arrays[name] = arrays[name][0, 0].clone()
    else:
        arrays[name] = arrays[name].to(change)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("synthesis.leave.weight", "missing"),
        ("synthesis.borders", torch.int8),
        ("synthesis.enter.scale", torch.float32),
        ("synthesis.retouch.enter.weight", "wide"),
        ("synthesis.luma", "missing"),
        ("entropy.table_cdf", "scalar"),
        ("entropy.think.2.shift", "missing"),
        ("entropy.table_cdf", "missing"),
        ("entropy.table_cdf", "falling"),
        ("entropy.table_half", "short"),
        ("entropy.think.0.weight", "wide"),
        ("entropy.merge.1.weight", torch.int16),
        ("entropy.scales.3.shift", torch.int8),
        ("entropy.hyper_rise.bias", torch.int64),
        ("entropy.means.0.bias", "short"),
        ("entropy.base", torch.int32),
        ("entropy.compand", "short"),
        ("entropy.predict.2", "short"),
        ("entropy.hyper_near", torch.int32),
        ("entropy.hyper_shift", torch.int16),
        ("entropy.near_mean", "short"),
        ("entropy.near_shift", "wide"),
    ],
)
def test_weights_that_are_no_model(weights_path, name, change):
    """A sound file, with a fingerprint of its own, whose arrays are not those of the page."""
    facts = json.loads(weights_path.with_suffix(".json").read_text())
    arrays = load_file(weights_path)
    changed(arrays, name, change)
    expect_refusal(weights_path, arrays, facts)


def expect_refusal(weights_path, arrays, facts):
    """Nothing takes a model of these arrays and facts, although its fingerprint is right."""
    model_fingerprint = fingerprint(arrays, facts["shape"])
    facts["fingerprint"] = model_fingerprint.hex()
    save_file(arrays, weights_path, {"identity": json.dumps(facts)})
    weights_path.with_suffix(".json").write_text(json.dumps(facts))
    identity.default_identity.cache_clear()
    with pytest.raises(ModelError, match="model"):
        loaded.load(model_fingerprint, "cpu")
    with pytest.raises(ModelError, match="model"):
        decoding.load(model_fingerprint)
    with pytest.raises(reference.ModelError):
        reference.load_model(weights_path)


@pytest.mark.parametrize(
    "shape",
    [{"near_luma": 300}, {"rotate": None}, {"width2": None}, {"chroma": -1}],
)
def test_shapes_that_are_no_model(weights_path, shape):
    """None: without that field."""
    facts = json.loads(weights_path.with_suffix(".json").read_text())
    facts["shape"] |= {field: value for field, value in shape.items() if value is not None}
    for field, value in shape.items():
        if value is None:
            del facts["shape"][field]
    expect_refusal(weights_path, load_file(weights_path), facts)


def test_a_shape_with_a_field_too_many(weights_path):
    facts = json.loads(weights_path.with_suffix(".json").read_text())
    arrays = load_file(weights_path)
    facts["shape"]["depth"] = 3
    facts["fingerprint"] = fingerprint(arrays, facts["shape"]).hex()
    weights_path.with_suffix(".json").write_text(json.dumps(facts))
    identity.default_identity.cache_clear()
    with pytest.raises(ModelError, match="depth"):
        loaded.load(bytes.fromhex(facts["fingerprint"]), "cpu")


def forward(model: Model, planes, rate):
    """The training forward pass of one image: bits of z, modes and y, and quantised latent."""
    with torch.no_grad():
        out = model(torch.from_numpy(planes)[None], torch.tensor([rate]))
    bits = [float(each) for each in (out.z_bits, out.mode_bits, out.y_bits)]
    assert float(out.bits) == pytest.approx(sum(bits))
    return bits, out.coded.latent


def released_bits(released: LoadedModel, planes, rate):
    passes = Encoder(released, planes, rate).encode_two_pass().passes
    return sum(ans.estimate_bits(*each.coded(), released.tables) for each in passes)


@pytest.fixture
def calibrated(tmp_path, channels):
    """A model out of a release, and the release; scales wide enough for its poor predictions.

    An ideal logistic charges a far outlier hundreds of bits, the tables at most an escape; a model
    that has not been trained has so many of them that this is all one would see.
    """
    model = small_model(channels)
    model.entropy.base.knots.add_(26)
    card = export.export(model, tmp_path, "wide", "for tests", crops(channels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "WEIGHTS", tmp_path)
        released = loaded.load(bytes.fromhex(card.fingerprint), "cpu")
    weights = tmp_path / "wide.safetensors"
    arrays = entropy_arrays(read_arrays(card, weights))
    exact = IntegerEntropy(arrays, SMALL[channels].rotate, torch.device("cpu"))
    return model_of(weights).eval(), dataclasses.replace(released, entropy=exact)


@pytest.mark.parametrize("rate", first_is_quick([27, 0, 9, 54, 63]))
@pytest.mark.parametrize("channels", [1, 3])
def test_training_sees_what_is_coded(calibrated, monkeypatch, channels, rate):
    """But that its symbols are whole steps, as they are here, too."""
    model, released = calibrated
    planes = picture(256, 192, channels, seed=3)
    bits, latent = forward(model, planes, rate)
    for module in ("encoder.encode", "model.integer"):
        monkeypatch.setattr(f"mvmic_codec.{module}.SPACING", FRACTION)
    with full_precision(released.device):
        encoder = Encoder(released, planes, rate)
        monkeypatch.setattr(
            encoder,
            "quantise",
            lambda x, table, price: x.sign() * encoder.level(x.abs(), table.long(), price),
        )
        # Training knows the first run only.
        run = encoder.run(encoder.estimated_costs)
    z = [
        logistic_bits(s, s, table_scale(t - COARSER), noise=False)[t > 0].sum()
        for s, t in map(as_doubles, run.passes[:HYPER])
    ]
    modes = [
        ans.estimate_bits(*each.coded(), released.tables) for each in run.passes[HYPER:][:BITS]
    ]
    y = [
        logistic_bits(s, s, table_scale(t), noise=False)[t > 0].sum()
        for s, t in map(as_doubles, run.passes[HYPER + BITS :])
    ]
    coded_bits = [float(sum(each)) for each in (z, modes, y)]
    assert coded_bits == pytest.approx(bits, rel=0.01, abs=1)

    step = released.entropy.step[rate].float()[:, None, None] / 2**12
    # A mean that rounds the other way moves a few symbols to their neighbour.
    error = (dequantised(run.latent) - latent).abs() / step
    assert float((error > 0.5).float().mean()) < 0.025
    # Means are rounded to sixteenths, which moves the latents of symbols by up to 1/32 each.
    assert float(error.mean()) < 0.05


def as_doubles(each):
    """Symbols and table indices of a pass."""
    return [torch.from_numpy(array.astype(np.float64)) for array in each[:2]]


@pytest.mark.parametrize("rate", [0, 31, 63])
def test_a_release_can_be_trained_on(weights_path, released, tmp_path, monkeypatch, rate):
    """A model out of a release file, released again, codes the same at nearly the same size."""
    # What neighbours say is fitted anew at the end.
    neutral = neutral_neighbours(released.shape.hyper, released.shape.near)
    card = export.replace_arrays(weights_path, neutral)
    released = loaded.read(card, weights_path, torch.device("cpu"))
    again = model_of(weights_path).eval()
    folder = tmp_path / "again"
    card = export.export(again, folder, identity.COLOUR_MODEL, "again", crops(3))
    assert card.shape == released.identity.shape
    planes = picture(256, 192, 3, seed=3)
    before = released_bits(released, planes, rate)
    monkeypatch.setattr(identity, "WEIGHTS", folder)
    second = loaded.load(bytes.fromhex(card.fingerprint), "cpu")
    # What lies between knots may differ by one unit; untrained networks make 1.5% of that.
    assert released_bits(second, planes, rate) == pytest.approx(before, rel=0.02)


def test_the_fingerprint_covers_shape_and_every_array(weights_path):
    arrays = load_file(weights_path)
    shape = identity.default_identity(gray=False).shape
    whole = fingerprint(arrays, shape)
    assert whole == identity.model_identity(gray=False)[1]
    for field in shape:
        changed_shape = {**shape, field: not shape[field]}
        assert fingerprint(arrays, changed_shape) != whole, field
    for name, array in arrays.items():
        changed = array.clone()
        changed.view(torch.uint8).flatten()[-1] ^= 1
        assert fingerprint({**arrays, name: changed}, shape) != whole, name


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there(weights, device):
    with pytest.raises(InputError, match=device):
        codec.encode_planes(picture(10, 10, 1), 31, device=device)


def brute_sites(size, hidden):
    """formats/flat.md, pixel by pixel."""
    height, width = size
    sites = np.zeros((-(-height // 64) * 4, -(-width // 64) * 4), np.bool_)
    for y, x in itertools.product(range(sites.shape[0]), range(sites.shape[1])):
        own = hidden[16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
        around = hidden[max(16 * y - 4, 0) : 16 * y + 20, max(16 * x - 4, 0) : 16 * x + 20]
        sites[y, x] = own.size > 0 and not around.all()
    return sites


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (130, 70), (97, 200)])
def test_sites_that_are_coded(released, size):
    rng = np.random.default_rng(1)
    for trial in range(40):
        hidden = np.ones(size, np.bool_)
        for _ in range(trial % 4):
            row, column = (int(rng.integers(side)) for side in size)
            hidden[row : row + int(rng.integers(1, 9)), column : column + 1] = False
        coded = grid.coded_sites(size, hidden)
        np.testing.assert_array_equal(coded, brute_sites(size, hidden))
    nothing = np.zeros(size, np.bool_)
    expected = brute_sites(size, nothing)
    for hidden in (None, nothing):
        np.testing.assert_array_equal(grid.coded_sites(size, hidden), expected)


@pytest.mark.parametrize("effort", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_hidden_sites_are_not_coded(weights, channels, effort):
    # At a high rate, where symbols are many.
    rate, planes = 45, picture(150, 200, channels, edge=0.4)
    released = encoding_model(planes, "cpu")
    hidden = np.zeros((150, 200), np.bool_)
    hidden[20:110, 30:140] = True
    options = {"effort": effort, "device": "cpu"}
    payload = codec.encode_planes(planes, rate, hidden=hidden, **options)
    assert len(payload) < len(codec.encode_planes(planes, rate, **options))
    latent, modes = decode.decode_symbols(released, payload, rate, planes.shape[1:], hidden)
    coded = torch.from_numpy(grid.coded_sites(planes.shape[1:], hidden))
    assert (modes[0][~coded] == 0).all()
    whole = torch.from_numpy(grid.coded_sites(planes.shape[1:], None))
    assert torch.equal(coded, coded & whole)
    decoded = codec.decode_planes(payload, header_of(planes, rate), hidden=hidden, device="cpu")
    seen = np.square(decoded - planes)[:, ~hidden].mean()
    plain = codec.decode_planes(
        codec.encode_planes(planes, rate, **options), header_of(planes, rate), device="cpu"
    )
    assert seen < 1.3 * np.square(plain - planes)[:, ~hidden].mean()
    # Decoders must know the same.
    with pytest.raises(MvmError):
        codec.decode_planes(payload, header_of(planes, rate), device="cpu")


def test_gray_and_colour_have_models_of_their_own(weights):
    """A release's name says what it is for; files name the model that wrote them."""
    names = [encoding_model(picture(8, 8, n), "cpu").identity.name for n in (1, 3)]
    assert names == [identity.GRAY_MODEL, identity.COLOUR_MODEL]
    colour = (picture(20, 30, 3).transpose(1, 2, 0) * 255).astype(np.uint8)
    for image, name in (
        (colour, identity.COLOUR_MODEL),
        (colour[:, :, 0], identity.GRAY_MODEL),
        (colour[:, :, :1].repeat(3, 2), identity.GRAY_MODEL),
    ):
        data = mvmic_codec.encode(image, device="cpu")
        assert mvmic_codec.read_header(data).model == name
        assert mvmic_codec.decode(data, device="cpu").size == (30, 20)


def test_without_its_model_nothing_is_encoded(weights):
    (weights / f"{identity.COLOUR_MODEL}.json").unlink()
    identity.default_identity.cache_clear()
    codec.encode_planes(picture(8, 8, 1), 31, device="cpu")
    with pytest.raises(ModelError, match=f"no model {identity.COLOUR_MODEL}"):
        codec.encode_planes(picture(8, 8, 3), 31, device="cpu")
