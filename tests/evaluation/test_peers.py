import numpy as np
import pytest
from PIL import Image, features

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation import evaluate, images, peers
from mvmic_codec.evaluation.peers import PEERS, Codec, Setting, peer


def picture(colour):
    y, x = np.mgrid[0:96, 0:120]
    gray = 120 + 60 * np.sin(x / 5) + 50 * np.cos(y / 7)
    planes = [gray, 0.9 * gray, 0.5 * gray + x / 3]
    return Image.fromarray((np.dstack(planes) if colour else gray).astype(np.uint8))


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_codes_what_it_is_given(name, colour):
    codec = peer(name)
    image = picture(colour)
    for curve in codec.curves(not colour):
        sizes = []
        for setting in (curve[0], curve[-1]):
            data = setting.encode(image)
            decoded = codec.decode(data)
            assert decoded.size == image.size
            sizes.append(len(data))
        assert sizes[0] < sizes[1]
        error = np.asarray(decoded.convert(image.mode), float) - np.asarray(image)
        assert np.mean(error**2) < 40


def test_jpeg_has_two_variants_in_colour_only():
    assert len(peer("jpeg").curves(False)) == 2
    assert len(peer("jpeg").curves(True)) == 1


def test_an_unknown_codec_is_refused():
    with pytest.raises(InputError, match="choose from"):
        peer("gif")


def test_a_codec_that_pillow_lacks_is_named(monkeypatch):
    monkeypatch.setattr(features, "get_supported", lambda: ["jpg"])
    with pytest.raises(InputError, match="without avif"):
        peer("avif")


def test_the_better_variant_is_kept(tmp_path):
    path = tmp_path / "set" / "a.png"
    path.parent.mkdir()
    picture(True).save(path)

    def setting(label, quality, waste):
        codec = peer("jpeg")
        index = [s.label for s in codec.curves(False)[0]].index(f"{quality}/4:4:4")
        encode = codec.curves(False)[0][index].encode
        return Setting(label, lambda image: encode(image) + bytes(waste))

    def curves(gray):
        return [
            [setting(f"{quality}/{waste}", quality, waste) for quality in (8, 45, 90)]
            for waste in (900, 0, 500)
        ]

    codec = Codec("two", deep=False, curves=curves, decode=peer("jpeg").decode)
    rows = evaluate.evaluate(path, codec)
    assert [row.setting for row in rows] == ["8/0", "45/0", "90/0"]
    assert {row.set for row in rows} == {"set"}


def test_a_codec_that_loses_the_shape_is_an_error(tmp_path):
    picture(False).save(tmp_path / "a.png")
    wrong = Codec(
        "wrong",
        deep=False,
        curves=lambda gray: [[Setting("1", lambda image: b"")]],
        decode=lambda data: Image.new("L", (3, 3)),
    )
    with pytest.raises(MvmError, match="gave back a 3x3 L image"):
        evaluate.evaluate(tmp_path / "a.png", wrong)


def test_our_codec_is_measured_through_the_api(fake_codec):
    codec = peers.mvm([0, 63])
    evaluate.warm_up(codec)
    small, large = (setting.encode(picture(False)) for setting in codec.curves(True)[0])
    assert len(small) < len(large) and codec.decode(large).mode == "L"


def test_load_finds_gray_and_depth(tmp_path):
    picture(False).convert("RGB").save(tmp_path / "gray.webp", lossless=True)
    assert images.load(tmp_path / "gray.webp").shape == (96, 120)
    picture(True).save(tmp_path / "colour.png")
    assert images.load(tmp_path / "colour.png").shape == (96, 120, 3)
    deep = np.array([[100, 300], [200, 140]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    loaded = images.load(tmp_path / "deep.png")
    assert loaded.dtype == np.uint16
    np.testing.assert_array_equal(images.to_8_bits(loaded), [[0, 255], [128, 51]])
    np.testing.assert_array_equal(images.to_8_bits(np.full((2, 2), 7, np.uint16)), 0)
    Image.new("RGBA", (4, 4)).save(tmp_path / "alpha.png")
    with pytest.raises(InputError, match="mode RGBA"):
        images.load(tmp_path / "alpha.png")
