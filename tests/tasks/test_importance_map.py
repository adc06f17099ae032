"""What a head makes of errors, and files that are encoded for it."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from task_files import HEIGHT, WIDTH, picture

import mvmic_codec
from mvmic_codec.cli import main
from mvmic_codec.encoder.image_encoder import ImageEncoder
from mvmic_codec.errors import InputError
from mvmic_codec.features import statistics
from mvmic_codec.image.samples import from_input
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks.heads import Card, Head, make_network, save_head
from mvmic_codec.tasks.importance import LEAST, MOST, draw, importance_map, task_errors

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
GRAY, COLOUR = (default_identity(gray).fingerprint for gray in (True, False))
CARD = Card(
    task="discs",
    network="fpn",
    fingerprint=COLOUR,
    maps={"s16": 224},
    classes=["disc"],
    width=12,
    rates=[0, 63],
    data="made up",
    licence="any use",
    scores={},
)
PIXELS, _ = picture(0)
GRID = (-(-HEIGHT // 16), -(-WIDTH // 16))


def head_of(module=None, **changes):
    torch.manual_seed(0)
    card = replace(CARD, **changes)
    return Head(card, (module or make_network(card)).eval())


@pytest.fixture(scope="module")
def coded():
    return ImageEncoder([from_input(PIXELS)], {}, device="cpu").file_at(27).coded


class Sees(torch.nn.Module):
    """Has doubts in some columns alone, and knows everything about the others."""

    def __init__(self, columns):
        super().__init__()
        self.columns, self.weight = columns, torch.nn.Parameter(torch.ones(224))

    def forward(self, maps, rates, size):
        sums = (maps["s16"] * self.weight[:, None, None]).mean(1, keepdim=True)
        logits = torch.nn.functional.interpolate(sums, scale_factor=16.0)[..., : size[0], : size[1]]
        sure = torch.full_like(logits, -1e4)
        sure[..., self.columns] = logits[..., self.columns]
        return sure


class OfCoefficients(torch.nn.Module):
    """One logit, a sum of some coefficients."""

    def __init__(self, factors):
        super().__init__()
        self.factors = torch.nn.Parameter(factors)

    def forward(self, maps, rates, size):
        return (maps["coefficients"] * self.factors).sum().reshape(1, 1, 1, 1)


def test_the_map_is_high_where_the_head_looks(coded):
    importance = importance_map(coded, head_of(Sees(slice(0, 32))), power=1)
    assert importance.shape == GRID and importance.dtype == np.float32
    assert importance.min() == np.float32(LEAST) and importance.max() == MOST
    assert importance[:, :2].min() > 10 * importance[:, -2:].max()
    mirrored = importance_map(coded, head_of(Sees(slice(-32, None))), power=1)
    assert mirrored[:, -2:].min() > 10 * mirrored[:, :2].max()


def test_errors_are_those_of_a_linear_head(coded):
    """Known by hand: g is the factors over the deviations, times the same number for all blocks."""
    torch.manual_seed(3)
    factors = torch.randn(1, 768, *GRID) / 1000
    errors = task_errors(coded, head_of(OfCoefficients(factors), maps={"coefficients": 768}))
    measured = statistics.load(bytes.fromhex(COLOUR))
    deviation = torch.from_numpy(measured.at(27, measured.deviation["coefficients"]))
    expected = (factors[0] / deviation[:, None, None]).square().sum(0)
    ratio = errors[: GRID[0], : GRID[1]] / expected
    # Coefficients beyond 8 deviations are clamped: there is nothing to gain from them.
    assert float(ratio.median()) == pytest.approx(float(ratio.max()), rel=1e-4)
    assert float(ratio.min()) > 0
    assert (errors[GRID[0] :] == 0).all() and (errors[:, GRID[1] :] == 0).all()


def test_a_head_without_doubts_gives_ones(coded):
    assert (importance_map(coded, head_of(Sees(slice(0, 0)))) == 1).all()


def test_the_geometric_mean_is_1_over_what_is_coded(coded):
    importance = importance_map(coded, head_of())
    assert importance.std() > 0.01
    assert importance.min() > LEAST and importance.max() < MOST
    assert np.log(importance).mean() == pytest.approx(0, abs=1e-5)
    wide = importance_map(coded, head_of(), power=0.5)
    np.testing.assert_allclose(wide, importance**2, rtol=1e-4)


def test_flat_areas_have_no_part_in_the_mean():
    pixels = PIXELS.copy()
    pixels[:, 64:] = 0
    coded = ImageEncoder([from_input(pixels)], {}, device="cpu").file_at(27).coded
    assert coded.flat is not None and coded.flat.map[:, 80:].all()
    importance = importance_map(coded, head_of())
    # Blocks whose margin of 4 pixels is seen are coded, too.
    assert np.log(importance[:, :5]).mean() == pytest.approx(0, abs=1e-5)
    assert abs(np.log(importance).mean()) > 1e-3


def test_an_image_that_is_flat_throughout_has_a_map():
    pixels = np.full((64, 96), 20, np.uint8)
    pixels[20:40, 30:60] = 200
    coded = ImageEncoder([from_input(pixels)], {}, device="cpu").file_at(27).coded
    assert coded.flat is not None and coded.flat.map.all()
    importance = importance_map(coded, head_of(fingerprint=GRAY))
    assert importance.min() >= LEAST and importance.max() <= MOST


@pytest.mark.parametrize("classes", [1, 3])
def test_drawn_numbers_have_the_covariance_of_fisher(classes):
    logits = torch.tensor([0.3, -1.2, 0.8])[:classes, None, None].expand(1, classes, 200, 500)
    drawn = draw(logits, torch.Generator().manual_seed(1))[0].flatten(1)
    p = torch.tensor([0.3]).sigmoid() if classes == 1 else logits[0, :, 0, 0].softmax(0)
    expected = p * (1 - p) if classes == 1 else torch.diag(p) - p[:, None] * p
    torch.testing.assert_close(torch.cov(drawn), expected.squeeze(), atol=3e-3, rtol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", ["fpn", "erfnet"])
@pytest.mark.parametrize("classes", [["disc"], ["road", "tree", "sky"]])
def test_every_kind_of_head_gives_a_map(coded, network, classes, device):
    head = head_of(network=network, classes=classes, maps={"s16": 224, "s8": 128})
    head.network.to(device)
    importance = importance_map(coded, head)
    assert importance.shape == GRID and importance.std() > 0


def test_a_file_for_a_head():
    """It is the file of the map that the head makes of the plain file, and any decoder reads it."""
    plain = mvmic_codec.encode(PIXELS, rate_index=27, device="cpu")
    head, state = head_of(), torch.get_rng_state()
    file = mvmic_codec.encode(PIXELS, rate_index=27, task=head, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    encoder = ImageEncoder([from_input(PIXELS)], {}, device="cpu")
    importance = importance_map(encoder.file_at(27).coded, head)
    assert mvmic_codec.encode(PIXELS, rate_index=27, task=importance, device="cpu") == file
    assert file != plain and abs(len(file) - len(plain)) < 0.1 * len(plain)
    header = mvmic_codec.read_header(file)
    assert header == mvmic_codec.read_header(plain)
    assert mvmic_codec.decode(file).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("target", [{"max_bytes": 700}, {"bpp": 0.5}, {"psnr": 30}])
def test_targets_are_met_with_a_head(target):
    pixels = PIXELS[:64, :96]
    file = mvmic_codec.encode(pixels, **target, task=head_of(), device="cpu")
    if "psnr" in target:
        error = np.asarray(mvmic_codec.decode(file)).astype(float) - pixels
        assert 10 * np.log10(255**2 / np.square(error).mean()) >= 29.99
    else:
        assert len(file) <= target.get("max_bytes", 0.5 * 64 * 96 / 8)
    index = mvmic_codec.read_header(file).rate_index
    assert file != mvmic_codec.encode(pixels, rate_index=index, device="cpu")


def test_effort_is_spent_on_the_file_with_the_map_alone():
    rounds = []
    options = {"rate_index": 27, "effort": 2, "on_round": lambda: rounds.append(1)}
    mvmic_codec.encode(PIXELS[:64, :96], **options, task=head_of(), device="cpu")
    assert len(rounds) == 2


@pytest.mark.parametrize(
    ("image", "task", "words"),
    [
        (PIXELS[:, :, 0], head_of(), "takes features of colour images, .* a gray image"),
        (PIXELS, head_of(fingerprint=GRAY), "takes features of gray images, .* a colour image"),
        (PIXELS, head_of(fingerprint="0" * 16), "takes features of model 0000000000000000"),
        (
            PIXELS,
            head_of(network="pixels-light", maps={"pixels": 3}),
            "takes decoded pixels and not features",
        ),
        (PIXELS, "head.safetensors", "task must be a head, .* or a numpy array; got str"),
        (PIXELS, np.ones((3, 3)), "5 rows and 9 columns, .* got an array of 3x3"),
    ],
)
def test_what_does_not_fit_is_refused_before_work_begins(image, task, words, monkeypatch):
    monkeypatch.delattr(ImageEncoder, "file_at")
    with pytest.raises(InputError, match=words) as caught:
        mvmic_codec.encode(image, task=task, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_rate_that_the_head_does_not_know_is_warned_of():
    with pytest.warns(UserWarning, match="trained on rate indices 9 to 20"):
        mvmic_codec.encode(PIXELS, rate_index=27, task=head_of(rates=[9, 20]), device="cpu")


def test_pillow_saves_for_a_head():
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "MVM", rate_index=27, task=head_of(), device="cpu")
    expected = mvmic_codec.encode(PIXELS, rate_index=27, task=head_of(), device="cpu")
    assert file.getvalue() == expected


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_on_the_command_line(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "colour.png")
    Image.fromarray(PIXELS[:, :, 0]).save(tmp_path / "gray.png")
    save_head(head_of(), tmp_path / "head.safetensors")
    result = run(
        "encode", tmp_path / "gray.png", tmp_path / "colour.png", "--rate-index", 27,
        "--device", "cpu", "--task", tmp_path / "head.safetensors",
    )  # fmt: skip
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"mvmic: {tmp_path / 'gray.png'}: the head takes features of colour")
    expected = mvmic_codec.encode(PIXELS, rate_index=27, task=head_of(), device="cpu")
    assert (tmp_path / "colour.mvm").read_bytes() == expected
    assert not (tmp_path / "gray.mvm").exists()


def test_a_rate_that_the_head_does_not_know_is_one_line(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    save_head(head_of(rates=[40, 50]), tmp_path / "head.safetensors")
    result = run(
        "encode", tmp_path / "image.png", "--rate-index", 27,
        "--device", "cpu", "--task", tmp_path / "head.safetensors",
    )  # fmt: skip
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("mvmic: the head was trained on rate indices 40 to 50")


@pytest.mark.parametrize("name", ["none.safetensors", "image.png"])
def test_what_is_no_head_stops_the_command_line(tmp_path, name):
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    result = run("encode", tmp_path / "image.png", "--task", tmp_path / name)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1 and name in result.stderr
    assert not (tmp_path / "image.mvm").exists()
