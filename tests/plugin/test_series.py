"""Series of images through Pillow."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image, ImageSequence, PngImagePlugin

import mvmic_codec
from mvmic_codec.errors import FormatError, InputError

pytestmark = pytest.mark.usefixtures("fake_codec")

NOISE = np.random.default_rng(1).integers(0, 256, (4, 11, 17), dtype=np.uint8)
FRAMES = [Image.fromarray(each) for each in NOISE]
COLOUR = [Image.merge("RGB", (each, each.rotate(180), FRAMES[0])) for each in FRAMES]
# Images with a palette, which need no model, also for a smaller picture.
LABELS = [Image.fromarray(each[:10, :14] // 100).resize((112, 80), 0) for each in NOISE]
for label in LABELS:
    label.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 9])
    label.info["transparency"] = b"\x00\x80\xff"


def saved(first, *others, **options):
    file = io.BytesIO()
    first.save(file, "MVM", save_all=True, append_images=others, **options)
    return file.getvalue()


@pytest.fixture
def series():
    return saved(*FRAMES, rate_index=63, duration=[10, 20, 30, 40], loop=3)


def test_frames_come_back(series):
    with Image.open(io.BytesIO(series)) as image:
        assert (image.n_frames, image.is_animated, image.mode) == (4, True, "L")
        assert (image.info["loop"], image.tell()) == (3, 0)
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            assert image.tell() == number
            assert frame.info["duration"] == 10 * (number + 1)
            assert np.array_equal(np.asarray(frame), NOISE[number])


def test_frames_in_any_order(series):
    with Image.open(io.BytesIO(series)) as image:
        kept = []
        for number in (3, 0, 2, 2, 1):
            image.seek(number)
            kept.append((number, image.copy()))
        for number, frame in kept:
            assert np.array_equal(np.asarray(frame), NOISE[number])
        for wrong in (4, -1, 99):
            with pytest.raises(EOFError):
                image.seek(wrong)
        assert image.tell() == 1
        assert np.array_equal(np.asarray(image), NOISE[1])


def test_one_image_is_no_series():
    with Image.open(io.BytesIO(saved(FRAMES[0]))) as image:
        assert (image.n_frames, image.is_animated) == (1, False)
        assert "duration" not in image.info and "loop" not in image.info
        with pytest.raises(EOFError):
            image.seek(1)
    assert saved(FRAMES[0], duration=40) == saved(FRAMES[0])


def test_series_of_other_formats(series):
    file = io.BytesIO()
    FRAMES[0].save(file, "TIFF", save_all=True, append_images=FRAMES[1:])
    with Image.open(file) as tiff:
        data = saved(tiff, rate_index=63, dpi=None, exif=None)
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(series)) as again:
        assert image.n_frames == 4
        both = saved(image, again, rate_index=63)
    assert np.array_equal(mvmic_codec.decode_array(both), np.concatenate((NOISE, NOISE)))


def test_durations_are_taken_over(series):
    with Image.open(io.BytesIO(series)) as image:
        data = saved(image, rate_index=63)
    with Image.open(io.BytesIO(data)) as image:
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(image)] == [
            10,
            20,
            30,
            40,
        ]


def test_metadata_are_in_the_file_once():
    for frame in (frames := [each.copy() for each in FRAMES]):
        frame.info["xmp"] = b"<x>of the first</x>"
    data = saved(*frames)
    assert data.count(b"of the first") == 1
    with Image.open(io.BytesIO(data)) as image:
        image.seek(2)
        assert image.info["xmp"] == b"<x>of the first</x>"


def test_arrays_and_sequences():
    for given in (NOISE, FRAMES, list(NOISE), tuple(NOISE)):
        data = mvmic_codec.encode(given, rate_index=63)
        assert np.array_equal(mvmic_codec.decode_array(data), NOISE)
        for number in (3, 0):
            assert np.array_equal(np.asarray(mvmic_codec.decode(data, frame=number)), NOISE[number])
    colour = np.stack([NOISE] * 3, -1)
    colour[..., 1] //= 2
    assert np.array_equal(
        mvmic_codec.decode_array(mvmic_codec.encode(colour, rate_index=63)), colour
    )
    one = mvmic_codec.encode(NOISE[:1], rate_index=63)
    assert np.array_equal(mvmic_codec.decode_array(one), NOISE[0])


def test_a_series_has_one_range():
    deep = np.arange(4 * 9 * 8).reshape(4, 9, 8).astype(np.int16) * 5 - 300
    data = mvmic_codec.encode(deep, rate_index=63)
    header = mvmic_codec.read_header(data)
    assert (header.lo, header.hi, header.signed, header.frames) == (-300, 1135, True, 4)
    decoded = mvmic_codec.decode_array(data)
    assert decoded.dtype == np.int32 and np.abs(decoded - deep).max() <= 1


def test_a_slice_of_padding_takes_no_range():
    slices = np.stack([NOISE[0].astype(np.int16) * 4 - 1000] * 3)
    slices[1] = -32768
    data = mvmic_codec.encode(slices, rate_index=63)
    header = mvmic_codec.read_header(data)
    assert (header.lo, header.hi) == (slices[0].min(), slices[0].max())
    assert np.array_equal(mvmic_codec.decode_array(data)[1], slices[1])


def test_frames_with_and_without_transparency():
    half = FRAMES[1].copy()
    half.putalpha(100)
    data = saved(FRAMES[0], half, rate_index=63)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "LA"
        assert np.asarray(image)[..., 1].min() == 255
        image.seek(1)
        assert (np.asarray(image)[..., 1] == 100).all()


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "no images"),
        ([FRAMES[0], FRAMES[0].resize((5, 5))], "frame 1 is 5x5"),
        ([FRAMES[0], FRAMES[0].convert("RGB").point(lambda v: v)], None),
        ([FRAMES[0], Image.fromarray(np.stack([NOISE[0], NOISE[1], NOISE[2]], -1))], "one mode"),
        ([NOISE[0], NOISE[0].astype(np.uint16) * 9], "one depth"),
        ([np.int16([[-5]]), np.uint16([[40000]])], "above 32767"),
        ([FRAMES[0], "path.png"], "str"),
    ],
)
def test_frames_that_do_not_go_together(frames, said):
    with pytest.raises(InputError, match=said or "one mode"):
        mvmic_codec.encode(frames)


@pytest.mark.parametrize(
    "duration",
    [[], [1, 2, 3], -1, "fast", float("nan"), 2**40, b"1234", {}, [[1], [2], [3], [4]], [None] * 4]
    + [np.ones((4, 1)), np.array(-1)],
)
def test_durations_that_cannot_be(duration):
    with pytest.raises(InputError, match="duration"):
        saved(*FRAMES, duration=duration)
    with pytest.raises(InputError, match="duration"):
        saved(FRAMES[0], duration=duration)


@pytest.mark.parametrize("loop", [-1, "twice", [1], np.array([0, 1]), float("inf"), 2**40])
def test_loops_that_cannot_be(loop):
    with pytest.raises(InputError, match="loop how often"):
        saved(*FRAMES, loop=loop)
    with pytest.raises(InputError, match="loop how often"):
        saved(FRAMES[0], loop=loop)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ([10], 10),
        (np.array(10), 10),
        (np.uint8(10), 10),
        (9.6, 10),
        (np.array([1, 2, 3, 4]), [1, 2, 3, 4]),
        (range(1, 5), [1, 2, 3, 4]),
        ((1.2, 2, 3, np.float32(4)), [1, 2, 3, 4]),
    ],
)
def test_durations_in_other_forms(given, same):
    assert saved(*FRAMES, duration=given) == saved(*FRAMES, duration=same)


@pytest.mark.parametrize("value", [None, "fast", -5])
def test_what_cannot_be_in_info_is_left_out(value):
    for frame in (frames := [each.copy() for each in FRAMES]):
        frame.info["duration"] = frame.info["loop"] = value
    assert saved(*frames) == saved(*FRAMES)


def played(data):
    with Image.open(io.BytesIO(data)) as image:
        frames = ImageSequence.Iterator(image)
        return image.info.get("loop"), [frame.info.get("duration") for frame in frames]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "MVM"])
@pytest.mark.parametrize("loop", [0, 3])
def test_loops_are_taken_over(kind, loop):
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    COLOUR[0].save(
        file, kind, save_all=True, append_images=COLOUR[1:], duration=50, loop=loop, **options
    )
    with Image.open(file) as image:
        assert image.info["loop"] == loop
        assert played(saved(image)) == (loop, [50] * 4)
        assert played(saved(image, loop=7)) == (7, [50] * 4)
        frames = [frame.copy() for frame in ImageSequence.Iterator(image)]
        assert played(mvmic_codec.encode([each.convert("L") for each in frames])) == (
            loop,
            [50] * 4,
        )
        image.seek(0)
        image.info["loop"] = 9
        assert played(saved(image))[0] == 9


def test_a_gif_that_says_nothing_of_loops_is_shown_for_ever():
    file = io.BytesIO()
    COLOUR[0].save(file, "GIF", save_all=True, append_images=COLOUR[1:], duration=50)
    with Image.open(file) as image:
        assert "loop" not in image.info
        assert played(saved(image)) == (0, [50] * 4)


def test_a_frame_without_a_duration_counts_as_none():
    """The first image of an animated PNG may be no part of the animation."""
    file = io.BytesIO()
    FRAMES[0].save(
        file, "PNG", save_all=True, append_images=FRAMES[1:], duration=50, default_image=True
    )
    with Image.open(file) as image:
        assert "duration" not in image.info
        assert played(saved(image)) == (0, [0, 50, 50, 50])


def test_frames_that_the_file_does_not_have(series):
    for wrong in (4, -1):
        with pytest.raises(InputError, match="has 4"):
            mvmic_codec.decode(series, frame=wrong)


def test_a_damaged_frame_spoils_no_other(series):
    damaged = bytearray(series)
    damaged[-9] ^= 1
    with Image.open(io.BytesIO(bytes(damaged))) as image:
        image.seek(2)
        assert np.array_equal(np.asarray(image), NOISE[2])
        image.seek(3)
        with pytest.raises(FormatError):
            image.load()
    with Image.open(io.BytesIO(bytes(damaged))) as image, pytest.raises(FormatError):
        image.verify()


def test_a_frame_can_be_pickled(series):
    with Image.open(io.BytesIO(series)) as image:
        image.seek(2)
        assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(image))), NOISE[2])


def test_thumbnails_of_all_frames():
    with Image.open(io.BytesIO(saved(*LABELS))) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            image.thumbnail((14, 10))
            assert image.size == (14, 10)
            found.append(image.tobytes())
        for number in range(image.n_frames):
            image.seek(number)
            alone = image.copy()
            assert alone.size == (112, 80)
            image.load()
            image.thumbnail((14, 10))
        assert len(set(found)) == 4


def test_a_smaller_picture_after_another_frame():
    data = saved(*LABELS)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        image.seek(1)
        image.draft(None, (28, 20))
        image.load()
        assert image.size == image.im.size == (28, 20)
        assert image.tobytes() == mvmic_codec.decode(data, frame=1, scale=4).tobytes()


@pytest.mark.parametrize("change", ["putalpha", "thumbnail", "paste", "putpalette", "convert"])
def test_a_frame_is_that_of_the_file_whatever_was_done_to_another(series, change):
    with Image.open(io.BytesIO(series)) as image:
        before = image.copy()
        if change == "putalpha":
            image.putalpha(5)
        elif change == "thumbnail":
            image.thumbnail((14, 10))
        elif change == "paste":
            image.paste(7, (0, 0, 5, 5))
        elif change == "putpalette":
            image.putpalette(bytes(range(96)))
        else:
            image.im, image._mode = image.convert("RGB").im, "RGB"
        for number in (1, 0):
            image.seek(number)
            image.load()
            assert (image.mode, image.size, image.palette) == ("L", (17, 11), None)
            assert np.array_equal(np.asarray(image), NOISE[number])
        assert image.tobytes() == before.tobytes()


def test_pixels_that_were_kept_stay_as_they_are(series):
    with Image.open(io.BytesIO(series)) as image:
        image.load()
        core = image.im
        image.seek(1)
        image.load()
        assert image.im is not core and core.getpixel((0, 0)) == NOISE[0, 0, 0]


def test_palette_and_transparency_after_another_frame():
    with Image.open(io.BytesIO(saved(*LABELS))) as image:
        first, colours = image.info["transparency"], image.getpalette()
        image.putpalette([5] * 9)
        image.info["transparency"] = 1
        image.seek(2)
        assert image.info["transparency"] == first and image.getpalette() == colours
        assert image.convert("RGBA").tobytes() == LABELS[2].convert("RGBA").tobytes()
    with Image.open(io.BytesIO(saved(*FRAMES))) as image:
        image.info["transparency"] = 1
        image.seek(2)
        assert "transparency" not in image.info


def test_an_image_opened_without_features_stays_so(series):
    with Image.open(io.BytesIO(series)) as image:
        try:
            mvmic_codec.register_mvm_opener(features=True)
            image.seek(2)
        finally:
            mvmic_codec.register_mvm_opener()
        assert np.array_equal(np.asarray(image), NOISE[2])


def test_palette_after_a_load_that_failed(monkeypatch):
    with Image.open(io.BytesIO(saved(*LABELS))) as image:
        with monkeypatch.context() as patch:
            patch.setattr("mvmic_codec.api.decode_image", None)
            with pytest.raises(TypeError):
                image.load()
        image.draft(None, (28, 20))
        assert image.getpalette()[:9] == LABELS[0].getpalette()[:9]


@pytest.mark.parametrize("wrong", [1.5, 1.0, float("nan"), "1", None])
def test_frames_are_whole_numbers(series, wrong):
    with Image.open(io.BytesIO(series)) as image:
        with pytest.raises(TypeError):
            image.seek(wrong)
        assert image.tell() == 0
        image.seek(np.int64(2))
        assert np.array_equal(np.asarray(image), NOISE[2])


# Pillow cannot go back in an animated PNG but to its first frame.
@pytest.mark.parametrize(
    ("kind", "at"), [("MVM", (2, 1)), ("TIFF", (2, 1)), ("GIF", (2, 1)), ("PNG", (0, 0))]
)
def test_saving_leaves_the_source_at_its_frame(kind, at):
    file, other = io.BytesIO(), io.BytesIO()
    for each in (file, other):
        COLOUR[0].save(each, kind, save_all=True, append_images=COLOUR[1:])
    with Image.open(file) as image, Image.open(other) as more:
        image.seek(at[0])
        more.seek(at[1])
        shown = image.tobytes(), more.tobytes()
        saved(image, more, dpi=None)
        assert (image.tell(), more.tell()) == at
        assert (image.tobytes(), more.tobytes()) == shown


def reopened(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def metadata_of(data):
    with Image.open(io.BytesIO(data)) as image:
        names = ("exif", "xmp", "text", "dpi", "icc_profile")
        return {name: image.info[name] for name in names if name in image.info}


def jpeg_without_a_tag():
    exif = Image.Exif()
    exif[0x010E], exif[0x0110] = "JOHN DOE", "a camera"
    image = reopened(FRAMES[0], "JPEG", exif=exif)
    del image.getexif()[0x010E]
    return image


def png():
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "of a PNG")
    text.add_itxt("XML:com.adobe.xmp", "<x>of a PNG</x>")
    return reopened(FRAMES[0], "PNG", pnginfo=text)


def png_without_xmp():
    image = png()
    for name in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(name, None)
    return image


def png_without_text():
    image = png()
    del image.text["Title"]
    return image


def new_image_with_exif():
    image = FRAMES[0].copy()
    image.getexif()[272] = "x"
    return image


def tiff_without_a_resolution():
    return reopened(FRAMES[0], "TIFF")


def animated_png_without_exif():
    exif = Image.Exif()
    exif[0x010E] = "JOHN DOE"
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "of a PNG")
    options = {"append_images": FRAMES[1:], "exif": exif, "pnginfo": text}
    image = reopened(FRAMES[0], "PNG", save_all=True, **options)
    del image.info["exif"]
    return image


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (jpeg_without_a_tag, {"exif", "dpi"}),
        (png, {"text", "xmp"}),
        (png_without_xmp, {"text"}),
        (png_without_text, {"xmp"}),
        (new_image_with_exif, {"exif"}),
        (tiff_without_a_resolution, set()),
        (animated_png_without_exif, {"text"}),
    ],
)
def test_metadata_are_those_of_a_plain_save(source, names):
    with source() as image:
        found = metadata_of(saved(image))
    file = io.BytesIO()
    with source() as image:
        image.save(file, "MVM")
    assert found == metadata_of(file.getvalue())
    # Some versions of Pillow read a resolution from any EXIF.
    assert set(found) - {"dpi"} == names - {"dpi"}
    assert b"DOE" not in found.get("exif", b"")


def test_two_values_that_disagree_are_settled_by_an_option():
    def both_changed():
        image = jpeg_without_a_tag()
        image.info["exif"] = new_image_with_exif().getexif().tobytes()
        return image

    with both_changed() as image, pytest.raises(InputError, match="give exif="):
        saved(image)
    with both_changed() as image:
        assert "exif" not in metadata_of(saved(image, exif=None))


def test_file_stays_open_for_its_frames(series, tmp_path):
    path = tmp_path / "series.mvm"
    path.write_bytes(series)
    image = Image.open(path)
    image.load()
    image.seek(3)
    assert np.array_equal(np.asarray(image), NOISE[3])
    image.close()
    path.unlink()
