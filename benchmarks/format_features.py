"""What Pillow's formats can do: each thing is tried with each format.

    python benchmarks/format_features.py

Prints a table of Markdown. Columns are mvm, Pillow's AVIF and JPEG 2000, pillow-heif and
pillow-jxl-plugin. A thing that raises an error, or gives something else, is a no. Costs are CPU
seconds of one process, the least of three, against those of the whole image.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401
from PIL import Image, ImageCms, ImageSequence
from skimage import data as pictures

import mvmic_codec  # noqa: F401

# Format and options of saving.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "mvm": ("MVM", {"quality": 3}),
    "AVIF": ("AVIF", {"quality": 50}),
    "HEIC": ("HEIF", {"quality": 50}),
    "JPEG 2000": ("JPEG2000", {"irreversible": True, "quality_layers": [40]}),
    "JPEG XL": ("JXL", {"quality": 70}),
}
LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "mvm": ("MVM", {"lossless": True}),
    "AVIF": ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    "HEIC": ("HEIF", {"quality": -1, "chroma": 444, "matrix_coefficients": 0}),
    "JPEG 2000": ("JPEG2000", {}),
    "JPEG XL": ("JXL", {"lossless": True}),
}
# A part has to cost less than this share of the whole to count as cheap.
CHEAP = 0.75
SIDE = 2048
PICTURE = Image.fromarray(pictures.retina()).resize((SIDE, SIDE))
SMALL = PICTURE.resize((128, 96))
GRAY = SMALL.convert("L")
SHAPE = GRAY.point(lambda value: 255 * (value > 60))
DEEP = Image.fromarray(np.asarray(GRAY).astype(np.uint16) * 257)
FLOATS = Image.fromarray(np.asarray(GRAY).astype(np.float32) / 255)
LABELS = Image.fromarray(np.asarray(GRAY) // 40)
LABELS.putpalette([k * 7 % 256 for k in range(3 * 8)])
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(name: str, image: Image.Image, **more: Any) -> bytes:
    """The file of an image in a format."""
    form, options = FORMATS[name]
    out = io.BytesIO()
    # A copy: if Pillow cannot save a series, options stay with the image.
    image.copy().save(out, form, **options, **more)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    """The image of a file, not loaded yet."""
    return Image.open(io.BytesIO(data))


def comes_back(image: Image.Image, *, exact: bool) -> Callable[[str], bool]:
    """Whether an image has the same mode afterwards, and the same samples if they are exact."""

    def tried(name: str) -> bool:
        back = opened(saved(name, image))
        back.load()
        same = np.array_equal(np.asarray(back.convert("RGBA")), np.asarray(image.convert("RGBA")))
        return back.mode == image.mode and (same or not exact)

    return tried


def transparency(name: str) -> bool:
    """Whether transparency is exact beside lossy samples."""
    image = SMALL.copy()
    image.putalpha(SHAPE)
    back = opened(saved(name, image))
    return back.mode == "RGBA" and np.array_equal(np.asarray(back)[..., 3], np.asarray(SHAPE))


def deep(name: str) -> bool:
    """Whether 16 bits come back as more than 8."""
    back = opened(saved(name, DEEP))
    return back.mode.startswith("I") and len(np.unique(np.asarray(back) % 257)) > 1


def signed(name: str) -> bool:
    """Whether negative samples come back."""
    image = Image.fromarray(np.asarray(GRAY).astype(np.int32) * 8 - 500)
    return int(np.asarray(opened(saved(name, image))).min()) < -100


def frames(name: str) -> bool:
    """Whether a series comes back, and any of its frames by `seek`."""
    others = [SMALL.rotate(90 * k) for k in (1, 2)]
    image = opened(saved(name, SMALL, save_all=True, append_images=others))
    image.seek(2)
    error = np.abs(np.asarray(image).astype(int) - np.asarray(others[1]))
    return image.n_frames == 3 == len(list(ImageSequence.Iterator(image))) and error.mean() < 20


def durations(name: str) -> bool:
    """Whether each frame keeps how long it is shown."""
    more = {"save_all": True, "append_images": [GRAY.convert("RGB")], "duration": [40, 90]}
    image = opened(saved(name, SMALL, **more))
    found = []
    for k in range(2):
        image.seek(k)
        image.load()
        found.append(image.info["duration"])
    return found == [40, 90]


def exif(name: str) -> bool:
    """Whether EXIF comes back."""
    given = Image.Exif()
    given[0x010E] = "a picture"
    image = opened(saved(name, SMALL, exif=given.tobytes()))
    image.load()
    return image.getexif().get(0x010E) == "a picture"


def block(key: str, value: bytes) -> Callable[[str], bool]:
    """Whether a block of metadata comes back."""

    def tried(name: str) -> bool:
        image = opened(saved(name, SMALL, **{key: value}))
        image.load()
        return image.info.get(key) == value

    return tried


def lossless(name: str) -> bool:
    """Whether all samples of a colour image can come back."""
    form, options = LOSSLESS[name]
    out = io.BytesIO()
    SMALL.copy().save(out, form, **options)
    return np.array_equal(np.asarray(opened(out.getvalue())), np.asarray(SMALL))


def resolution(name: str) -> bool:
    """Whether dots per inch come back."""
    image = opened(saved(name, SMALL, dpi=(254, 254)))
    return bool(np.allclose(image.info["dpi"], 254))


def cost(data: bytes, use: Callable[[Image.Image], object]) -> float:
    """The least CPU seconds of three."""
    seconds = []
    for _ in range(3):
        image, start = opened(data), time.process_time()
        use(image)
        seconds.append(time.process_time() - start)
    return min(seconds)


def cheap(use: Callable[[Image.Image], object], **more: Any) -> Callable[[str], bool]:
    """Whether a part of a picture costs clearly less than all of it."""

    def tried(name: str) -> bool:
        data = saved(name, PICTURE, **(more if name == "mvm" else {}))
        return cost(data, use) < CHEAP * cost(data, lambda image: image.load())

    return tried


def damage(read: Callable[[bytes], object]) -> Callable[[str], bool]:
    """Whether a flipped bit is an error, wherever in the last nine tenths it lies."""

    def tried(name: str) -> bool:
        data = saved(name, SMALL)
        for at in np.linspace(len(data) // 10, len(data) - 1, 50).astype(int):
            bad = bytearray(data)
            bad[at] ^= 4
            try:
                read(bytes(bad))
            except Exception:  # noqa: BLE001
                continue
            return False
        return True

    return tried


def cut_short(name: str) -> bool:
    """Whether a file that lacks its second half is an error, without a picture."""
    data = saved(name, SMALL)
    try:
        opened(data[: len(data) // 2]).load()
    except Exception:  # noqa: BLE001
        return True
    return False


FEATURES: dict[str, Callable[[str], bool]] = {
    "gray (L) comes back as gray": comes_back(GRAY, exact=False),
    "1 bit (1) comes back exactly": comes_back(SHAPE.convert("1"), exact=True),
    "palette (P) comes back exactly": comes_back(LABELS, exact=True),
    "transparency (RGBA), exact": transparency,
    "16 bits (I;16)": deep,
    "negative samples (I)": signed,
    "floats (F)": comes_back(FLOATS, exact=False),
    "lossless, in colour": lossless,
    "series: save_all, seek, n_frames": frames,
    "duration of each frame": durations,
    "EXIF": exif,
    "ICC profile": block("icc_profile", PROFILE),
    "XMP": block("xmp", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
    "dots per inch": resolution,
    "thumbnail below cost of load": cheap(lambda image: image.thumbnail((128, 128))),
    "crop before load, in tiles, below cost of load": cheap(
        lambda image: image.crop((0, 0, 256, 256)).load(), tile=512
    ),
    "any flipped bit is an error of load": damage(lambda data: opened(data).load()),
    "any flipped bit is an error of verify": damage(lambda data: opened(data).verify()),
    "half a file is an error of load": cut_short,
}


def answer(feature: Callable[[str], bool], name: str) -> str:
    """Yes or no."""
    try:
        return "yes" if feature(name) else "no"
    except Exception:  # noqa: BLE001
        return "no"


def main() -> None:
    pillow_heif.register_heif_opener()
    print(f"| | {' | '.join(FORMATS)} |")
    print(f"|---|{'---|' * len(FORMATS)}")
    for text, feature in FEATURES.items():
        print(f"| {text} | {' | '.join(answer(feature, name) for name in FORMATS)} |", flush=True)


if __name__ == "__main__":
    main()
