"""Tiles, regions and smaller pictures by the public functions and through Pillow."""

import functools
import io

import numpy as np
import pytest
from fuzz.check_file import mended
from PIL import Image
from slow import first_is_quick
from small_model import picture

import mvmic_codec
from mvmic_codec import plugin
from mvmic_codec.bitstream.container import Reader
from mvmic_codec.errors import FormatError, InputError

pytestmark = pytest.mark.usefixtures("weights")

COLOUR = np.rint(255 * picture(101, 149, 3)).astype(np.uint8).transpose(1, 2, 0)
GRAY = COLOUR[:, :, 1]
Y, X = np.mgrid[0:101, 0:149]
SHAPE = np.where((X - 70) ** 2 + (Y - 50) ** 2 < 1500, 255, X).astype(np.uint8)
SHAPE[:, 120:] = 0
DEEP = GRAY.astype(np.int16) * 8 - 500
DEEP[:9], DEEP[60, 60] = -32768, 31000
KINDS = {
    "gray": GRAY,
    "colour": COLOUR,
    "transparent": np.dstack([COLOUR, SHAPE]),
    "gray, transparent": np.dstack([GRAY, SHAPE]),
    "deep": DEEP,
    "bits": SHAPE > 200,
    "series": np.stack([GRAY, GRAY[::-1]]),
}
BOX = (60, 20, 131, 101)


@functools.cache
def encoded(kind, quality=5, tile=64):
    """The small models are made from seeds, and so are the same for all tests."""
    return mvmic_codec.encode(KINDS[kind], quality, tile=tile)


def image_of(data, frame=0):
    image = Image.open(io.BytesIO(data))
    image.seek(frame)
    return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", first_is_quick([64, 0]))
def test_a_region_is_cut_from_the_whole(kind, tile):
    data = encoded(kind, tile=tile)
    assert mvmic_codec.read_header(data).tile == tile
    last = mvmic_codec.read_header(data).frames - 1
    whole = mvmic_codec.decode(data, frame=last)
    for box in (BOX, (148, 100, 149, 101)):
        part = mvmic_codec.decode(data, frame=last, region=box)
        assert (part.mode, part.size) == (whole.mode, (box[2] - box[0], box[3] - box[1]))
        assert part.tobytes() == whole.crop(box).tobytes()
        assert image_of(data, last).crop(box).tobytes() == part.tobytes()


def test_what_is_exact_stays_so_in_tiles():
    data = encoded("transparent")
    assert np.array_equal(mvmic_codec.decode_array(data)[..., 3], SHAPE)
    data = encoded("deep")
    back = mvmic_codec.decode_array(data)
    assert (back[:9] == -32768).all() and back[60, 60] == 31000
    assert np.abs(back - DEEP).max() < 1500
    assert np.array_equal(mvmic_codec.decode_array(encoded("bits")), KINDS["bits"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", first_is_quick([64, 0]))
def test_smaller_pictures(kind, tile):
    data = encoded(kind, tile=tile)
    for scale in (2, 16):
        small = mvmic_codec.decode(data, scale=scale)
        assert small.size == (-(-149 // scale), -(-101 // scale))
        assert small.mode == mvmic_codec.read_header(data).mode


@pytest.mark.parametrize("scale", [2, 4, 16])
def test_a_smaller_picture_of_indices_has_the_pixels_in_the_middle(scale):
    middle = KINDS["bits"][scale // 2 :: scale, scale // 2 :: scale]
    small = mvmic_codec.decode_array(encoded("bits"), scale=scale)
    height, width = middle.shape
    assert small.shape == tuple(-(-side // scale) for side in KINDS["bits"].shape)
    assert np.array_equal(small[:height, :width], middle)


def test_a_region_of_a_smaller_picture():
    data = encoded("colour")
    whole = mvmic_codec.decode(data, scale=4)
    part = mvmic_codec.decode(data, scale=4, region=(60, 20, 131, 101))
    assert part.tobytes() == whole.crop((15, 5, 33, 26)).tobytes()


def test_thumbnails_are_decoded_small(monkeypatch):
    data, seen = encoded("colour"), []
    decode = plugin.__dict__["_MvmDecoder"].decode
    monkeypatch.setattr(
        plugin._MvmDecoder,
        "decode",
        lambda self, buffer: (seen.append(self.args[2]), decode(self, buffer))[1],
    )
    # With a gap of 2 the picture that is reduced to the size is at least twice as large.
    for size, scale in (((20, 20), 2), ((4, 4), 8), ((149, 101), 1), ((80, 80), 1)):
        image = image_of(data)
        image.thumbnail(size, reducing_gap=2.0)
        image.load()
        assert seen.pop() == scale and not seen
        assert max(image.size) == min(max(size), 149)


def test_draft_as_of_jpeg():
    image = image_of(encoded("gray"))
    assert image.draft("L", (149, 101)) is None and image.size == (149, 101)
    mode, box = image.draft(None, (30, 20))
    assert (mode, box, image.size) == ("L", (0, 0, 149 / 4, 101 / 4), (38, 26))
    image.load()
    assert image.size == (38, 26)
    assert image.draft(None, (4, 4)) is None, "pixels are there already"


def test_crop_before_load_reads_no_other_tiles(monkeypatch):
    data, read = encoded("gray"), []
    tile = Reader.tile
    monkeypatch.setattr(
        Reader, "tile", lambda self, *place: (read.append(place), tile(self, *place))[1]
    )
    image = image_of(data)
    part = image.crop((0, 0, 10, 10))
    assert part.size == (10, 10) and part.info == image.info
    # The small models see four blocks around.
    assert set(read) <= {(0, r, c) for r in (0, 1) for c in (0, 1)}
    assert image.tile, "the image is not loaded"
    assert image.crop((-5, -5, 10, 10)).size == (15, 15)


@pytest.mark.parametrize("tile", [1, 63, -64, 64.0, True, "64"])
def test_tiles_that_cannot_be(tile):
    with pytest.raises(InputError, match="multiple of 64"):
        mvmic_codec.encode(GRAY, tile=tile)


def test_large_images_are_cut(monkeypatch):
    monkeypatch.setattr(mvmic_codec.api, "TILED_FROM", 5000)
    monkeypatch.setattr(mvmic_codec.api, "TILE", 128)
    assert mvmic_codec.read_header(mvmic_codec.encode(GRAY, 5)).tile == 128
    assert mvmic_codec.read_header(mvmic_codec.encode(GRAY[:40], 5)).tile == 128
    assert mvmic_codec.read_header(mvmic_codec.encode(GRAY[:30], 5)).tile == 0


@pytest.mark.parametrize(
    "region", [(0, 0, 150, 5), (-1, 0, 5, 5), (5, 5, 5, 9), (9, 5, 5, 9), (0, 0, 5, 102)]
)
def test_regions_outside(region):
    for kind in ("gray", "bits"):
        data = encoded(kind)
        with pytest.raises(InputError, match="region"):
            mvmic_codec.decode(data, region=region)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.uint32, np.int64])
@pytest.mark.parametrize("whole", ["gray", "bits"])
def test_corners_of_any_integer_type(whole, kind):
    data, corners = encoded(whole), (60, 20, 120, 101)
    expected = mvmic_codec.decode_array(data, region=corners)
    for region in (tuple(map(kind, corners)), list(map(kind, corners)), np.array(corners, kind)):
        assert np.array_equal(mvmic_codec.decode_array(data, region=region), expected)


@pytest.mark.parametrize(
    "region",
    [
        (),
        (0, 0),
        (0, 0, 5, 5, 5),
        5,
        "abcd",
        (None,) * 4,
        ("0", "0", "5", "5"),
        (0.0, 0.0, 5.0, 5.0),
        (0, 0, 5.5, 5),
        {0, 1, 2, 3},
        np.array([0, 0, 5.5, 5]),
        np.array(3),
        (True, 0, 5, 5),
    ],
)
def test_regions_that_are_none(region):
    for data in (encoded("gray"), encoded("bits")):
        for decode in (mvmic_codec.decode, mvmic_codec.decode_array):
            with pytest.raises(InputError, match="region"):
                decode(data, region=region)


def test_a_region_outside_is_no_fault_of_the_file():
    with pytest.raises(InputError, match="does not lie in the image"):
        mvmic_codec.decode(encoded("gray"), region=(0, 0, 10**6, 10**6))


@pytest.mark.parametrize("number", [0.5, 1.0, "1", None, np.array([0, 1]), True, float("nan")])
def test_frames_and_scales_that_are_no_numbers(number):
    data = encoded("series")
    for options in ({"frame": number}, {"scale": number}):
        with pytest.raises(InputError, match="must be a whole number"):
            mvmic_codec.decode(data, **options)
    with pytest.raises(InputError, match="frame must be a whole number"):
        mvmic_codec.decode_features(data, frame=number)
    assert mvmic_codec.decode(data, frame=np.int8(1), scale=np.int64(2)).size == (75, 51)


def test_data_with_gaps():
    data = encoded("bits")
    spread = bytes(byte for each in data for byte in (each, 0))
    assert mvmic_codec.decode(memoryview(spread)[::2]).mode == "1"


def test_a_series_that_few_bytes_claim(monkeypatch):
    data = mvmic_codec.encode(np.zeros((3, 1024, 1024), np.bool_))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)
    with pytest.raises(FormatError, match="3 frames, 3145728 pixels in all, from few bytes"):
        mvmic_codec.decode_array(data)
    assert mvmic_codec.decode(data, frame=2).size == (1024, 1024)
    assert mvmic_codec.decode_array(data, region=(0, 0, 9, 9), scale=2).shape == (3, 5, 5)


def test_other_scales():
    for scale in (0, 3, 32, -1):
        with pytest.raises(InputError, match="scale must be"):
            mvmic_codec.decode(encoded("gray"), scale=scale)


def test_features_have_no_region():
    data = encoded("gray")
    for options in ({"region": (0, 0, 9, 9)}, {"scale": 2}, {"on_part": print}):
        with pytest.raises(InputError, match="leave out region, scale and on_part"):
            mvmic_codec.decode(data, features=True, **options)


@pytest.mark.slow
def test_targets_count_all_tiles_and_frames():
    series = np.stack([GRAY, np.roll(GRAY, 30, 1)])
    for array in (GRAY, series):
        data = mvmic_codec.encode(array, bpp=1.0, tile=64)
        assert 0.4 < 8 * len(data) / array.size <= 1.0
        assert len(mvmic_codec.encode(array, max_bytes=2500, tile=64)) <= 2500
    data = mvmic_codec.encode(series, psnr=28, tile=64)
    lower = mvmic_codec.read_header(data).rate_index - 1
    for index, good in ((lower + 1, True), (lower, False)):
        back = mvmic_codec.decode_array(mvmic_codec.encode(series, rate_index=index, tile=64))
        error = np.square(back.astype(float) - series).mean()
        assert (-10 * np.log10(error / 255**2) >= 28) == good


def test_importance_of_blocks_of_tiles():
    importance = np.ones((7, 10), np.float32)
    plain = mvmic_codec.encode(GRAY, 3, tile=64)
    assert mvmic_codec.encode(GRAY, 3, tile=64, task=importance) == plain
    importance[:, 5:] = 40
    data = mvmic_codec.encode(GRAY, 3, tile=64, task=importance)
    errors = [
        np.abs(mvmic_codec.decode_array(each).astype(int) - GRAY)[:, 90:].mean()
        for each in (plain, data)
    ]
    assert errors[1] < errors[0]


def test_tiles_are_counted_as_they_are_done():
    done = []
    mvmic_codec.encode(np.stack([GRAY, GRAY]), 3, tile=64, on_tile=done.append)
    assert done == list(range(1, 13))


@pytest.mark.parametrize("kind", ["gray", "bits"])
def test_the_share_that_is_decoded(kind):
    shares = []
    mvmic_codec.decode(encoded(kind), on_part=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    # The model's samples of an image as small as this come all at once.
    assert kind != "bits" or len(set(shares)) == 6


def test_the_share_of_a_region_and_of_a_series():
    shares = []
    region = {"region": (70, 5, 90, 77), "scale": 2}
    mvmic_codec.decode(encoded("gray"), **region, on_part=shares.append)
    assert shares[-1] == 1
    shares.clear()
    data = mvmic_codec.encode(np.stack([GRAY, GRAY]), 3, tile=64)
    mvmic_codec.decode_array(data, on_part=shares.append)
    assert shares == sorted(shares)
    assert 0.5 in shares
    assert shares[-1] == 1


def test_an_array_needs_valid_metadata_as_an_image_does():
    data = mvmic_codec.encode(GRAY, 3, dpi=(300, 300))
    at = data.index(b"dpIX") + 4
    data = mended(data[:at] + bytes(8) + data[at + 8 :])
    for decode in (mvmic_codec.decode, mvmic_codec.decode_array):
        with pytest.raises(FormatError, match="dpIX"):
            decode(data)


def test_pillow_s_limit_counts_what_is_decoded(monkeypatch):
    data = encoded("gray")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    assert mvmic_codec.decode(data, region=(0, 0, 9, 9)).size == (9, 9)
    for region in (None, (0, 0, 149, 9)):
        with pytest.raises(FormatError, match="limit"):
            mvmic_codec.decode(data, region=region)


@pytest.mark.parametrize("size", [(2, 7), (10, 34), (16, 16), (40, 33)])
@pytest.mark.parametrize("dead", [0, 65535])
def test_a_dead_pixel_in_a_flat_image_is_exact(size, dead):
    flat = np.full(size, 1000, np.uint16)
    flat[1, 1] = dead
    assert np.array_equal(mvmic_codec.decode_array(mvmic_codec.encode(flat, 1)), flat)


def test_indices_have_no_features():
    with pytest.raises(InputError, match="no features"):
        mvmic_codec.decode_features(encoded("bits"))
