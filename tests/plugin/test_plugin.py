import inspect
import io
import pickle
import struct
import zlib

import numpy as np
import one_tile
import pytest
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

import mvmic_codec
from mvmic_codec import plugin
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.header import GRAY_RGB, Header
from mvmic_codec.errors import (
    ChecksumError,
    FormatError,
    InputError,
    ModelError,
    MvmError,
    TruncatedError,
    VersionError,
)
from mvmic_codec.image import indexed

pytestmark = pytest.mark.usefixtures("fake_codec")

ICC = bytes(16) + b"RGB " + b"the rest of a profile"
PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 256, (11, 17, 3), dtype=np.uint8))


def saved(image=PHOTO, **options):
    file = io.BytesIO()
    image.save(file, "MVM", **options)
    return file.getvalue()


def altered(data, **fields):
    whole = one_tile.read(data)
    header = Header(**{**vars(whole.header), **fields})
    return one_tile.write(header, whole.payload, whole.metadata)


def test_registered():
    assert Image.registered_extensions()[".mvm"] == "MVM"
    assert Image.MIME["MVM"] == "image/x-mvm"


def test_open_is_lazy_and_complete(fake_codec):
    fake_codec.decode_planes = None
    with Image.open(io.BytesIO(saved(quality=4))) as image:
        assert isinstance(image, plugin.MvmImageFile)
        assert (image.format, image.mode, image.size) == ("MVM", "RGB", (17, 11))
        assert image.get_format_mimetype() == "image/x-mvm"
        assert image.info == {"model": "mvmic-9c", "rate_index": 27, "quality": 4.0}


def test_open_reads_no_image_data():
    data = saved()
    head = data[: data.index(b"DATA") + 4]
    assert Image.open(io.BytesIO(head)).size == (17, 11)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "I"])
def test_modes(mode):
    ramp = np.arange(300).reshape(12, 25)
    arrays = {
        "L": ramp.astype(np.uint8),
        "RGB": np.stack([ramp.astype(np.uint8)] * 3, -1),
        "I;16": (ramp * 13).astype(np.uint16),
        "I": (ramp * 13 - 1024).astype(np.int32),
    }
    source = Image.fromarray(arrays[mode])
    assert source.mode == mode
    with Image.open(io.BytesIO(saved(source, rate_index=63))) as image:
        assert (image.mode, image.size) == (mode, (25, 12))
        assert np.array_equal(np.asarray(image), arrays[mode])
        assert image.getpixel((24, 11)) == source.getpixel((24, 11))
        assert np.array_equal(np.asarray(image.copy()), arrays[mode])


def test_path_file_object_and_name(tmp_path):
    path = tmp_path / "scan.mvm"
    PHOTO.save(path, quality=8)
    PHOTO.save(str(tmp_path / "upper.MVM"), quality=8)
    with open(tmp_path / "file.bin", "w+b") as file:
        PHOTO.save(file, "MVM", quality=8)
    files = [path, tmp_path / "upper.MVM", tmp_path / "file.bin"]
    assert {file.read_bytes() for file in files} == {saved(quality=8)}
    for file in files:
        with Image.open(file) as image:
            image.load()
            assert image.size == PHOTO.size
    with open(path, "rb") as file, Image.open(file) as image:
        image.load()


def test_file_is_closed_after_loading(tmp_path):
    path = tmp_path / "scan.mvm"
    PHOTO.save(path)
    image = Image.open(path)
    file = image.fp
    image.load()
    assert file.closed
    image.load()
    image.close()


def test_file_of_the_caller_stays_open():
    file = io.BytesIO(saved())
    with Image.open(file) as image:
        image.load()
    assert not file.closed


def test_save_options():
    assert saved() == saved(quality=7) == saved(rate_index=54)
    size = len(saved(rate_index=20))
    assert len(saved(max_bytes=size)) <= size
    assert container.read_header(saved(psnr=30)).rate_index > 0
    assert len(saved(bpp=20)) * 8 <= 20 * 17 * 11


@pytest.mark.parametrize("save_all", [False, True])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qualty", "ignores the option 'qualty'; is 'quality' meant?"),
        ("max_byte", "ignores the option 'max_byte'; is 'max_bytes' meant?"),
        ("optimize", "ignores the option 'optimize'"),
        ("pnginfo", "ignores the option 'pnginfo'"),
    ],
)
def test_unknown_option_is_named_in_a_warning(name, words, save_all):
    with pytest.warns(UserWarning) as caught:
        assert saved(**{name: 5}, save_all=save_all) == saved()
    assert [str(warning.message) for warning in caught] == [f"saving to .mvm {words}"]
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_known_options_are_those_of_encode():
    for name in inspect.signature(mvmic_codec.encode).parameters:
        default = {"effort": 1, "exif": None, "dpi": None, "text": None}.get(name)
        if name != "image":
            assert saved(**{name: default}) == saved()


def test_lossless_is_refused():
    assert saved(lossless=False) == saved()
    with pytest.raises(InputError, match="always lossy"):
        saved(lossless=True)


def frames(count):
    file = io.BytesIO()
    PHOTO.save(file, "TIFF", save_all=True, append_images=[PHOTO] * (count - 1))
    return Image.open(file)


def test_save_all_saves_the_only_frame():
    for save_all in (True, False):
        assert saved(save_all=save_all) == saved(save_all=save_all, append_images=[]) == saved()
    with frames(1) as one, frames(3) as three:
        assert saved(one, save_all=True, dpi=None) == saved(dpi=None)
        assert saved(three, dpi=None) == saved(dpi=None), (
            "without save_all, the frame that is shown"
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"append_images": [PHOTO], "save_all": False}, "append_images needs save_all=True"),
        ({"append": True}, "takes no further frames"),
        ({"append": True, "save_all": True}, "takes no further frames"),
        ({"append_images": PHOTO, "save_all": True}, "takes a list of Pillow images"),
        ({"append_images": ["a.png"], "save_all": True}, "takes a list of Pillow images"),
        ({"append_images": "a.png", "save_all": True}, "takes a list of Pillow images"),
        ({"append_images": 5, "save_all": True}, "takes a list of Pillow images"),
        ({"append_images": np.ones((4, 9, 9)), "save_all": True}, "takes a list of Pillow images"),
        ({"append_images": [np.ones((9, 9))], "save_all": False}, "takes a list of Pillow images"),
    ],
)
def test_wrong_images_to_append_are_refused(tmp_path, options, said):
    path = tmp_path / "scan.mvm"
    path.write_bytes(b"something that was there")
    with pytest.raises(InputError, match=said):
        saved(**options)
    if "append" in options:
        with pytest.raises(InputError, match=said):
            PHOTO.save(path, **options)
        assert path.read_bytes() == b"something that was there"


def test_images_to_append_may_be_any_iterable():
    images = [PHOTO, PHOTO]
    expected = saved(save_all=True, append_images=images)
    for given in (tuple(images), iter(images)):
        assert saved(save_all=True, append_images=given) == expected


def test_save_over_itself(tmp_path):
    path = tmp_path / "scan.mvm"
    PHOTO.save(path, rate_index=63)
    with Image.open(path) as image:
        image.save(path, rate_index=63)
    with Image.open(path) as image:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(PHOTO)).max() <= 1


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (PHOTO, {"quality": 95}),
        (PHOTO, {"quality": 3, "bpp": 1}),
        (PHOTO, {"max_bytes": 10}),
        (Image.new("LAB", (4, 4)), {}),
        (Image.new("L", (0, 4)), {}),
    ],
)
def test_failed_save_leaves_nothing(tmp_path, image, options):
    path = tmp_path / "scan.mvm"
    with pytest.raises(InputError):
        image.save(path, **options)
    assert not path.exists()
    file = io.BytesIO()
    with pytest.raises(InputError):
        image.save(file, "MVM", **options)
    assert file.getvalue() == b""


def test_unwritable_target(tmp_path):
    with pytest.raises(OSError):
        PHOTO.save(tmp_path / "no such folder" / "scan.mvm")


def test_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "chest"
    data = saved(
        exif=exif,
        icc_profile=ICC,
        xmp=b"<x/>",
        dpi=(96, 300),
        text={"Comment": "slice"},
    )
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == ICC
        assert image.info["xmp"] == b"<x/>"
        assert image.info["dpi"] == (96.0, 300.0)
        assert image.info["text"] == {"Comment": "slice"}
        assert dict(image.getexif()) == {0x0112: 6, 0x010E: "chest"}
        again = saved(image)
        converted = io.BytesIO()
        image.save(converted, "JPEG", exif=image.info["exif"])
    assert one_tile.read(again).metadata == one_tile.read(data).metadata
    with Image.open(converted) as image:
        assert image.getexif()[0x0112] == 6


def test_palette_of_grays_with_a_profile_for_rgb(monkeypatch):
    """RGB with it: a gray image cannot have such a profile. Its channels cost no more than one."""
    monkeypatch.setattr(indexed, "PALETTE_BYTES_MAX", 0)
    image = PHOTO.convert("L").convert("P")
    assert container.read_header(saved(image)).mode == "L"
    image.info["icc_profile"] = ICC
    data = saved(image)
    assert container.read_header(data).photometric == GRAY_RGB
    with Image.open(io.BytesIO(data)) as again:
        assert (again.mode, again.info["icc_profile"]) == ("RGB", ICC)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "I", "F"])
def test_gray_image_loses_a_profile_for_rgb(mode):
    image = Image.new(mode, (8, 8))
    if mode == "LA":
        image.putalpha(255)
    image.info["icc_profile"] = ICC
    assert one_tile.read(saved(image)).metadata == {}
    with pytest.raises(InputError, match="no ICC profile for gray samples"):
        saved(image, icc_profile=ICC)
    own = ICC.replace(b"RGB ", b"GRAY")
    assert one_tile.read(saved(image, icc_profile=own)).metadata == {b"icCP": own}


@pytest.mark.parametrize("name", ["exif", "icc_profile", "xmp", "dpi", "text"])
def test_none_leaves_out(name):
    """As with the formats of Pillow itself; in encode as in save."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = PHOTO.copy()
    image.info = {"icc_profile": ICC, "xmp": b"<x/>", "dpi": (72, 72), "text": {"a": "b"}}
    image.info["exif"] = exif.tobytes()
    whole = one_tile.read(saved(image)).metadata
    less = one_tile.read(saved(image, **{name: None})).metadata
    assert len(whole) == 5 and len(less) == 4 and less.items() < whole.items()
    assert one_tile.read(mvmic_codec.encode(image, **{name: None})).metadata == less
    assert one_tile.read(mvmic_codec.encode(image, **{name: ...})).metadata == whole


def test_metadata_from_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 3
    jpeg = io.BytesIO()
    PHOTO.save(jpeg, "JPEG", exif=exif, dpi=(72, 72), icc_profile=ICC)
    with Image.open(jpeg) as image, Image.open(io.BytesIO(saved(image))) as ours:
        assert ours.getexif()[0x0112] == 3
        assert ours.info["dpi"] == (72.0, 72.0)
        assert ours.info["icc_profile"] == ICC


def test_orientation_is_applied_exactly_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(saved(exif=exif, rate_index=63))) as image:
        assert image.size == PHOTO.size
        upright = ImageOps.exif_transpose(image)
    assert upright.size == PHOTO.size[::-1]
    with Image.open(io.BytesIO(saved(upright))) as again:
        assert again.size == upright.size
        assert ImageOps.exif_transpose(again).size == upright.size


def test_not_ours_is_left_to_other_formats():
    for data in (b"", b"MVM", b"not an image at all", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(data))
        with pytest.raises(SyntaxError):
            plugin.MvmImageFile(io.BytesIO(data))
    png = io.BytesIO()
    PHOTO.save(png, "PNG")
    with Image.open(png) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: data[:30], TruncatedError),
        (lambda data: data[:6], TruncatedError),
        (lambda data: data.replace(b"\r\n", b"\n"), FormatError),
        (lambda data: data[:20] + b"!" + data[21:], ChecksumError),
        (lambda data: newer(data), VersionError),
    ],
)
def test_damaged_header_is_named_on_opening(tmp_path, damage, error):
    path = tmp_path / "scan.mvm"
    path.write_bytes(damage(saved()))
    with pytest.raises(error) as caught:
        Image.open(path)
    assert not isinstance(caught.value, UnidentifiedImageError)


def newer(data):
    """The file with a later version in HEAD, whose checksum fits."""
    end = 16 + struct.unpack_from("<I", data, 8)[0]
    head = b"HEAD\x04" + data[17:end]
    return data[:12] + head + struct.pack("<I", zlib.crc32(head)) + data[end + 4 :]


@pytest.mark.parametrize("tolerant", [False, True])
def test_damaged_image_data_is_named_on_loading(monkeypatch, tolerant):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    data = saved()
    cases = [
        (data[:-1], TruncatedError),
        (data[:80], TruncatedError),
        (data + b"\1", FormatError),
        (data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], ChecksumError),
    ]
    for damaged, error in cases:
        with Image.open(io.BytesIO(damaged)) as image:
            for _ in range(2):  # and again, never pixels
                with pytest.raises(error):
                    image.load()


def test_truncated_at_every_byte():
    data = saved(Image.new("L", (3, 3)), text={"a": "b"})
    for end in range(4, len(data)):
        with pytest.raises(TruncatedError), Image.open(io.BytesIO(data[:end])) as image:
            image.load()


def test_every_flipped_byte_is_an_error():
    data = saved(Image.new("L", (3, 3)), text={"a": "b"})
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x20
        error = UnidentifiedImageError if at < 4 else MvmError
        with pytest.raises(error), Image.open(io.BytesIO(damaged)) as image:
            image.load()


def test_unknown_model_still_opens():
    data = altered(saved(), generation=7, fingerprint=b"12345678")
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == PHOTO.size
        assert image.info["model"] == "mvmic-7c"
        with pytest.raises(ModelError, match=b"12345678".hex()):
            image.load()


def test_pillow_checks_for_decompression_bombs(fake_codec):
    fake_codec.decode_planes = None
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(altered(saved(), width=limit + 1, height=1)))
    for width, height in ((2 * limit + 1, 1), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(altered(saved(), width=width, height=height)))


def test_file_replaced_between_open_and_load(tmp_path):
    first, second = saved(), saved(Image.new("L", (300, 200)))
    file = io.BytesIO(first)
    with Image.open(file) as image:
        file.seek(0)
        file.write(second)
        file.truncate(len(second))
        with pytest.raises(FormatError):
            image.load()


def test_verify():
    data = saved()
    image = Image.open(io.BytesIO(data))
    image.verify()
    for damaged in (data[:-1], data[:-6] + b"!" + data[-5:]):
        image = Image.open(io.BytesIO(damaged))
        with pytest.raises(FormatError):
            image.verify()


def test_incremental_parser():
    data = saved()
    parser = ImageFile.Parser()
    for at in range(len(data)):
        parser.feed(data[at : at + 1])
    image = parser.close()
    assert (image.format, image.size) == ("MVM", PHOTO.size)


def test_stream_without_seek():
    class Pipe:
        def __init__(self, data):
            self.read = io.BytesIO(data).read

    with Image.open(Pipe(saved())) as image:
        image.load()
        assert image.size == PHOTO.size


def test_pickle_and_convert():
    with Image.open(io.BytesIO(saved())) as image:
        copy = pickle.loads(pickle.dumps(image))
        assert np.array_equal(np.asarray(copy), np.asarray(image))
        assert image.convert("L").info["model"] == "mvmic-9c"
        assert image.resize((4, 4)).size == (4, 4)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_pickled_image_is_one_image(frames):
    with Image.open(io.BytesIO(saved(save_all=True, append_images=[PHOTO] * (frames - 1)))) as im:
        im.seek(frames - 1)
        copy = pickle.loads(pickle.dumps(im))
        pixels = np.asarray(im)
    assert (copy.tell(), copy.n_frames, copy.is_animated) == (0, 1, False)
    copy.seek(0)
    with pytest.raises(EOFError):
        copy.seek(1)
    assert copy.draft(None, (2, 2)) is None and copy.crop((0, 0, 3, 2)).size == (3, 2)
    with pytest.raises(InputError, match="opened without features"):
        _ = copy.features
    with pytest.raises(RuntimeError, match="verify"):
        copy.verify()
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(copy))), pixels)
    again = Image.open(io.BytesIO(saved(copy, save_all=True, rate_index=63)))
    assert again.n_frames == 1 and np.abs(np.asarray(again).astype(int) - pixels).max() <= 1
    copy.close()


@pytest.mark.parametrize("mode", ["1", "P"])
def test_an_image_without_features_has_pixels(mode):
    image = PHOTO.convert("1").resize((60, 40), 0)
    if mode == "P":
        image = image.convert("RGB").quantize(2)
    try:
        mvmic_codec.register_mvm_opener(features=True)
        opened = Image.open(io.BytesIO(saved(image)))
    finally:
        mvmic_codec.register_mvm_opener()
    assert opened.mode == mode and opened.tobytes() == image.tobytes()
    for each in (opened, pickle.loads(pickle.dumps(opened))):
        with pytest.raises(InputError, match="coded without a model and has no features"):
            _ = each.features


def test_device_reaches_the_codec(fake_codec, monkeypatch):
    seen = []
    attempt, decode = fake_codec.EncodeCandidate, fake_codec.decode_planes

    def attempt_on(planes, index, *, device, **options):
        seen.append(device)
        return attempt(planes, index)

    def decode_planes(payload, header, *, hidden, device):
        seen.append(device)
        return decode(payload, header)

    monkeypatch.setattr(fake_codec, "EncodeCandidate", attempt_on)
    monkeypatch.setattr(fake_codec, "decode_planes", decode_planes)
    try:
        mvmic_codec.register_mvm_opener(device="cuda:1")
        with Image.open(io.BytesIO(saved(device="cpu"))) as image:
            image.load()
        saved()
    finally:
        mvmic_codec.register_mvm_opener()
    saved()
    assert seen == ["cpu", "cuda:1", "cuda:1", None]


def test_effort_reaches_the_codec():
    files = [saved(effort=effort) for effort in (1, 2, 3)]
    assert files[0] == saved() and len(set(files)) == 3
    with pytest.raises(InputError, match="effort must be 1, 2 or 3, got 4"):
        saved(effort=4)
