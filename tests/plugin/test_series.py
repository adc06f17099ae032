"""Series of images through Pillow."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image, ImageSequence

import mvmic_codec
from mvmic_codec.errors import FormatError, InputError

pytestmark = pytest.mark.usefixtures("fake_codec")

NOISE = np.random.default_rng(1).integers(0, 256, (4, 11, 17), dtype=np.uint8)
FRAMES = [Image.fromarray(each) for each in NOISE]


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


@pytest.mark.parametrize("duration", [[10], [1, 2, 3], -1, "fast", float("nan"), 2**40])
def test_durations_that_cannot_be(duration):
    if duration == [10]:
        assert saved(*FRAMES, duration=duration) == saved(*FRAMES, duration=10)
        return
    with pytest.raises(InputError, match="duration"):
        saved(*FRAMES, duration=duration)


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


def test_file_stays_open_for_its_frames(series, tmp_path):
    path = tmp_path / "series.mvm"
    path.write_bytes(series)
    image = Image.open(path)
    image.load()
    image.seek(3)
    assert np.array_equal(np.asarray(image), NOISE[3])
    image.close()
    path.unlink()
