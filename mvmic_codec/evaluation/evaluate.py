"""Measure codecs on folders of images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mvmic_codec.errors import MvmError
from mvmic_codec.evaluation.codec import Codec, Setting
from mvmic_codec.evaluation.curves import Curve, bd_rate
from mvmic_codec.evaluation.images import load, to_8_bits
from mvmic_codec.evaluation.memory import Peak
from mvmic_codec.evaluation.metrics import Pixels, luma_psnr, max_error, ms_ssim, psnr
from mvmic_codec.evaluation.rows import Row


def evaluate(path: Path, codec: Codec, memory: bool = False) -> list[Row]:
    """Rows of one image file with one codec; the set is named after the file's folder.

    With `memory` each setting is coded once more, to see what memory it takes.

    A gray image of more than 8 bits is measured in its rendering to 8 bits as set NAME_8bit, and
    by a codec that takes it as it is in set NAME too.
    """
    rows: list[Row] = []
    for name, pixels in _forms(path, codec):
        kept: list[tuple[Row, Pixels]] = []
        for settings in codec.curves(pixels.ndim == 2):
            curve = [_measure(path, name, pixels, codec, setting, memory) for setting in settings]
            if not kept or _is_better(curve, kept):
                kept = curve
        # MS-SSIM takes longer than most of the codecs: only for what is kept.
        rows += [replace(row, ms_ssim=ms_ssim(pixels, result)) for row, result in kept]
    return rows


def sets_of(path: Path) -> tuple[str, str]:
    """The sets in which `evaluate` puts an image: as it is, and rendered to 8 bits."""
    name = path.resolve().parent.name
    return name, f"{name}_8bit"


def warm_up(codec: Codec) -> None:
    """Code a small image once, so that the seconds of no row include loading a model."""
    image = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).astype(np.uint8).reshape(64, 64))
    codec.decode(codec.curves(True)[0][0].encode(image))


def _forms(path: Path, codec: Codec) -> Iterator[tuple[str, Pixels]]:
    (as_it_is, rendered), pixels = sets_of(path), load(path)
    if pixels.dtype == np.uint8:
        yield as_it_is, pixels
        return
    if codec.deep:
        yield as_it_is, pixels
    yield rendered, to_8_bits(pixels)


def _measure(
    path: Path, name: str, pixels: Pixels, codec: Codec, setting: Setting, memory: bool
) -> tuple[Row, Pixels]:
    image = Image.fromarray(pixels)
    start = time.perf_counter()
    data = setting.encode(image)
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    end = time.perf_counter()
    if decoded.mode != image.mode and image.mode == "L":
        decoded = decoded.convert("L")
    result = np.asarray(decoded)
    if result.shape != pixels.shape or result.dtype != pixels.dtype:
        raise MvmError(
            f"{codec.name} gave back a {decoded.width}x{decoded.height} {decoded.mode} image for "
            f"a {image.width}x{image.height} {image.mode} one"
        )
    # Apart from the timed run: memory that was given back takes time to be had again.
    encoding, decoding = Peak(), Peak()
    if memory and not codec.apart:
        with encoding:
            setting.encode(image)
        with decoding:
            codec.decode(data)
    row = Row(
        set=name,
        image=path.name,
        codec=codec.name,
        setting=setting.label,
        width=image.width,
        height=image.height,
        channels=1 if pixels.ndim == 2 else 3,
        bytes=len(data),
        bpp=8 * len(data) / (image.width * image.height),
        psnr=psnr(pixels, result),
        psnr_y=luma_psnr(pixels, result),
        ms_ssim=None,
        max_error=max_error(pixels, result),
        enc_s=encoded - start,
        dec_s=end - encoded,
        enc_mib=encoding.mib,
        dec_mib=decoding.mib,
    )
    return row, result


def _is_better(one: list[tuple[Row, Pixels]], other: list[tuple[Row, Pixels]]) -> bool:
    value = bd_rate(_points(other), _points(one))
    return value is not None and value < 0


def _points(curve: list[tuple[Row, Pixels]]) -> Curve:
    return [(row.bpp, row.psnr) for row, _ in curve]
