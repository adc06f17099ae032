"""`mvmic encode`: images to .mvm files."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvmic_codec.cli import batch, files
from mvmic_codec.cli.limits import max_pixels
from mvmic_codec.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

# What is looked for in folders. A file named on the command line is tried whatever its suffix.
_SUFFIXES = frozenset(
    {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".j2k", ".webp", ".avif", ".bmp", ".gif"}
    | {".pgm", ".ppm", ".pnm", ".tga"}
)


@dataclass(frozen=True)
class _Record:
    """What was done for one image."""

    input: str
    output: str
    width: int
    height: int
    mode: str
    rate_index: int
    bytes: int
    bpp: float
    seconds: float


@click.command("encode")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False),
    help="File for one image, else a folder.  [default: beside the input]",
)
@click.option("-q", "--quality", type=float, help="1 (smallest) to 8 (best).  [default: 7]")
@click.option("--rate-index", type=int, help="The same ladder in finer steps: 0 to 63.")
@click.option(
    "--bpp", type=float, help="Best quality within these bits per pixel, without metadata."
)
@click.option("--psnr", type=float, help="Smallest file with at least this many dB.")
@click.option("--max-bytes", type=int, help="Best quality within this many bytes.")
@click.option(
    "--effort",
    default=1,
    show_default=True,
    type=click.IntRange(1, 3),
    help="2 and 3 take 4 to 35 times as long, for up to 2% fewer bits.",
)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@max_pixels
@click.option("--device", help="Where to run the model, such as cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    inputs: tuple[Path, ...],
    output: str | None,
    quality: float | None,
    rate_index: int | None,
    bpp: float | None,
    psnr: float | None,
    max_bytes: int | None,
    effort: int,
    force: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Encode images, or all images below folders, to .mvm files.

    At most one of -q, --rate-index, --bpp, --psnr and --max-bytes says how much to keep. Files
    that exist are left alone without --force.
    """
    targets = {
        "quality": quality,
        "rate_index": rate_index,
        "bpp": bpp,
        "psnr": psnr,
        "max_bytes": max_bytes,
    }
    asked = [name for name, value in targets.items() if value is not None]
    if len(asked) > 1:
        names = " and ".join("--" + name.replace("_", "-") for name in asked)
        raise click.UsageError(f"{names} contradict each other; give one of them")
    _check_options(quality, rate_index, {"--bpp": bpp, "--psnr": psnr, "--max-bytes": max_bytes})
    try:
        jobs = files.plan(inputs, output, _SUFFIXES, ".mvm")
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    for job in jobs:
        if job.target.suffix.lower() != ".mvm":
            raise click.UsageError(f"the output of encode ends in .mvm, not in {job.target.suffix}")

    def work(job: files.Job) -> _Record:
        from mvmic_codec import api

        files.check_target(job, force)
        image = open_image(job.source)
        start = time.perf_counter()
        with batch.progress(job.source.name, "round", hide=quiet or effort == 1) as rounds:
            data = api.encode(
                image,
                quality,
                rate_index=rate_index,
                bpp=bpp,
                psnr=psnr,
                max_bytes=max_bytes,
                effort=effort,
                on_round=rounds.update,
                device=device,
            )
        seconds = time.perf_counter() - start
        files.write(job.target, data)
        header = api.read_header(data)
        return _Record(
            input=str(job.source),
            output=str(job.target),
            width=header.width,
            height=header.height,
            mode=header.mode,
            rate_index=header.rate_index,
            bytes=len(data),
            bpp=round(8 * len(data) / (header.width * header.height), 5),
            seconds=round(seconds, 3),
        )

    records, failures = batch.run(jobs, work, lambda job: job.source, label="encode", quiet=quiet)
    if as_json:
        failed = [{"input": str(name), "error": text} for name, text in failures]
        click.echo(
            json.dumps(
                {"files": [asdict(record) for record in records], "failed": failed}, indent=1
            )
        )
    elif not quiet:
        for record in records:
            click.echo(
                f"{record.output}: {record.width}x{record.height} {record.mode}, "
                f"{record.bytes} bytes, {record.bpp:.4f} bpp, rate index {record.rate_index}"
            )
    if failures:
        raise click.exceptions.Exit(1)


def open_image(path: Path) -> Image.Image:
    """An image with its pixels loaded. Raises InputError, or OSError from the file system."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                frames = getattr(image, "n_frames", 1)
                # The further frames of an MPO are previews and other views of the first.
                if frames > 1 and image.format != "MPO":
                    raise InputError(
                        f"has {frames} frames; an .mvm file holds one, so split it first"
                    )
                image.load()
                return image
    except UnidentifiedImageError:
        raise InputError("is not an image that Pillow can open") from None
    except Image.DecompressionBombError:
        raise InputError(
            "has more pixels than the limit against decompression bombs; give --max-pixels if you "
            "trust it"
        ) from None
    except MemoryError:
        raise
    except OSError as error:
        if isinstance(error, InputError) or error.errno is not None:
            raise
        raise InputError(f"cannot be read: {error}") from error
    # Pillow's readers let many kinds of errors through for damaged files.
    except Exception as error:
        raise InputError(f"cannot be read: {error}") from error


def _check_options(
    quality: float | None, rate_index: int | None, targets: Mapping[str, float | None]
) -> None:
    """What holds for every input is wrong usage, not the failure of each of them."""
    from mvmic_codec import rate

    try:
        if quality is not None:
            rate.index_of(quality)
        if rate_index is not None:
            rate.checked_index(rate_index)
        for name, value in targets.items():
            if value is not None:
                rate.checked_target(name, value)
    except InputError as error:
        raise click.UsageError(str(error)) from None
