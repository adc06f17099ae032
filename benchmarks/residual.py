"""Bits a pixel of exact and nearly exact images: the residual coder, with and without a base,
beside JPEG-LS, JPEG 2000, JPEG XL and WebP on the same samples.

    python benchmarks/residual.py IMAGES ... --bound 0 --bound 1 --base 18 --base 45

IMAGES are files or folders. --csv FILE writes all rows. Peers are run by imagecodecs (python -m pip
install imagecodecs): with a bound of 0 CharLS, OpenJPEG, libjxl at efforts 7 and 9, and WebP; with
others CharLS at that NEAR. The coder's bits are those of its payload, and with a base those of the
base's file as well. Columns:

    ours          without a base
    base 18       with a base at rate index 18, and so on
    best          the least of these for each image
    ours s, base 18 s  CPU seconds of decoding a million pixels, that of the base included
"""

from __future__ import annotations

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from mvmic_codec import encode
from mvmic_codec.api import decode_array
from mvmic_codec.bitstream.residual import Kind, from_payload, to_payload
from mvmic_codec.evaluation.images import files_of, load
from mvmic_codec.evaluation.metrics import Pixels


@click.command()
@click.argument("images", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--bound", "bounds", type=click.IntRange(0), multiple=True, default=(0,))
@click.option("--base", "bases", type=click.IntRange(0, 63), multiple=True, help="Rate indices.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write all rows.")
def main(
    images: tuple[Path, ...], bounds: tuple[int, ...], bases: tuple[int, ...], csv_path: Path | None
) -> None:
    """Print bits a pixel of each image and codec, and their means."""
    rows = []
    for path in [file for each in images for file in (files_of(each) if each.is_dir() else [each])]:
        pixels = load(path)
        coded = {rate: base_of(pixels, rate) for rate in bases}
        for bound in bounds:
            row: dict[str, Any] = {"image": path.stem, "bound": bound}
            row |= row_of(pixels, bound, coded)
            rows.append(row)
            print("  ".join(f"{k} {v:.3f}" if type(v) is float else str(v) for k, v in row.items()))
    for bound in bounds:
        mine = [row for row in rows if row["bound"] == bound]
        means = {k: np.mean([row[k] for row in mine]) for k in list(mine[0])[2:]}
        print(f"bound {bound}, {len(mine)} images: ", *(f"{k} {v:.3f} " for k, v in means.items()))
        for peer in [name for name in means if name in PEERS]:
            ratio = np.mean([np.log(row["best"] / row[peer]) for row in mine])
            print(f"  best against {peer}: {100 * np.expm1(ratio):+.1f}% (geometric mean)")
    if csv_path:
        text = io.StringIO()
        table = csv.DictWriter(
            text, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n"
        )
        table.writeheader()
        table.writerows(
            {k: f"{v:.5g}" if type(v) is float else v for k, v in row.items()} for row in rows
        )
        csv_path.write_text(text.getvalue())


def base_of(pixels: Pixels, rate: int) -> tuple[bytes, Pixels, float]:
    """A file at a rate index, its image, and the CPU seconds of decoding it."""
    data = encode(pixels, rate_index=rate)
    start = time.process_time()
    base = decode_array(data)
    taken = time.process_time() - start
    return data, base.clip(pixels.min(), pixels.max()), taken


def row_of(
    pixels: Pixels, bound: int, bases: dict[int, tuple[bytes, Pixels, float]]
) -> dict[str, Any]:
    """Bits a pixel, by codec, and seconds a million pixels."""
    count = pixels.shape[0] * pixels.shape[1]
    samples = pixels if pixels.ndim == 3 else pixels[..., None]
    bits = 8 * samples.dtype.itemsize
    low, high = (0, 255) if bits == 8 else (int(samples.min()), int(samples.max()))
    height, width, channels = samples.shape
    kind = Kind(height, width, channels, bits, False, low, high, bound)
    sizes: dict[str, int] = {}
    seconds: dict[str, float] = {}
    payload, _ = to_payload(samples, kind)
    sizes["ours"] = len(payload)
    seconds["ours s"] = timed(payload, kind, samples, None)
    for rate, (data, base, decoding) in bases.items():
        under = base.reshape(samples.shape)
        payload, _ = to_payload(samples, kind, under)
        sizes[f"base {rate}"] = len(payload) + len(data)
        seconds[f"base {rate} s"] = timed(payload, kind, samples, under) + decoding
    sizes["best"] = min(sizes.values())
    for name, peer in PEERS.items():
        size = peer(pixels, bound)
        if size:
            sizes[name] = size
    return {k: 8 * v / count for k, v in sizes.items()} | {
        k: 1e6 * v / count for k, v in seconds.items()
    }


def timed(payload: bytes, kind: Kind, samples: Pixels, base: Pixels | None) -> float:
    """CPU seconds of decoding, which must give the image within the bound."""
    start = time.process_time()
    back = from_payload(payload, kind, base)
    taken = time.process_time() - start
    worst = np.abs(back.astype(np.int64) - samples).max()
    if worst > kind.bound:
        sys.exit(f"a sample is off by {worst}")
    return taken


def peers() -> dict[str, Any]:
    """Bytes of an image by codec and bound, 0 where a codec has no such bound."""
    try:
        import imagecodecs
    except ImportError:
        print("imagecodecs is not installed: no peers", file=sys.stderr)
        return {}

    def webp(pixels: Pixels, bound: int) -> int:
        if bound or pixels.dtype != np.uint8:
            return 0
        colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
        return len(imagecodecs.webp_encode(colour, lossless=True, level=100))

    def jpeg2000(pixels: Pixels, bound: int) -> int:
        return 0 if bound else len(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True))

    def jpegxl(pixels: Pixels, bound: int, effort: int) -> int:
        return 0 if bound else len(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=effort))

    return {
        "JPEG-LS": lambda pixels, bound: len(imagecodecs.jpegls_encode(pixels, level=bound)),
        "JPEG 2000": jpeg2000,
        "JPEG XL e7": lambda pixels, bound: jpegxl(pixels, bound, 7),
        "JPEG XL e9": lambda pixels, bound: jpegxl(pixels, bound, 9),
        "WebP": webp,
    }


PEERS = peers()

if __name__ == "__main__":
    main()
