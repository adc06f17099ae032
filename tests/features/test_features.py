"""Task features from a file, beside its pixels or without them."""

import io
import json
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import one_tile
import pytest
import torch
from PIL import Image

import mvmic_codec
from mvmic_codec import InputError, ModelError
from mvmic_codec.decoder import decode, on_device, reconstruct
from mvmic_codec.decoder.stripes import StripedBody, StripedSynthesis
from mvmic_codec.decoder.tiles import only_tile, overlays_of
from mvmic_codec.features import extract, statistics
from mvmic_codec.model import encoder_file
from mvmic_codec.model.identity import find_identity
from mvmic_codec.model.synthnet import usable_paths

GOLDEN = Path(__file__).parents[2] / "formats/golden"
MAPS = ("coefficients", "s16", "s8")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def picture(height, width, planes, seed=0):
    """Waves and noise, [H,W] or [H,W,3]."""
    rows, columns = np.mgrid[:height, :width]
    waves = 128 + 60 * np.sin(rows / 9) * np.cos(columns / 17)
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, planes))
    samples = np.clip(waves[..., None] + noise, 0, 255).astype(np.uint8)
    return samples[..., 0] if planes == 1 else samples


@pytest.fixture(scope="module", params=[1, 3])
def file(request):
    return mvmic_codec.encode(picture(75, 141, request.param), rate_index=27, device="cpu")


def raw(data, names=MAPS):
    """Integers of synthesis by map, [h,w,C]."""
    whole = one_tile.read(io.BytesIO(data))
    return extract.raw_maps(whole.header, only_tile(whole), names, "cpu")


def same(ours, theirs):
    return all(np.array_equal(ours[name], theirs[name]) for name in MAPS)


def test_maps_have_the_documented_shapes(file):
    planes = 3 if mvmic_codec.read_header(file).mode == "RGB" else 1
    features = mvmic_codec.decode_features(file, MAPS, device="cpu")
    assert list(features.maps) == list(MAPS) and isinstance(features.maps, OrderedDict)
    assert features["s16"].shape == (1, 224, 5, 9)
    assert features["s8"].shape == (1, 128, 10, 18)
    assert features["coefficients"].shape == (1, 256 * planes, 5, 9)
    assert features.strides == {"coefficients": 16, "s16": 16, "s8": 8}
    assert features.size == (75, 141) and features.rate_indices == (27,) and len(features) == 1
    assert features.fingerprint == mvmic_codec.read_header(file).fingerprint
    assert all(each.dtype == torch.float32 for each in features.maps.values())
    assert features.flat.shape == (1, 75, 141) and not features.flat.any()


def test_maps_come_in_the_order_asked_for(file):
    assert list(mvmic_codec.decode_features(file, ("s8", "s16", "s8")).maps) == ["s8", "s16"]
    assert list(mvmic_codec.decode_features(file, "s8").maps) == ["s8"]
    with pytest.raises(InputError, match="have no map 's16', but s8: name it when they are"):
        mvmic_codec.decode_features(file, "s8")["s16"]
    with pytest.raises(InputError, match="by itself, on the command line by --map s16 --map s8"):
        mvmic_codec.decode_features(file, "s16, s8")
    assert list(mvmic_codec.decode_features(file).maps) == ["s16"]


def test_pixels_are_the_same_with_features_and_features_without_pixels(file):
    plain = np.asarray(mvmic_codec.decode(file, device="cpu"))
    image, features = mvmic_codec.decode(file, features=MAPS, device="cpu")
    assert np.array_equal(np.asarray(image), plain)
    alone = mvmic_codec.decode(file, features=MAPS, pixels=False, device="cpu")
    for name in MAPS:
        assert torch.equal(features[name], alone[name])
    only = mvmic_codec.decode_features(file, device="cpu")
    assert torch.equal(only["s16"], alone["s16"])
    assert image.info["rate_index"] == 27


@pytest.mark.parametrize("device", DEVICES)
def test_maps_are_the_stages_of_synthesis(file, device):
    """As torch computes them, on the whole padded latent at once; then cut to the image."""
    whole = one_tile.read(io.BytesIO(file))
    header = whole.header
    latent, modes = decode.decode_symbols(
        decode.model_of_file(header), whole.payload, header.rate_index, (75, 141)
    )
    model = on_device.DeviceModel(header.fingerprint, torch.device(device))
    latent, modes = (torch.from_numpy(each)[None].to(device) for each in (latent, modes))
    net = model.synthesis
    coefficients = net.coefficients(latent[..., model.order], modes.long())
    s16 = net.enter16(coefficients, modes.long(), header.rate_index)
    for block in net.body16:
        s16 = block(s16)
    s8 = net.enter8(s16, net.linear_planes(coefficients), header.rate_index)
    for block in net.body8:
        s8 = block(s8)
    found = raw(file)
    for name, expected in (("coefficients", coefficients), ("s16", s16), ("s8", s8)):
        height, width, channels = found[name].shape
        assert (height, width) == ((10, 18) if name == "s8" else (5, 9))
        assert channels == expected.shape[1] and found[name].any()
        expected = expected[0, :, :height, :width].permute(1, 2, 0).cpu().numpy()
        assert np.array_equal(found[name], expected), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA")
def test_another_device_gives_the_same_features(file):
    expected = mvmic_codec.decode_features(file, MAPS, device="cpu").numpy()
    found = mvmic_codec.decode_features(file, MAPS, device="cuda")
    assert all(each.device.type == "cuda" for each in found.maps.values())
    assert same(found.numpy(), expected)


@pytest.fixture(scope="module", params=[1, 3])
def large(request):
    """A file and its maps, in one stripe and by one thread."""
    data = mvmic_codec.encode(picture(340, 290, request.param), rate_index=9, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return data, raw(data)


@pytest.mark.parametrize(
    ("stripe", "band"), [(2048, 512), (1, 512), (70, 512), (100, 8), (1, 2), (2048, 6)]
)
def test_stripes_and_bands_join(monkeypatch, large, stripe, band):
    data, expected = large
    monkeypatch.setattr(reconstruct, "STRIPE_BLOCKS", stripe)
    monkeypatch.setattr(reconstruct, "BAND_BLOCKS", band)
    found = raw(data)
    assert found["s16"].shape == (22, 19, 224) and found["s8"].shape == (43, 37, 128)
    assert same(found, expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads_change_nothing(monkeypatch, large, threads):
    data, expected = large
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    assert same(raw(data), expected)


@pytest.mark.parametrize("path", usable_paths())
def test_instructions_change_nothing(monkeypatch, file, path):
    expected = raw(file)
    model = decode.model_of_file(mvmic_codec.read_header(file))
    monkeypatch.setattr(model.synthesis, "path", path)
    assert same(raw(file), expected)


def test_a_map_costs_no_more_than_it_needs(monkeypatch, file):
    """Nothing after s16 runs for s16."""
    monkeypatch.setattr(StripedSynthesis, "linear_planes", None)
    monkeypatch.setattr(StripedSynthesis, "enter8", None)
    assert mvmic_codec.decode_features(file, device="cpu")["s16"].shape[1] == 224
    with pytest.raises(TypeError):
        mvmic_codec.decode_features(file, "s8", device="cpu")
    monkeypatch.setattr(StripedBody, "run", None)
    assert len(mvmic_codec.decode_features(file, "coefficients", device="cpu")) == 1


def test_normalised_features_are_about_standard(file):
    for name, each in mvmic_codec.decode_features(file, ("s16", "s8"), device="cpu").maps.items():
        assert each.mean().abs() < 1 and 0.2 < each.std() < 3, name
        assert each.abs().max() <= statistics.LIMIT


def test_far_values_are_clamped(file):
    table = statistics.load(mvmic_codec.read_header(file).fingerprint)
    mean, deviation = (each["s16"][0] for each in (table.mean, table.deviation))
    values = np.stack([mean + far * deviation for far in (7, 900, -9)])[None]
    expected = torch.tensor([7.0, statistics.LIMIT, -statistics.LIMIT])
    floats = torch.from_numpy(values.transpose(2, 0, 1)[None].copy())
    table.normalise("s16", floats, 0)
    assert torch.allclose(floats, expected.expand_as(floats), atol=1e-3)
    integers = np.rint(values / table.unit["s16"]).clip(-(2**15), 2**15 - 1).astype(np.int16)
    found = table.normalised("s16", integers, 0)
    assert found.dtype == np.float32 and found.shape == (1, 224, 1, 3)
    assert found.max() == statistics.LIMIT and np.abs(found[..., 0] - 7).max() < 0.01
    of_tensor = table.normalised("s16", torch.from_numpy(integers).float(), 0)
    assert np.array_equal(of_tensor.numpy(), found)


def test_statistics_of_a_rate_between_two(file):
    table = statistics.load(mvmic_codec.read_header(file).fingerprint)
    assert table.rates[0] == 0 and table.rates[-1] == 63
    low, high = table.rates[1:3]
    rows = table.mean["s16"][1:3]
    assert np.array_equal(table.at(low, table.mean["s16"]), rows[0])
    assert np.array_equal(table.at(high, table.mean["s16"]), rows[1])
    assert np.allclose(table.at(63, table.mean["s16"]), table.mean["s16"][-1], rtol=1e-6)
    middle = table.at((low + high) // 2, table.mean["s16"])
    share = ((low + high) // 2 - low) / (high - low)
    assert np.allclose(middle, rows[0] + share * (rows[1] - rows[0]))


def test_an_integer_stands_for_what_encoders_know(file):
    """Units are those of synthesis in floating point, and eighths for coefficients."""
    fingerprint = mvmic_codec.read_header(file).fingerprint
    identity, path = find_identity(fingerprint)
    of_encoder = encoder_file.read(path, identity.fingerprint)
    unit = statistics.load(fingerprint).unit
    assert unit == {"coefficients": 1 / 8} | {
        name: of_encoder[f"{encoder_file.UNITS}{name}"].numpy() for name in ("s16", "s8")
    }


def test_a_batch_of_files():
    data = [mvmic_codec.encode(picture(64, 80, 1, k), rate_index=9 * k) for k in range(3)]
    batch = mvmic_codec.decode_features(data, MAPS)
    assert batch["s16"].shape == (3, 224, 4, 5) and batch.flat.shape == (3, 64, 80)
    assert batch.rate_indices == (0, 9, 18)
    for k, one in enumerate(data):
        for name in MAPS:
            assert torch.equal(batch[name][k : k + 1], mvmic_codec.decode_features(one, MAPS)[name])


def test_files_that_cannot_be_in_one_batch():
    gray = mvmic_codec.encode(picture(64, 64, 1))
    colour = mvmic_codec.encode(picture(64, 64, 3))
    wide = mvmic_codec.encode(picture(64, 80, 1))
    with pytest.raises(InputError, match="gray and colour"):
        mvmic_codec.decode_features([gray, colour])
    with pytest.raises(InputError, match="64x64 and 80x64"):
        mvmic_codec.decode_features([gray, wide])
    with pytest.raises(InputError, match="at least one file"):
        mvmic_codec.decode_features([])


def test_requests_that_mean_nothing(file):
    for names in ("s4", ("s16", "s4")):
        with pytest.raises(
            InputError, match="no feature map 's4'; there are coefficients, s16, s8"
        ):
            mvmic_codec.decode_features(file, names)
    with pytest.raises(InputError, match="no feature maps are named"):
        mvmic_codec.decode(file, features=())
    with pytest.raises(InputError, match="pixels=False leaves nothing to decode"):
        mvmic_codec.decode(file, pixels=False)
    with pytest.raises(InputError, match="no feature map 's4'"):
        mvmic_codec.register_mvm_opener(features="s4")


def test_flat_areas_are_handed_out():
    name = "flat-blends-colour"
    features = mvmic_codec.decode_features(GOLDEN / f"{name}.mvm")
    whole = one_tile.read(io.BytesIO((GOLDEN / f"{name}.mvm").read_bytes()))
    expected = overlays_of(whole, whole.header).flat.map > 0
    assert expected.any() and np.array_equal(features.flat[0], expected)


@pytest.mark.parametrize("count", [None, 1, 2])
def test_features_train_a_network_whatever_mode_they_were_decoded_in(file, count):
    with torch.inference_mode():
        features = mvmic_codec.decode_features(file if count is None else [file] * count)
    layer = torch.nn.Conv2d(224, 1, 1)
    layer(features["s16"]).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_other_forms(file):
    features = mvmic_codec.decode_features(file, ("s16", "s8"))
    arrays = features.numpy()
    assert np.array_equal(arrays["s8"], features["s8"].numpy())
    vision = features.for_compressai_vision()
    assert vision["input_size"] == [(75, 141)] and list(vision["data"]) == ["s16", "s8"]
    assert torch.equal(features.to("cpu")["s16"], features["s16"])


def test_an_opened_image_has_features_when_asked(file):
    try:
        mvmic_codec.register_mvm_opener(features=("s16", "s8"), device="cpu")
        image = Image.open(io.BytesIO(file))
    finally:
        mvmic_codec.register_mvm_opener()
    expected = mvmic_codec.decode_features(file, ("s16", "s8"), device="cpu")
    assert torch.equal(image.features["s16"], expected["s16"])
    assert torch.equal(image.features["s8"], expected["s8"])
    copy = pickle.loads(pickle.dumps(image))
    assert torch.equal(copy.features["s16"], expected["s16"])
    assert np.array_equal(np.asarray(image), np.asarray(mvmic_codec.decode(file, device="cpu")))
    with pytest.raises(InputError, match="opened without features"):
        _ = Image.open(io.BytesIO(file)).features


def test_missing_statistics_are_one_sentence(monkeypatch, tmp_path, file):
    monkeypatch.setattr(statistics, "WEIGHTS", tmp_path)
    statistics.load.cache_clear()
    try:
        with pytest.raises(ModelError, match="no statistics of features of model"):
            mvmic_codec.decode_features(file)
        name = mvmic_codec.read_header(file).fingerprint.hex()
        (tmp_path / f"{name}.safetensors").write_bytes(b"nothing")
        with pytest.raises(ModelError, match="are damaged: install mvmic_codec again"):
            mvmic_codec.decode_features(file)
    finally:
        statistics.load.cache_clear()


def test_pixels_alone_load_nothing_of_features():
    code = (
        "import sys, json, mvmic_codec; "
        f"mvmic_codec.decode({str(GOLDEN / 'gray.mvm')!r}); "
        "print(json.dumps([n for n in sys.modules if n.startswith('mvmic_codec.features')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
