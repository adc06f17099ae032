import numpy as np
import pytest
from PIL import Image, features

from mvmic_codec import rate
from mvmic_codec.errors import InputError
from mvmic_codec.evaluation import peers, pictures
from mvmic_codec.evaluation.images import to_8_bits
from mvmic_codec.evaluation.metrics import psnr

CODECS = ("avif", "jpeg2000", "jpeg", "webp")


def supported(name):
    if peers.FEATURES[name] not in features.get_supported():
        pytest.skip(f"this Pillow was built without {name}")
    return name


@pytest.fixture
def scan():
    y, x = np.mgrid[0:96, 0:128]
    noise = np.random.default_rng(1).normal(0, 6, y.shape)
    return (120 + 60 * np.sin(x / 9) + 40 * np.cos(y / 7) + noise).clip(0, 255).astype(np.uint8)


def save(folder, pixels):
    path = folder / "scan.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", CODECS)
def test_the_largest_file_not_above_a_size(scan, name):
    ladder = pictures._Ladder(supported(name), Image.fromarray(scan))
    for size in (900, 2000, 5000):
        found = ladder.at_most(size, scan)
        assert found.fits and 0.7 * size < found.bytes <= size
        assert found.psnr == psnr(scan, found.pixels) > 20
        # The next step was tried and is too large.
        step = max(k for k, data in ladder.files.items() if len(data) == found.bytes)
        assert len(ladder.files[step + 1]) > size


def test_a_size_below_the_smallest_file(scan):
    found = pictures._Ladder("jpeg", Image.fromarray(scan)).at_most(10, scan)
    assert not found.fits and found.bytes > 10 and found.setting == "quality 1"


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("name", CODECS)
def test_a_codec_is_set_as_in_the_tables(monkeypatch, scan, name, colour):
    seen = []
    monkeypatch.setattr(Image.Image, "save", lambda self, file, form, **o: seen.append((form, o)))
    image = Image.fromarray(scan).convert("RGB" if colour else "L")
    pictures._Ladder(supported(name), image).file(50)
    for curve in peers.peer(name).curves(not colour):
        curve[0].encode(image)
    (form, options), *measured = seen
    quality = {"quality", "quality_layers"}
    others = [(f, {k: v for k, v in o.items() if k not in quality}) for f, o in measured]
    assert (form, {k: v for k, v in options.items() if k not in quality}) in others


def test_this_codec_and_another_at_three_rates(fake_codec, scan, tmp_path):
    source = pictures.read_source(save(tmp_path, scan))
    assert source.bytes == source.path.stat().st_size and not source.rendered
    shown = pictures.compare(source, "jpeg")
    assert len(shown.pairs) == len(pictures.QUALITIES)
    for quality, (ours, other) in zip(pictures.QUALITIES, shown.pairs, strict=True):
        (setting,) = peers.mvm([rate.index_of(quality)]).curves(True)[0]
        assert ours.bytes == len(setting.encode(Image.fromarray(scan)))
        assert ours.setting == f"q = {quality}"
        assert ours.psnr == psnr(scan, ours.pixels) and other.codec == "jpeg"
        assert other.bytes <= ours.bytes


def test_colour(fake_codec, scan, tmp_path):
    colours = np.dstack([scan, scan[::-1], 255 - scan])
    shown = pictures.compare(pictures.read_source(save(tmp_path, colours)), "webp")
    assert all(c.pixels.shape == colours.shape for pair in shown.pairs for c in pair)


def test_deep_gray_is_rendered_to_8_bits(fake_codec, scan, tmp_path):
    deep = scan.astype(np.uint16) * 13 + 700
    source = pictures.read_source(save(tmp_path, deep))
    assert source.rendered and np.array_equal(source.pixels, to_8_bits(deep))
    (ours, other), *_ = pictures.compare(source, "jpeg").pairs
    assert ours.pixels.dtype == other.pixels.dtype == np.uint8


def test_what_cannot_be_shown_is_refused(tmp_path):
    with pytest.raises(InputError, match="'vvc' cannot be shown .* avif, jpeg2000, jpeg, webp"):
        pictures.check_against("vvc")
    with pytest.raises(OSError, match="no.png"):
        pictures.read_source(tmp_path / "no.png")


def test_the_default_is_what_pillow_has(monkeypatch):
    for has, name in ((["avif", "jpg_2000"], "avif"), (["jpg_2000"], "jpeg2000"), ([], "jpeg")):
        monkeypatch.setattr(pictures.features, "get_supported", lambda has=has: has)
        assert pictures.default_against() == name
