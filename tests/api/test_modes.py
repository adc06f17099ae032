"""docs/modes.md: each row of its table is a case here."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mvmic_codec
from mvmic_codec.encoder.indexed_file import indexed_file
from mvmic_codec.errors import InputError
from mvmic_codec.image.indexed import Indexed

pytestmark = pytest.mark.usefixtures("fake_codec")

PAGE = Path(__file__).parents[2] / "docs" / "modes.md"
Y, X = np.mgrid[0:48, 0:64]
GRAY = Image.fromarray((2 * X + Y).astype(np.uint8))
COLOUR = Image.fromarray(np.stack([X + Y, 2 * X, 5 * Y], -1).astype(np.uint8))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
DISC = Image.fromarray((255 * ((X - 30) ** 2 + (Y - 20) ** 2 < 300)).astype(np.uint8))
DEEP = (X * 40 + Y * 7).astype(np.int32)


def with_alpha(image, mode, alpha=DISC):
    image = image.convert(mode.upper())
    image.putalpha(alpha)
    return image.convert(mode)


def transparent(image, value):
    image = image.copy()
    image.info["transparency"] = value
    return image


def rgba_of(image):
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def gray_palette():
    image = NOISE.convert("L")
    image.putpalette([255 - i for i in range(256) for _ in range(3)])
    return image


LABELS = DISC.quantize(4)
PHOTO = NOISE.quantize(200)
DEEP_WITH_OUTLIERS = np.where(DISC, DEEP, -32768).astype(np.int32)

CASES = {
    "1": [(DISC.convert("1"), "1")],
    "1, one value transparent": [
        (transparent(DISC.convert("1"), 0), "P"),
        (transparent(DISC.convert("1"), 255), "P"),
    ],
    "L": [(GRAY, "L")],
    "L, one gray transparent": [(transparent(GRAY, GRAY.getpixel((5, 5))), "LA")],
    "LA, La": [(with_alpha(GRAY, "LA"), "LA"), (with_alpha(GRAY, "LA").convert("La"), "LA")],
    "LA, all opaque": [(with_alpha(GRAY, "LA", 255), "L")],
    "P": [(LABELS, "P")],
    "P, transparent": [(transparent(LABELS, 0), "P"), (transparent(LABELS, b"\x80\x00"), "P")],
    "P of a photograph": [(PHOTO, "RGB")],
    "P of a photograph, gray palette": [(gray_palette(), "L")],
    "P of a photograph, transparent": [
        (transparent(PHOTO, PHOTO.getpixel((5, 5))), "RGBA"),
        (transparent(PHOTO, bytes(100)), "RGBA"),
    ],
    "PA": [(with_alpha(PHOTO, "PA"), "RGBA")],
    "PA, all opaque": [(with_alpha(PHOTO, "PA", 255), "RGB")],
    "RGB, RGBX": [(COLOUR, "RGB"), (COLOUR.convert("RGBX"), "RGB")],
    "RGB, equal channels": [(GRAY.convert("RGB"), "RGB")],
    "RGB, one colour transparent": [(transparent(COLOUR, COLOUR.getpixel((5, 5))), "RGBA")],
    "RGBA, RGBa": [
        (with_alpha(COLOUR, "RGBA"), "RGBA"),
        (with_alpha(COLOUR, "RGBA").convert("RGBa"), "RGBA"),
    ],
    "RGBA, all opaque": [(with_alpha(COLOUR, "RGBA", 255), "RGB")],
    "CMYK, YCbCr, HSV": [(COLOUR.convert(mode), "RGB") for mode in ("CMYK", "YCbCr", "HSV")],
    "I;16, I;16B": [
        (Image.fromarray(DEEP.astype(np.uint16)), "I;16"),
        (Image.frombytes("I;16B", (64, 48), DEEP.astype(">u2").tobytes()), "I;16"),
    ],
    "I, not negative": [(Image.fromarray(DEEP), "I;16")],
    "I, negative": [
        (Image.fromarray(DEEP - 500), "I"),
        (Image.fromarray(DEEP_WITH_OUTLIERS), "I"),
    ],
    "F, 0 to 1": [(Image.fromarray((X / 64).astype(np.float32)), "L")],
    "LAB": [(Image.new("LAB", (4, 4)), "refused")],
}
TABLE, FEATURES = (
    [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("| ")
    ]
    for part in PAGE.read_text(encoding="utf-8").split("## Beside other formats")
)
ROWS = {given: (comes_back, samples) for given, comes_back, samples in TABLE[1:]}


def test_every_row_of_the_page_is_a_case():
    assert list(ROWS) == list(CASES)


def test_every_feature_of_the_page_names_its_test():
    tests = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py")
    )
    for feature, ours, *_, name in FEATURES[1:]:
        assert ours in ("yes", "no")
        if ours == "yes":
            assert f"def {name.strip('`')}(" in tests, feature


@pytest.mark.parametrize(
    ("row", "image", "mode"), [(row, *case) for row, cases in CASES.items() for case in cases]
)
def test_what_comes_back(row, image, mode):
    comes_back, samples = ROWS[row]
    assert comes_back == mode
    file = io.BytesIO()
    if mode == "refused":
        with pytest.raises(InputError):
            image.save(file, "MVM")
        return
    image.save(file, "MVM", quality=8)
    with Image.open(file) as opened:
        assert (opened.mode, opened.size) == (mode, image.size)
        opened.load()
    decoded = mvmic_codec.decode(file.getvalue())
    assert decoded.mode == mode and decoded.tobytes() == opened.tobytes()
    assert decoded.info == opened.info and decoded.getpalette() == opened.getpalette()
    if "exact, with its palette" in samples:
        assert decoded.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()
        assert decoded.tobytes() == image.tobytes()
    elif samples == "exact, with its transparency":
        assert decoded.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()
    elif samples == "exact":
        assert decoded.tobytes() == image.tobytes()
    elif "transparency exact" in samples:
        wanted = np.asarray(rgba_of(image))
        found = np.asarray(decoded.convert("RGBA"))
        assert np.array_equal(found[..., 3], wanted[..., 3])
        seen = wanted[..., 3] > 0
        assert 0 < seen.sum() < seen.size and not found[~seen].any()
        assert np.abs(found[seen].astype(int) - wanted[seen]).max() <= 1
    elif "outliers exact" in samples:
        wanted, found = np.asarray(image).astype(int), np.asarray(decoded).astype(int)
        assert np.abs(found - wanted).max() <= 1
        assert np.array_equal(found[wanted == -32768], wanted[wanted == -32768])
    if "coded as gray" in samples:
        assert mvmic_codec.read_header(file.getvalue()).photometric == 3


def test_a_value_that_no_pixel_has_makes_nothing_transparent():
    black = transparent(Image.new("1", (9, 7)), 255)
    assert mvmic_codec.decode(mvmic_codec.encode(black)).mode == "1"


def test_colour_under_transparency_costs_nothing():
    """Whatever lies there, the bytes are the same."""
    clean = np.asarray(with_alpha(COLOUR, "RGBA")).copy()
    noisy = clean.copy()
    hidden = clean[..., 3] == 0
    noisy[hidden, :3] = np.asarray(NOISE)[hidden]
    assert mvmic_codec.encode(noisy) == mvmic_codec.encode(clean)


def test_arrays_come_back():
    for array in (
        np.asarray(DISC) > 0,
        np.asarray(GRAY),
        np.asarray(COLOUR),
        DEEP.astype(np.uint16),
    ):
        back = mvmic_codec.decode_array(mvmic_codec.encode(array, quality=8))
        assert back.dtype == array.dtype and back.shape == array.shape
        assert np.abs(back.astype(int) - array).max() <= 1
    rgba = np.asarray(with_alpha(COLOUR, "RGBA"))
    back = mvmic_codec.decode_array(mvmic_codec.encode(rgba, quality=8))
    assert back.shape == rgba.shape and np.array_equal(back[..., 3], rgba[..., 3])


def test_a_limit_that_an_exact_image_does_not_meet():
    data = mvmic_codec.encode(DISC.convert("1"))
    assert mvmic_codec.encode(DISC.convert("1"), max_bytes=len(data)) == data
    with pytest.raises(InputError, match="coded exactly and takes"):
        mvmic_codec.encode(DISC.convert("1"), max_bytes=len(data) - 1)
    with pytest.raises(InputError, match="coded exactly and takes"):
        mvmic_codec.encode(DISC.convert("1"), bpp=0.01)


def test_small_label_maps_stay_exact():
    for side in (1, 3, 9, 16):
        image = Image.new("P", (side, side), 1)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.putpixel((side // 2, 0), 0)
        with Image.open(io.BytesIO(mvmic_codec.encode(image))) as back:
            assert back.mode == "P"
            assert np.array_equal(np.asarray(back), np.asarray(image))


def test_bits_for_each_pixel_of_an_exact_image_leave_metadata_out():
    mask = Image.new("1", (64, 48), 1)
    data = mvmic_codec.encode(mask, bpp=1, exif=b"II*\0" + bytes(1000))
    assert len(data) > 1000
    with pytest.raises(InputError, match="exactly and takes [0-9]{2} bytes"):
        mvmic_codec.encode(mask, bpp=0.01, exif=b"II*\0" + bytes(1000))


def test_an_exact_image_takes_no_task_and_no_encoder():
    mask = Image.new("1", (64, 48), 1)
    for options in ({"task": np.ones((3, 4))}, {"encoder": "none.safetensors"}):
        with pytest.raises(InputError, match="leave out task and encoder"):
            mvmic_codec.encode(mask, **options)


def test_few_bits_are_shown_from_black_to_white():
    indices = np.arange(4, dtype=np.uint8)[None]
    grays = np.arange(4, dtype=np.int32)[:, None]
    data = indexed_file([Indexed(indices, grays, 2)], {})
    assert np.asarray(mvmic_codec.decode(data)).tolist() == [[0, 85, 170, 255]]
    assert mvmic_codec.decode_array(data).tolist() == [[0, 1, 2, 3]]
    clear = indexed_file([Indexed(indices, np.hstack([grays, grays]), 2, alpha=True)], {})
    with Image.open(io.BytesIO(clear)) as image:
        assert image.mode == "LA"
        assert np.asarray(image)[0, :, 1].tolist() == [0, 85, 170, 255]
