"""What fine detail is left at each quality: a table, and sheets of crops to look at.

    python benchmarks/default_quality.py SHEETS FOLDER... [--limit N]

Each folder is one kind of image. Of each image, the square with the most fine detail is coded.
SHEETS gets one PNG an image: two rows of crops at 1:1, two rows at 2:1 (nearest pixel). Gray of
more than 8 bits is drawn over its whole range at 1:1; at 2:1 a tenth of the range fills the screen.

JPEG is Pillow's at quality 90 with its default halved chroma; gray of more than 8 bits is coded in
its rendering to 8 bits. Lossless is JPEG 2000 (5/3 wavelet), which DICOM uses.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, uniform_filter

import mvmic_codec
from mvmic_codec.evaluation.images import files_of, load
from mvmic_codec.evaluation.metrics import Pixels, max_error, psnr

QUALITIES = (3, 4, 5, 5.5, 6, 6.5, 7, 8)

# Side of the square that is coded, and of the part of it that is drawn at 1:1.
SIDE = 384
PANEL = 300

LABEL = 24
GAP = 4

# A blur of this many pixels takes out what a vessel, a letter's stroke or a bone's edge adds.
BLUR = 2.0


@dataclass(frozen=True)
class Point:
    """One crop at one quality."""

    size: int
    bpp: float
    psnr: float
    max_error: int
    detail: float
    times_jpeg: float
    times_lossless: float


def gray_of(pixels: Pixels) -> np.ndarray:
    """[H, W] float64: green of a colour image, which shows vessels best; gray as it is."""
    return (pixels[:, :, 1] if pixels.ndim == 3 else pixels).astype(np.float64)


def detailed_square(pixels: Pixels) -> Pixels:
    """The square of SIDE around the place with the most fine detail; all of a smaller image."""
    gray = gray_of(pixels)
    strength = np.hypot(*np.gradient(gray)) / max(float(np.ptp(gray)), 1.0) * 255
    # The logarithm counts many fine edges above a single strong one, such as a fundus mask's.
    detail = uniform_filter(np.log1p(strength), PANEL // 2)
    height, width = gray.shape
    half = SIDE // 2
    # Centres from which the square lies inside the image.
    top, left = min(half, height // 2), min(half, width // 2)
    inside = detail[top : max(height - half, top + 1), left : max(width - half, left + 1)]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    y, x = max(top + int(row) - half, 0), max(left + int(column) - half, 0)
    return np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE])


def detail_kept(original: Pixels, decoded: Pixels) -> float:
    """Share of the contrast of fine structures that is left, in percent.

    The strongest twentieth of what a blur takes out of the original; noise counts as well.
    """
    fine, left = (each - gaussian_filter(each, BLUR) for each in map(gray_of, (original, decoded)))
    strong = np.abs(fine) >= np.quantile(np.abs(fine), 0.95)
    energy = float(np.sum(fine[strong] ** 2))
    return 100 * float(np.sum(fine[strong] * left[strong])) / energy if energy else 100.0


def size_as(pixels: Pixels, form: str, **options: object) -> int:
    """Bytes of the image in one of Pillow's own formats."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.tell()


def measure(pixels: Pixels) -> tuple[list[Point], list[Pixels]]:
    """Figures and decoded pixels at each quality."""
    jpeg = size_as(shown(pixels), "JPEG", quality=90)
    lossless = size_as(pixels, "JPEG2000", irreversible=False, no_jp2=True)
    points, decodes = [], []
    for quality in QUALITIES:
        data = mvmic_codec.encode(pixels, quality=quality)
        decoded = np.asarray(mvmic_codec.decode(data))
        points.append(
            Point(
                size=len(data),
                bpp=8 * len(data) / (pixels.shape[0] * pixels.shape[1]),
                psnr=psnr(pixels, decoded),
                max_error=max_error(pixels, decoded),
                detail=detail_kept(pixels, decoded),
                times_jpeg=jpeg / len(data),
                times_lossless=lossless / len(data),
            )
        )
        decodes.append(decoded)
    return points, decodes


def shown(pixels: Pixels, window: tuple[float, float] | None = None) -> Pixels:
    """The image as 8 bits; gray of more bits by a window, or by its own range."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = window or (float(pixels.min()), float(pixels.max()))
    return (np.clip((pixels - low) / max(high - low, 1), 0, 1) * 255).round().astype(np.uint8)


def narrow_window(pixels: Pixels) -> tuple[float, float]:
    """A tenth of the range, around the median of what is not background."""
    low, high = float(pixels.min()), float(pixels.max())
    body = pixels[pixels > low + (high - low) / 10]
    centre, width = float(np.median(body)), (high - low) / 10
    return centre - width / 2, centre + width / 2


def sheet_of(original: Pixels, decodes: Sequence[Pixels], points: Sequence[Point]) -> Image.Image:
    """The original and all decodes at 1:1, then at 2:1; the original leads each row."""
    texts = ["original"] + [
        f"q {quality:g}: {point.bpp:.2f} bpp, {point.psnr:.1f} dB"
        for quality, point in zip(QUALITIES, points, strict=True)
    ]
    images = [original, *decodes]
    half = 1 + len(decodes) // 2
    rows = [[*range(half)], [0, *range(half, len(images))]]
    wide, high = half * (PANEL + GAP), PANEL + LABEL
    sheet = Image.new("RGB", (wide, 2 * len(rows) * high), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for zoom in (1, 2):
        ranged = (float(original.min()), float(original.max()))
        window = ranged if zoom == 1 else narrow_window(original)
        for number, row in enumerate(rows):
            y = ((zoom - 1) * len(rows) + number) * high
            for column, which in enumerate(row):
                part = centre_of(shown(images[which], window), PANEL // zoom)
                panel = Image.fromarray(part).convert("RGB")
                panel = panel.resize(
                    (panel.width * zoom, panel.height * zoom), Image.Resampling.NEAREST
                )
                sheet.paste(panel, (column * (PANEL + GAP), y))
                pen.text((column * (PANEL + GAP), y + PANEL + 2), texts[which], "black", font)
    return sheet


def centre_of(pixels: Pixels, side: int) -> Pixels:
    """The middle of an image, at most `side` pixels high and wide."""
    top, left = (max(size - side, 0) // 2 for size in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sheets", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, help="the first so many images of each folder")
    options = parser.parse_args()
    options.sheets.mkdir(parents=True, exist_ok=True)
    print("| images | q | bytes | bpp | PSNR, dB | max error | detail, % | JPEG | lossless |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for folder in options.folders:
        rows = []
        for path in files_of(folder, options.limit):
            pixels = detailed_square(load(path))
            points, decodes = measure(pixels)
            sheet_of(pixels, decodes, points).save(
                options.sheets / f"{folder.name}-{path.stem}.png", optimize=True
            )
            rows.append(points)
        for quality, at in zip(QUALITIES, zip(*rows, strict=True), strict=True):
            print(
                f"| {folder.name} | {quality:g} | {mean(p.size for p in at):.0f} "
                f"| {mean(p.bpp for p in at):.2f} | {mean(p.psnr for p in at):.1f} "
                f"| {max(p.max_error for p in at)} | {mean(p.detail for p in at):.0f} "
                f"| {mean(p.times_jpeg for p in at):.1f} "
                f"| {mean(p.times_lossless for p in at):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
