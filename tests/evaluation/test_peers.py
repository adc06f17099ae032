import numpy as np
import pytest
from PIL import Image, features

from mvmic_codec import api
from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation import evaluate, images, peers
from mvmic_codec.evaluation.codec import PEERS, Codec, Setting
from mvmic_codec.evaluation.peers import peer


def picture(colour):
    y, x = np.mgrid[0:96, 0:120]
    gray = 120 + 60 * np.sin(x / 5) + 50 * np.cos(y / 7)
    planes = [gray, 0.9 * gray, 0.5 * gray + x / 3]
    return Image.fromarray((np.dstack(planes) if colour else gray).astype(np.uint8))


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("name", [name for name in PEERS if name not in ("bpg", "vvc")])
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


@pytest.mark.parametrize("name, package", [("heic", "pillow_heif"), ("jxl", "pillow_jxl")])
def test_a_missing_plugin_is_named_with_its_remedy(monkeypatch, name, package):
    monkeypatch.setattr("mvmic_codec.evaluation.find_spec", lambda package: None)
    with pytest.raises(MvmError, match=rf"{package} .* pip install 'mvmic_codec\[peers\]'"):
        peer(name)


def test_heic_without_x265_is_refused(monkeypatch):
    info = {"encoders": {"kvazaar": "another encoder"}}
    monkeypatch.setattr("pillow_heif.libheif_info", lambda: info)
    with pytest.raises(InputError, match="without x265"):
        peer("heic")


def test_heic_is_4_0_0_or_4_4_4_and_bt601_of_full_range():
    for colour in (False, True):
        data = peer("heic").curves(not colour)[0][-1].encode(picture(colour))
        configuration = data[data.index(b"hvcC") + 4 :]
        assert configuration[16] & 3 == (3 if colour else 0)  # chroma_format_idc
        assert b"nclx" not in data
    # Strong colours: another matrix or a range of 16 to 235 would move them by 10 and more.
    flat = np.zeros((64, 96, 3), np.uint8)
    flat[:, :32], flat[:, 32:64], flat[:, 64:] = (250, 3, 3), (3, 250, 3), (3, 3, 250)
    codec = peer("heic")
    decoded = np.asarray(codec.decode(codec.curves(False)[0][-1].encode(Image.fromarray(flat))))
    centres = decoded[32, [16, 48, 80]].astype(int)
    assert np.abs(centres - flat[32, [16, 48, 80]]).max() <= 4


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


def test_each_effort_has_its_name(fake_codec):
    codecs = [peers.codec(name, [9], None, None) for name in ("mvm", "mvm-effort2", "mvm-effort3")]
    files = [codec.curves(True)[0][0].encode(picture(False)) for codec in codecs]
    assert [codec.name for codec in codecs] == ["mvm", "mvm-effort2", "mvm-effort3"]
    assert files == [api.encode(picture(False), rate_index=9, effort=n) for n in (1, 2, 3)]
    assert len(set(files)) == 3


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
