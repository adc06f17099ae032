"""One image at a few rates by this codec, and by another in files that are no larger."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from mvmic_codec import rate
from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation import peers
from mvmic_codec.evaluation.images import load, to_8_bits
from mvmic_codec.evaluation.metrics import Pixels, psnr

QUALITIES = (1, 3, 5)


@dataclass(frozen=True)
class Source:
    """An image to be shown: 8-bit samples, [H, W] or [H, W, 3].

    bytes     size of the file that it came from
    rendered  whether it is a deeper image in its rendering to 8 bits
    """

    path: Path
    pixels: Pixels
    bytes: int
    rendered: bool


@dataclass(frozen=True)
class Coded:
    """A source as a codec gives it back.

    setting  the codec's own, for people
    fits     whether the file is as small as was asked for
    """

    codec: str
    setting: str
    pixels: Pixels
    bytes: int
    psnr: float
    fits: bool = True


@dataclass(frozen=True)
class Picture:
    """A source and, for each of QUALITIES, this codec's decode and the other codec's."""

    source: Source
    pairs: list[tuple[Coded, Coded]]


@dataclass(frozen=True)
class _Knob:
    """How a codec of Pillow is told to make larger or smaller files, 0 to 100 by rising size."""

    form: str
    options: Callable[[int, bool], dict[str, Any]]
    label: Callable[[int], str]


# In step with the settings that `peers` measures, which serve each codec best in PSNR.
_KNOBS = {
    "avif": _Knob(
        "AVIF",
        lambda step, gray: {
            "quality": step,
            "subsampling": "4:0:0" if gray else "4:4:4",
            "speed": 4,
            "codec": "aom",
            "advanced": {"tune": "psnr"},
            "max_threads": 1,
        },
        lambda step: f"quality {step}",
    ),
    "jpeg2000": _Knob(
        "JPEG2000",
        lambda step, gray: {
            "quality_mode": "rates",
            "quality_layers": [(8 if gray else 24) / _jpeg2000_bpp(step)],
            "irreversible": True,
            "mct": 0 if gray else 1,
            "no_jp2": True,
        },
        lambda step: f"{_jpeg2000_bpp(step):.3g} bpp asked",
    ),
    "jpeg": _Knob(
        "JPEG",
        lambda step, gray: {
            "quality": max(step, 1),
            "subsampling": "4:4:4" if gray else "4:2:0",
            "optimize": True,
            "progressive": True,
        },
        lambda step: f"quality {max(step, 1)}",
    ),
    "webp": _Knob(
        "WEBP",
        lambda step, gray: {"quality": step, "method": 6, "use_sharp_yuv": not gray},
        lambda step: f"quality {step}",
    ),
}
_FEATURES = {"avif": "avif", "jpeg2000": "jpg_2000", "jpeg": "jpg", "webp": "webp"}


def default_against() -> str:
    """AVIF where this Pillow writes it, else JPEG 2000, else JPEG."""
    return next(
        (name for name in ("avif", "jpeg2000") if _FEATURES[name] in features.get_supported()),
        "jpeg",
    )


def check_against(name: str) -> None:
    """Raise InputError if images cannot be shown beside this codec's."""
    if name not in _KNOBS:
        raise InputError(
            f"{name!r} cannot be shown beside images of mvm; choose from {', '.join(_KNOBS)}"
        )
    peers.peer(name)  # says so where this Pillow lacks the codec


def read_source(path: Path) -> Source:
    """An image file. Raises OSError if it cannot be read, InputError for a mode not compared."""
    pixels = load(path)
    rendered = pixels.dtype != np.uint8
    return Source(path, to_8_bits(pixels) if rendered else pixels, path.stat().st_size, rendered)


def compare(source: Source, against: str) -> Picture:
    """Code a source at QUALITIES, and by the other codec in the largest files not above these."""
    image = Image.fromarray(source.pixels)
    indices = [rate.index_of(quality) for quality in QUALITIES]
    ours = peers.mvm(indices)
    (settings,) = ours.curves(source.pixels.ndim == 2)
    other = _Ladder(against, image)
    pairs = []
    for quality, setting in zip(QUALITIES, settings, strict=True):
        data = setting.encode(image)
        result = _coded("mvm", f"q = {quality}", source.pixels, data, ours.decode(data))
        pairs.append((result, other.at_most(len(data), source.pixels)))
    return Picture(source, pairs)


class _Ladder:
    """Files of one image by rising size, each coded once."""

    def __init__(self, name: str, image: Image.Image) -> None:
        self.name, self.image, self.files = name, image, dict[int, bytes]()
        self.decode = peers.peer(name).decode

    def at_most(self, size: int, original: Pixels) -> Coded:
        """The largest file of no more than `size` bytes, or the smallest of all."""
        low, high = 0, 101
        while high - low > 1:
            middle = (low + high) // 2
            if len(self.file(middle)) <= size:
                low = middle
            else:
                high = middle
        data = self.file(low)
        return _coded(
            self.name,
            _KNOBS[self.name].label(low),
            original,
            data,
            self.decode(data),
            len(data) <= size,
        )

    def file(self, step: int) -> bytes:
        if step not in self.files:
            knob, file = _KNOBS[self.name], io.BytesIO()
            try:
                self.image.save(file, knob.form, **knob.options(step, self.image.mode == "L"))
            except (ValueError, RuntimeError) as error:
                raise MvmError(f"{knob.form} cannot write this image: {error}") from error
            self.files[step] = file.getvalue()
        return self.files[step]


def _jpeg2000_bpp(step: int) -> float:
    """From 0.005 to 5 bpp in steps of 7%."""
    return float(0.005 * 1000 ** (step / 100))


def _coded(
    codec: str,
    setting: str,
    original: Pixels,
    data: bytes,
    image: Image.Image,
    fits: bool = True,
) -> Coded:
    if image.mode != "L" and original.ndim == 2:
        image = image.convert("L")
    pixels = np.asarray(image)
    return Coded(codec, setting, pixels, len(data), psnr(original, pixels), fits)
