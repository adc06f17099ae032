"""`mvmic demo`: one image to bytes, features and an overlay; and why it may refuse."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import mvmic_codec
from mvmic_codec.cli import main
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks import heads
from mvmic_codec.tasks.heads import Card, Head, make_network, save_head
from mvmic_codec.tasks.overlay import FOUND


@pytest.fixture
def mvmic():
    def run(*arguments):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


def write(folder, network="fpn", gray=False, rates=(9, 40), classes=("polyp",)):
    torch.manual_seed(0)
    maps = {"s16": 224} if network == "fpn" else {"pixels": 3}
    fingerprint = default_identity(gray).fingerprint
    card = Card("polyps", network, fingerprint, maps, [*classes], 6, list(rates), "", "", {})
    path = folder / "head.safetensors"
    head = Head(card, make_network(card).eval())
    save_head(head, path)
    return path, head


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).normal(120, 30, (5, 7, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).resize((100, 75)).save(path)
    return path


def test_the_overlay_is_what_the_head_says_of_the_file(mvmic, image, tmp_path):
    path, head = write(tmp_path)
    data = mvmic_codec.encode(Image.open(image), quality=3, device="cpu")
    features = mvmic_codec.decode_features(data, device="cpu")
    # So that it finds something, and not everywhere.
    middle = float(np.median(head.predict(features)[0].probabilities))
    head.network.logits.bias.data -= float(np.log(middle / (1 - middle)))
    # Its file has half precision.
    head.network.half().float()
    save_head(head, path)
    out = tmp_path / "out/overlay.png"
    result = mvmic("demo", image, "--head", path, "-o", out)
    assert result.exit_code == 0, result.output
    mask = head.predict(features)[0].mask
    assert 0 < mask.mean() < 1
    drawn, original = np.asarray(Image.open(out)), np.asarray(Image.open(image))
    assert np.array_equal((drawn != original).any(2), mask > 0)
    assert (drawn == FOUND).all(2).any()
    assert f"100x75, {len(data)} bytes, {8 * len(data) / 7500:.3f} bits per pixel" in result.stdout
    assert "at rate index 18" in result.stdout
    assert all(part in result.stdout for part in ("encode ", "features ", "head "))
    assert f"polyp: {mask.mean():.1%} of the image" in result.stdout
    assert result.stdout.endswith("Not a medical device: for research only.\n")
    assert result.stderr == ""


@pytest.mark.filterwarnings("ignore:the head was trained on rate indices")
def test_a_file_is_taken_as_it_is(mvmic, image, tmp_path):
    """It is not encoded again: that would be another file at another rate."""
    path, head = write(tmp_path)
    data = mvmic_codec.encode(Image.open(image), rate_index=2, device="cpu")
    file = tmp_path / "scan.mvm"
    file.write_bytes(data)
    result = mvmic("demo", file, "--head", path, "-o", tmp_path / "x.png")
    assert result.exit_code == 0, result.output
    assert f"{len(data)} bytes" in result.stdout and "at rate index 2\n" in result.stdout
    assert "encode " not in result.stdout and "features " in result.stdout
    assert "may do badly at 2" in result.stderr
    mask = head.predict(mvmic_codec.decode_features(data, device="cpu"))[0].mask
    drawn, decoded = (
        np.asarray(Image.open(tmp_path / "x.png")),
        np.asarray(mvmic_codec.decode(data)),
    )
    assert np.array_equal(drawn[mask == 0], decoded[mask == 0])
    again = mvmic("demo", file, "--head", path, "-o", tmp_path / "y.png", "--rate-index", 18)
    assert again.exit_code == 2 and "scan.mvm is encoded already" in again.stderr
    assert not (tmp_path / "y.png").exists()


def test_rates_that_the_head_does_not_know(mvmic, image, tmp_path):
    path, _ = write(tmp_path)
    result = mvmic("demo", image, "--head", path, "-o", tmp_path / "x.png", "--rate-index", 2)
    assert result.exit_code == 0
    assert result.stderr == (
        "mvmic: the head was trained on rate indices 9 to 40, and may do badly at 2\n"
    )


def test_the_head_that_ships(mvmic, image, tmp_path):
    """On a frame with a black corner, as endoscopes have it."""
    with Image.open(image) as pixels:
        pixels.paste((0, 0, 0), (0, 0, 66, 66))
        pixels.save(image)
    result = mvmic("demo", image, "-o", tmp_path / "x.png")
    assert result.exit_code == 0, result.output
    assert "polyp: 0.0% of the image" in result.stdout and "Not a medical device" in result.stdout
    path = heads.WEIGHTS / "polyp.safetensors"
    card = heads.load_head(path, "cpu").card
    assert (card.task, card.classes, card.maps) == ("polyp segmentation", ["polyp"], {"s16": 224})
    assert card.fingerprint == default_identity(False).fingerprint
    assert card.rates == [6, 63] and "CC BY 4.0" in card.licence and "PolypGen" in card.data
    assert len(card.seen) == 987 and card.scores["mIoU"] > 0.7
    assert path.stat().st_size < 2**21


def test_an_installation_without_its_head(mvmic, image, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "WEIGHTS", tmp_path)
    result = mvmic("demo", image, "-o", tmp_path / "x.png")
    assert result.exit_code == 1 and "the head that ships is missing" in result.stderr
    write(tmp_path)[0].rename(tmp_path / "polyp.safetensors")
    assert mvmic("demo", image, "-o", tmp_path / "x.png").exit_code == 0


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"network": "pixels-light"}, "the head takes decoded pixels and not features"),
        ({"gray": True}, "the head takes features of gray images, and these are of a colour image"),
        ({"classes": ("sky", "road")}, "tells 2 classes apart, and this command draws one"),
    ],
)
def test_heads_for_something_else(head, message, mvmic, image, tmp_path):
    path, _ = write(tmp_path, **head)
    result = mvmic("demo", image, "--head", path, "-o", tmp_path / "x.png")
    assert result.exit_code == 1 and message in result.stderr
    assert not (tmp_path / "x.png").exists()


def test_inputs_and_outputs_that_cannot_be_used(mvmic, image, tmp_path, monkeypatch):
    path, _ = write(tmp_path)
    # --max-pixels sets it for the whole process.
    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)

    def said(*arguments):
        result = mvmic("demo", *arguments, "--head", path)
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        return result.stderr

    out = tmp_path / "x.png"
    assert "none.png: no such file" in said(tmp_path / "none.png", "-o", out)
    assert "head.safetensors is not an image that Pillow can open" in said(path, "-o", out)
    broken = tmp_path / "broken.png"
    broken.write_bytes(image.read_bytes()[:-40])
    assert "broken.png cannot be read: " in said(broken, "-o", out)
    assert "image.png has more pixels" in said(image, "-o", out, "--max-pixels", 99)
    Image.MAX_IMAGE_PIXELS = limit
    assert "name it .png, .jpg or .webp" in said(image, "-o", tmp_path / "x.mvm")
    assert "the output would replace the input" in said(image, "-o", image, "--force")
    out.write_bytes(b"mine")
    assert "exists; use --force" in said(image, "-o", out)
    # An image that cannot be used is no reason to overwrite anything.
    assert "broken.png cannot be read" in said(broken, "-o", out)
    assert out.read_bytes() == b"mine"
    path.write_bytes(path.read_bytes()[:-9])
    assert "is damaged" in said(image, "-o", out, "--force")
