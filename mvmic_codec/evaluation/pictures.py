"""One image at a few qualities: by this codec, and by another codec in files no larger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features

from mvmic_codec import rate
from mvmic_codec.errors import InputError
from mvmic_codec.evaluation import peers
from mvmic_codec.evaluation.codec import Setting
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
    """A source after a codec has coded and decoded it.

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


def _jpeg2000_bpp(step: int) -> float:
    """From 0.005 to 5 bpp in steps of 7%."""
    return float(0.005 * 1000 ** (step / 100))


# A setting and its name for people, by a step 0 to 100 of rising size and whether it is for gray.
_LADDERS: dict[str, Callable[[int, bool], tuple[Setting, str]]] = {
    "avif": lambda step, gray: (peers.avif(step, gray), f"quality {step}"),
    "jpeg2000": lambda step, gray: (
        peers.jpeg2000(_jpeg2000_bpp(step), gray),
        f"{_jpeg2000_bpp(step):.3g} bpp asked",
    ),
    "jpeg": lambda step, gray: (
        peers.jpeg(max(step, 1), gray, "4:4:4" if gray else "4:2:0"),
        f"quality {max(step, 1)}",
    ),
    "webp": lambda step, gray: (peers.webp(step, gray), f"quality {step}"),
}


def default_against() -> str:
    """AVIF where this Pillow writes it, else JPEG 2000, else JPEG."""
    return next(
        (name for name in ("avif", "jpeg2000") if peers.FEATURES[name] in features.get_supported()),
        "jpeg",
    )


def check_against(name: str) -> None:
    """Raise InputError if images cannot be shown beside this codec's."""
    if name not in _LADDERS:
        raise InputError(
            f"{name!r} cannot be shown beside images of mvm; choose from {', '.join(_LADDERS)}"
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
        self.gray = image.mode == "L"
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
            _LADDERS[self.name](low, self.gray)[1],
            original,
            data,
            self.decode(data),
            len(data) <= size,
        )

    def file(self, step: int) -> bytes:
        if step not in self.files:
            setting, _ = _LADDERS[self.name](step, self.gray)
            self.files[step] = setting.encode(self.image)
        return self.files[step]


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
