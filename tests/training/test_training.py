import csv
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from slow import first_is_quick

from mvmic_codec.errors import InputError
from mvmic_codec.model import export, transforms
from mvmic_codec.model.arrays import fingerprint
from mvmic_codec.model.definition import FLAG_TABLES
from mvmic_codec.model.encoder_file import path_of
from mvmic_codec.model.identity import read_card
from mvmic_codec.model.integerise import scale_ladder
from mvmic_codec.model.model import Model
from mvmic_codec.model.shape import Shape
from mvmic_codec.model.tables import make_tables
from mvmic_codec.model.trainable import model_of
from mvmic_codec.rate import lambda_of
from mvmic_codec.training import images, loop, start, widen

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SIZES = {
    "near_luma": 9,
    "hyper": 8,
    "width8": 16,
    "blocks8": 1,
    "width16": 16,
    "blocks16": 1,
    "width2": 4,
    "context": 16,
}
# Of the model for gray images (True) and of that for colour.
SMALL = {
    True: {"chroma": 0, "near_chroma": 0, **SIZES},
    False: {"chroma": 8, "near_chroma": 3, **SIZES},
}


def draw(rng, height, width, channels):
    """Smooth blobs and a little noise."""
    y, x = np.mgrid[:height, :width] / 40.0
    planes = [
        128 + 60 * np.sin(x + rng.uniform(0, 6)) * np.cos(y * rng.uniform(0.5, 2)) for _ in range(3)
    ]
    planes = planes[:channels] if channels == 3 else planes[:1] * 3
    noisy = np.stack(planes, -1) + rng.normal(0, 3, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for kind, stems, channels in (
        ("cxr", [f"{p:08}_000" for p in range(12)], 1),
        ("cxr_half", ["00000001_001", "00000011_004"], 1),
        ("polyp", ["C1_a", "C1_b", "C2_c", *[f"C3_{k:03}" for k in range(34)]], 3),
    ):
        (root / kind).mkdir()
        for stem in stems:
            draw(rng, 144, 160, channels).save(root / kind / f"{stem}.png")
    return root


@pytest.fixture(params=first_is_quick(["gray", "colour"]))
def config(folder, tmp_path, monkeypatch, request):
    """A configuration of each model."""
    monkeypatch.setattr(loop, "START_CROPS", 4)
    monkeypatch.setattr(loop, "FIT_CROPS", 1)
    monkeypatch.setattr(loop, "START_SIZE", 128)
    path = tmp_path / "small.json"
    values = {
        "data": str(folder),
        "steps": 4,
        "batch": 2,
        "crop": 64,
        "validate_every": 2,
        "threads": 1,
        "shape": SMALL[request.param == "gray"],
    }
    path.write_text(json.dumps(values))
    return path


def test_validation_is_held_out_by_patient_and_source(folder):
    split = images.load_split(folder, ("cxr", "cxr_half", "polyp"))
    assert len(split.validation["cxr"]) == 8 and len(split.train["cxr"]) == 4
    # Patient 11 is held out, in every size.
    assert len(split.train["cxr_half"]) == 1
    # The 30 last frames of the centre are kept from training, every fourth is validated with.
    assert len(split.train["polyp"]) == 3 + 4 and len(split.validation["polyp"]) == 8


def test_a_folder_without_images_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        images.load_split(tmp_path, images.GRAY_MIX)


@pytest.mark.parametrize("gray", [True, False])
def test_each_model_has_images_of_its_own(folder, gray):
    split = images.load_for_model(folder, gray, 1)
    if gray:
        assert {kind: len(pool) for kind, pool in split.validation.items()} == {"cxr": 8}
        assert {kind: len(pool) for kind, pool in split.train.items()} == {"cxr": 4, "cxr_half": 1}
    else:
        assert {kind: len(pool) for kind, pool in split.validation.items()} == {"polyp": 8}
        # Gray ones too, for scans whose chroma is nearly nothing, but not those validated with.
        assert {kind: len(pool) for kind, pool in split.train.items()} == {"cxr": 4, "polyp": 7}


def test_kinds_are_drawn_by_their_share():
    """Each kind is of one shade here."""
    for mix in (images.GRAY_MIX, images.COLOUR_MIX):
        assert sum(mix.values()) == pytest.approx(1)
        pools = {kind: [np.full((1, 8, 8), 20 * k, np.uint8)] for k, kind in enumerate(mix)}
        planes = images.CropSource(pools, mix, 3, 4000, 8, 0).make()
        assert planes.shape == (4000, 3, 8, 8) and planes.dtype == torch.float32
        drawn = (planes[:, 0, 0, 0] * 255 / 20).round().long()
        shares = torch.bincount(drawn, minlength=len(mix)) / 4000
        assert torch.allclose(shares, torch.tensor(list(mix.values())), atol=0.03)


def test_the_gray_model_trains_with_colour_images_in_gray(tmp_path):
    """Its validation images are those that were gray; the other model's those that were not."""
    rng = np.random.default_rng(2)
    for kind, stem, channels in (
        ("natural", "tree", 3),
        ("natural", "gb82_waves", 3),
        ("natural", "gb82_sunset", 1),
    ):
        (tmp_path / kind).mkdir(exist_ok=True)
        draw(rng, 64, 80, channels).save(tmp_path / kind / f"{stem}.png")
    pixels = np.asarray(Image.open(tmp_path / "natural" / "tree.png")).astype(float)
    luma = np.rint(0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2])
    gray = images.load_for_model(tmp_path, True, 1)
    (tree,) = gray.train["natural"]
    assert tree.dtype == np.uint8 and np.array_equal(tree, luma[None])
    assert [len(image) for image in gray.validation["natural"]] == [1]
    colour = images.load_for_model(tmp_path, False, 1)
    assert np.array_equal(colour.train["natural"][0], pixels.transpose(2, 0, 1))
    assert [len(image) for image in colour.validation["natural"]] == [3]


def test_no_images_to_validate_with_is_a_clear_error(folder, tmp_path):
    (tmp_path / "cxr").symlink_to(folder / "cxr")
    with pytest.raises(InputError, match="no colour images to validate with"):
        images.load_for_model(tmp_path, False, 1)


@pytest.mark.parametrize("gray", [True, False])
def test_flat_areas_are_filled_once_images_are_loaded_for_a_model(tmp_path, gray):
    """Training and validation images; what hides nothing stays as it is to the bit."""
    rng = np.random.default_rng(3)
    (tmp_path / "natural").mkdir()
    plain = np.asarray(draw(rng, 192, 192, 1 if gray else 3))
    framed = plain.copy()
    framed[:, :64] = 0
    for stem, pixels in (("a", plain), ("b", framed), ("gb82_waves", framed)):
        Image.fromarray(pixels).save(tmp_path / "natural" / f"{stem}.png")
    split = images.load_for_model(tmp_path, gray, 2)
    untouched, filled = split.train["natural"]
    (validated,) = split.validation["natural"]
    channels = 1 if gray else 3
    assert np.array_equal(untouched, plain.transpose(2, 0, 1)[:channels])
    for image in (filled, validated):
        assert image.dtype == np.uint8 and image.shape == (channels, 192, 192)
        # Along the edge it goes on smoothly: it was a step of 50 and more.
        assert np.abs(image[:, :, 63].astype(int) - image[:, :, 64]).mean() < 20
        assert np.array_equal(image[:, :, 66:], framed.transpose(2, 0, 1)[:channels, :, 66:])
    originals = images.load_split(tmp_path, ("natural",))
    assert np.array_equal(originals.train["natural"][1], framed.transpose(2, 0, 1)[:channels])


def test_flat_areas_of_deep_and_of_empty_images():
    rng = np.random.default_rng(4)
    deep = rng.integers(20_000, 60_000, (1, 128, 128)).astype(np.uint16)
    # Grain that no eye could see: less than one of 256 shades.
    deep[:, :50] = rng.integers(100, 200, (50, 128))
    filled = images.fill_flat(deep)
    assert filled.dtype == np.uint16 and np.array_equal(filled[:, 52:], deep[:, 52:])
    assert filled[:, :50].min() > 15_000
    empty = np.zeros((3, 64, 64), np.uint8)
    assert images.fill_flat(empty) is empty


@pytest.mark.slow
def test_a_run_trains_exports_and_goes_on(config, tmp_path):
    out = tmp_path / "run"
    checkpoint = loop.train(loop.read_config(config), out)
    first = torch.load(checkpoint, weights_only=True)
    assert first["step"] == 4
    with (out / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(np.isfinite(float(row["log_loss"])) for row in rows)
    started, values = loop.read_config(config), json.loads(config.read_text())
    # Each model validates with its own images and has its own name.
    seen = {key.removeprefix("bd_jpeg2000_") for key in rows[0] if key.startswith("bd_jpeg2000_")}
    assert seen == {"cxr" if started.gray else "polyp"}
    exported = out / ("mvmic-2g.safetensors" if started.gray else "mvmic-2c.safetensors")
    assert sorted(out.glob("*.safetensors")) == [path_of(exported), exported]
    # What it exported has tables that are fitted, and a card that knows,
    arrays = load_file(exported)
    card = read_card(exported.with_suffix(".json"))
    assert fingerprint(arrays, card.shape).hex() == card.fingerprint
    half, _ = make_tables(scale_ladder().numpy(), np.zeros(FLAG_TABLES))
    assert not np.array_equal(arrays["entropy.table_half"].numpy(), half)
    # can be trained on, and the run itself goes on where it stopped.
    assert model_of(exported).shape == started.shape
    config.write_text(json.dumps({**values, "steps": 6}))
    second = torch.load(loop.train(loop.read_config(config), out), weights_only=True)
    assert second["step"] == 6
    with (out / "validation.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["2", "4", "6"]
    assert second["seconds"] > first["seconds"]


@pytest.mark.slow
def test_a_run_starts_from_a_release(config, tmp_path):
    loop.train(loop.read_config(config), tmp_path / "run")
    (card,) = (tmp_path / "run").glob("mvmic-*.json")
    exported = card.with_suffix(".safetensors")
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "start": str(exported), "steps": 2}))
    started = loop.read_config(config)
    split = images.load_for_model(Path(started.data), started.gray, 1)
    trainer = loop.prepare(started, split, torch.device("cpu"), tmp_path / "no checkpoint")
    expected = model_of(exported).state_dict()
    for net in (trainer.model, trainer.ema):
        for name, values in net.state_dict().items():
            assert torch.equal(values, expected[name]), name


@pytest.mark.slow
def test_a_start_of_another_version_is_refused(config, tmp_path):
    """It would go on from random weights where the file has none."""
    loop.train(loop.read_config(config), tmp_path / "run")
    (written,) = (tmp_path / "run").glob("mvmic-*.json")
    exported = written.with_suffix(".safetensors")
    arrays, card = load_file(exported), read_card(written)
    shutil.copy(path_of(exported), tmp_path)
    kept = {name: array for name, array in arrays.items() if "retouch" not in name}
    export.write(kept, card, tmp_path)
    with pytest.raises(InputError, match="retouch.* another version"):
        model_of(tmp_path / exported.name)
    shape = {field: value for field, value in card.shape.items() if field != "width2"}
    export.write(arrays, replace(card, shape=shape), tmp_path)
    with pytest.raises(InputError, match="lacks width2.* another version"):
        model_of(tmp_path / exported.name)


def drawn_crops(channels):
    """Three [N,C,128,128] in 0..1."""
    rng = np.random.default_rng(0)
    crops = np.stack([np.asarray(draw(rng, 128, 128, 3)).transpose(2, 0, 1) for _ in range(3)])
    return torch.from_numpy(crops[:, :channels].astype(np.float32) / 255)


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize(
    "more",
    [
        {"width8": 24},
        {"width16": 20},
        {"width2": 7},
        {"context": 21},
        {"blocks8": 3, "blocks16": 2},
        {"width8": 20, "width16": 21, "context": 22, "blocks8": 2},
    ],
)
def test_a_larger_model_starts_as_the_smaller_one(gray, more):
    torch.manual_seed(1)
    old, new = (Model(Shape(**{**SMALL[gray], **each})).eval() for each in ({}, more))
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    planes = drawn_crops(1 if gray else 3)
    widen.widen(new, old, planes)
    rates = torch.tensor([5, 31, 60])
    with torch.no_grad():
        expected, out = old(planes, rates), new(planes, rates)
    assert torch.allclose(out.bits, expected.bits, rtol=1e-4)
    assert torch.allclose(out.planes, expected.planes, atol=0.01)
    # What is new can be listened to from the first step on.
    new.train()
    seen = new(planes, rates)
    (seen.bits.sum() + 1e3 * seen.error.sum()).backward()
    before = dict(old.named_parameters())
    for name, parameter in new.named_parameters():
        if name.endswith("weight") and name in before and "merge" not in name:
            inputs = before[name].shape[1]
            assert parameter.shape[1] == inputs or parameter.grad[:, inputs:].any(), name
        elif name.endswith("weight") and name in before:
            # Features come first here, then what joins them.
            features = slice(old.shape.context, new.shape.context)
            assert features.start == features.stop or parameter.grad[:, features].any(), name


def test_more_chroma_codes_what_was_left():
    # Of what is drawn, no more chroma than fine noise is left; this has edges of one colour.
    planes = drawn_crops(3)
    planes[:, 0, 20:90:7, :100] += 0.2
    planes[:, 2, :, 30::11] -= 0.2
    planes = planes.clamp(0, 1)
    old, new = (Model(Shape(**{**SMALL[False], **more})).eval() for more in ({}, {"chroma": 40}))
    start.start_from_statistics(old, planes)
    widen.widen(new, old, planes)
    basis = new.blocks.chroma
    assert torch.equal(basis[:8], old.blocks.chroma)
    assert torch.allclose(basis @ basis.t(), torch.eye(40), atol=1e-5)
    rates = torch.tensor([0, 63, 63])
    with torch.no_grad():
        expected, out = old(planes, rates), new(planes, rates)
        # Synthesis listens to what there was and not to what is new.
        net = new.synthesis
        seen = torch.randn(1, 768, 2, 2) * net.spread[:, None, None]
        chroma = transforms.mix(seen[:, 256:], basis[:8].t() @ basis[:8])
        before = torch.cat((seen[:, :256], chroma), 1)
        heard = net.enter(seen, 1 / net.spread)
        assert torch.allclose(heard, old.synthesis.enter(before, 1 / net.spread), atol=1e-3)
    assert torch.equal(out.coded.symbols[:, :264], expected.coded.symbols)
    # At the lowest rate nothing is worth its bits.
    assert not out.coded.symbols[0, 264:].any()
    assert out.coded.symbols[1:, 264:].any((0, 2, 3)).sum() > 16
    assert (out.error[1:] < 0.7 * expected.error[1:]).all()


def test_what_moves_fast():
    model = Model(Shape(**SMALL[False]))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = loop.parameter_groups(model, 1e-3)
    fast, others = groups[0], groups[1:]
    assert fast["lr"] == 4e-3 and all(group["lr"] == 1e-3 for group in others)
    moved = {names[id(parameter)] for parameter in fast["params"]}
    assert {"synthesis.retouch.body.first.weight", "synthesis.rate8.table.knots"} < moved
    assert not {"synthesis.leave.weight", "entropy.think.0.weight"} & moved
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_a_model_cannot_shrink():
    shape = SMALL[False]
    small, large = (Model(Shape(**{**shape, "width8": width})) for width in (16, 24))
    with pytest.raises(InputError, match="width8 24 cannot grow into one with 16"):
        widen.widen(small, large, drawn_crops(3))
    other = Model(Shape(**{**shape, "hyper": 9}))
    with pytest.raises(InputError, match="hyper"):
        widen.widen(other, small, drawn_crops(3))
    gray = Model(Shape(**SMALL[True]))
    with pytest.raises(InputError, match="chroma 0 cannot grow into one with 8"):
        widen.widen(small, gray, drawn_crops(3))


@pytest.mark.slow
def test_a_start_that_does_not_fit_is_told_before_images_are_loaded(config, tmp_path, monkeypatch):
    loop.train(loop.read_config(config), tmp_path / "run")
    (written,) = (tmp_path / "run").glob("mvmic-*.json")
    exported = written.with_suffix(".safetensors")
    before = config.read_text()
    values = json.loads(before)
    values["shape"] = {**values["shape"], "width8": 8}
    config.write_text(json.dumps({**values, "start": str(exported)}))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "load_for_model", None)
        with pytest.raises(InputError, match="width8 16 cannot grow into one with 8"):
            loop.train(loop.read_config(config), tmp_path / "other")
    # A run that has a checkpoint needs no start any more.
    exported.unlink()
    config.write_text(json.dumps({**json.loads(before), "start": str(exported), "steps": 5}))
    checkpoint = loop.train(loop.read_config(config), tmp_path / "run")
    assert torch.load(checkpoint, weights_only=True)["step"] == 5


@pytest.mark.parametrize(
    "wrong", [{"chroma": 0}, {"chroma": 8}, {"near_luma": 257}, {"near_luma": 0}, {"chroma": 600}]
)
def test_a_shape_that_cannot_be_is_refused(config, wrong):
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "shape": wrong}))
    with pytest.raises(ValueError, match="cannot be near"):
        loop.read_config(config)


@pytest.mark.parametrize("device", DEVICES)
def test_crops_have_the_planes_of_the_model(config, device):
    read = loop.read_config(config)
    split = images.load_for_model(Path(read.data), read.gray, 1)
    crops = loop.crop_source(read, split, 3, 64, 0).make()
    assert crops.shape == (3, 1 if read.gray else 3, 64, 64)
    trainer = loop.Trainer(read, torch.device(device))
    # On CUDA the first are taken as they are, the next is recorded, the last is replayed only.
    for _ in range(loop.WARM_STEPS + 2 if device == "cuda" else 2):
        before = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train_step(crops.to(device))
        assert trainer.facts.isfinite().all()
        assert any(
            not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True)
        )
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trainer.model.parameters())


def test_a_gradient_out_of_line_is_shortened(config):
    """To twice the usual; one that is no number is no step."""
    read = loop.read_config(config)
    split = images.load_for_model(Path(read.data), read.gray, 1)
    crops = loop.crop_source(read, split, 3, 64, 0).make()
    trainer = loop.Trainer(read, torch.device("cpu"))
    trainer.train_step(crops)
    norm = dict(zip(loop.FACTS, trainer.facts.tolist(), strict=True))["norm"]
    assert float(trainer.norm) == pytest.approx(norm)
    state = {name: each.clone() for name, each in trainer.model.state_dict().items()}

    def moved():
        return max(
            float((each - state[name]).abs().max())
            for name, each in trainer.model.state_dict().items()
            if each.numel()
        )

    trainer.norm.fill_(norm / 5)
    trainer.train_step(crops)
    assert moved() > 0
    assert float(trainer.norm) == pytest.approx(1.02 * norm / 5, rel=1e-3)
    total = torch.nn.utils.get_total_norm([p.grad for p in trainer.model.parameters()])
    assert float(total) == pytest.approx(2 * norm / 5, rel=0.1)
    state = {name: each.clone() for name, each in trainer.model.state_dict().items()}
    trainer.train_step(torch.full_like(crops, torch.nan))
    assert moved() == 0 and float(trainer.norm) > 0


@pytest.mark.slow
def test_a_compiled_step_is_the_step(config):
    """Traced whole, as on CUDA, where the compiled model is recorded."""
    read = loop.read_config(config)
    split = images.load_for_model(Path(read.data), read.gray, 1)
    crops = loop.crop_source(read, split, 3, 64, 0).make()
    facts = []
    for backend in (None, "aot_eager"):
        trainer = loop.Trainer(read, torch.device("cpu"))
        if backend:
            loop.compile_model(trainer.model, backend=backend)
        torch.manual_seed(5)
        trainer.train_step(crops)
        facts.append(trainer.facts)
    assert torch.allclose(facts[0][:3], facts[1][:3], rtol=1e-3)
    # Gradients have noise of their own.
    assert torch.allclose(*facts, rtol=0.05)


def test_deep_images_are_seen_through_windows():
    """Half of this one is dark, half bright; windows make black and white of much of it."""
    image = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(1, 64, 64)
    plain = images.as_planes(image, 1)
    for deep in (True, False):
        each = image if deep else (image >> 8).astype(np.uint8)
        crops = images.CropSource({"gray16": [each]}, {"gray16": 1.0}, 1, 400, 64, 0).make()
        assert float(crops.min()) >= 0 and float(crops.max()) <= 1
        same = (crops.sort(-1)[0] - torch.from_numpy(plain)).abs().amax((1, 2, 3)) < 1 / 128
        share = float(same.float().mean())
        assert share == (pytest.approx(1 - images.WINDOWED, abs=0.1) if deep else 1)
        # What is between black and white is as it was, stretched.
        slope = (crops[~same].diff(dim=2).amax((1, 2, 3))).tolist()
        assert all(each >= plain[0, 1, 0] * 0.99 for each in slope)


@pytest.mark.parametrize("gray", [True, False])
def test_the_error_is_that_of_a_pixels_three_samples(gray):
    """On the scale of 255, where nothing is cut to 0 to 1: lambda means the same, gray or not."""
    torch.manual_seed(0)
    model = Model(Shape(**SMALL[gray])).eval()
    planes = 0.4 + 0.2 * torch.rand(2, model.shape.planes, 64, 64)
    with torch.no_grad():
        out = model(planes, torch.tensor([9, 40]))
    shown = transforms.restore_colour(out.planes).expand(2, 3, 64, 64)
    error = (255 * (shown - planes)).square().mean((1, 2, 3))
    assert torch.allclose(out.error, error, rtol=1e-3)


def test_gray_is_the_luma_of_equal_channels():
    luma = torch.rand(1, 1, 64, 64)
    one, three = (transforms.rotate_colour(p) for p in (luma, luma.expand(1, 3, 64, 64)))
    assert torch.allclose(one, three[:, :1], atol=1e-3)
    assert float(three[:, 1:].abs().max()) < 1e-3
    back = transforms.restore_colour(one)
    assert torch.allclose(back, luma, atol=1e-6)


@pytest.mark.parametrize("number", first_is_quick([signal.SIGINT, signal.SIGTERM]))
def test_a_signal_saves_and_stops(config, tmp_path, monkeypatch, number):
    """It saves. Then the signal does what it would have done."""

    class Came(BaseException):
        pass

    def raise_it(*arguments):
        raise Came

    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "steps": 10_000}))
    one_step = loop.Trainer.train_step

    def step_and_signal(self, planes):
        one_step(self, planes)
        if self.step == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(loop.Trainer, "train_step", step_and_signal)
    before = signal.signal(number, raise_it)
    try:
        with pytest.raises(Came):
            loop.train(loop.read_config(config), tmp_path / "run")
        assert signal.getsignal(number) == raise_it
    finally:
        signal.signal(number, before)
    assert torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["step"] == 3


def test_a_run_has_steps(config):
    for number in (0, -1):
        with pytest.raises(InputError, match=f"a run has at least 1 step, got {number}"):
            loop.read_config(config, steps=number)


def test_an_unknown_setting_is_refused(config):
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "stepps": 1}))
    with pytest.raises(ValueError, match="stepps"):
        loop.read_config(config)


@pytest.mark.parametrize("gray", [True, False])
def test_the_first_guess_of_each_model_is_finite(folder, gray):
    split = images.load_for_model(folder, gray, 1)
    planes = 1 if gray else 3
    crops = images.CropSource(split.train, images.mix_of(gray), planes, 4, 128, 0).make()
    assert crops.shape == (4, planes, 128, 128)
    torch.manual_seed(0)
    model = Model(Shape(**SMALL[gray]))
    start.start_from_statistics(model, crops)
    for name, values in model.state_dict().items():
        assert torch.isfinite(values).all(), name


def test_the_first_guess_is_a_codec_already():
    """Before any step: fewer bits and less error than an image of its own mean would have."""
    rng = np.random.default_rng(1)
    crops = np.stack([np.asarray(draw(rng, 128, 128, 3)).transpose(2, 0, 1) for _ in range(6)])
    planes = torch.from_numpy(crops.astype(np.float32) / 255)
    torch.manual_seed(0)
    model = Model(Shape(**SMALL[False])).eval()
    start.start_from_statistics(model, planes)
    errors, bits = [], []
    with torch.no_grad():
        for rate in (0, 31, 63):
            out = model(planes, torch.full((6,), rate))
            errors.append(float(out.error.mean()))
            bits.append(float(out.bits.mean()) / 128**2)
    assert errors[0] > errors[1] > errors[2]
    assert bits[0] < bits[1] < bits[2]
    assert errors[2] < 30 and bits[0] < 0.3


def edges(count, seed):
    """DCT coefficients [count,256] of blocks with one straight edge each, at any angle."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16] - 7.5
    angle, offset = rng.uniform(0, np.pi, (count, 1, 1)), rng.uniform(-6, 6, (count, 1, 1))
    side = np.cos(angle) * rows + np.sin(angle) * columns > offset
    blocks = torch.from_numpy(side * rng.uniform(30, 200, (count, 1, 1))).float()
    return transforms.rows_of(transforms.block_dct(blocks[:, None]))


def nonzero(luma, rotations, rate):
    """Coefficients of a block that quantisation leaves, in its best mode; mean over blocks."""
    step = torch.full_like(luma, start.theory_step(rate))
    weight = torch.full((len(luma),), lambda_of(rate) / 3)
    modes = transforms.mode_costs(luma, rotations, step, weight).argmin(1)
    out = transforms.rotate_rows(luma, modes, rotations)[:, 1:]
    return float((out.abs() > transforms.ZERO_BELOW * step[:, 1:]).float().sum(1).mean())


def test_rotations_are_orthonormal_share_the_mean_and_learn_edges():
    rotations = start.first_rotations(torch.eye(256, dtype=torch.float64))
    learned = start.learn_rotations(edges(6000, 0), torch.eye(256, dtype=torch.float64), turns=4)
    for each in (*rotations, *learned):
        assert torch.allclose(each @ each.t(), torch.eye(256), atol=1e-4)
        assert torch.allclose(each[0], torch.eye(256)[0], atol=1e-5)
    unseen = edges(1000, 1)
    alone, first, best = (nonzero(unseen, r, 30) for r in (rotations[3:4], rotations, learned))
    assert first < 0.93 * alone
    assert best < 0.93 * first


def test_border_filter_is_orthonormal_and_gains():
    """At least 0.3 dB of coding gain over the plain block transform for AR(1) with rho = 0.95."""
    lags = (torch.arange(64)[:, None] - torch.arange(64)[None]).abs().double()
    covariance = 0.95**lags
    matrix = start.best_borders(covariance)
    unit = torch.eye(16, dtype=torch.float64)
    assert torch.allclose(matrix @ matrix.t(), unit, atol=1e-9)
    half = torch.eye(8, dtype=torch.float64)
    k = torch.arange(16, dtype=torch.float64)
    dct = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / 32) * (2 / 16) ** 0.5
    dct[0] /= 2**0.5

    def gain(border):
        whole = torch.block_diag(*[dct] * 4) @ torch.block_diag(half, border, border, border, half)
        variance = (whole @ covariance @ whole.t()).diagonal()[16:32]
        return float(-10 * variance.log10().mean())

    assert gain(matrix) - gain(unit) > 0.3


@pytest.mark.parametrize("text", ["[]", '{"task": "polyp"}'])
def test_settings_that_are_no_object(text, tmp_path):
    config = tmp_path / "x.json"
    config.write_text(text)
    with pytest.raises(ValueError, match="are JSON objects"):
        loop.read_config(config)
