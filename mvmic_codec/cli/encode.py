"""`mvmic encode`: images to .mvm files."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from mvmic_codec.cli import batch, files, lost
from mvmic_codec.cli.drop import drop
from mvmic_codec.cli.limits import max_pixels
from mvmic_codec.cli.plan import Naming, Plan, plan
from mvmic_codec.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from mvmic_codec.model.tuned import TunedEncoder
    from mvmic_codec.tasks.heads import Head

# Formats of Pillow's that are not looked for in folders, since it has no pixels of them: drawings
# for other programs, and data that it knows by name only.
_NO_PIXELS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF", "MVM"})


@dataclass(frozen=True)
class _Record:
    """What was done for one image."""

    input: str
    output: str
    width: int
    height: int
    frames: int
    mode: str
    rate_index: int
    bytes: int
    bpp: float
    seconds: float


@click.command("encode")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False),
    help="File for one image, or -; else a folder.  [default: beside the input]",
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
@click.option(
    "--task",
    type=click.Path(readable=False),
    help="A head's file, or polyp for the one that ships: keep more of what it looks at. Each "
    "image is encoded twice.",
)
@click.option(
    "--encoder",
    type=click.Path(readable=False),
    help="A file of mvmic train --encoder, in place of the released encoder.",
)
@click.option(
    "--tile",
    type=int,
    help="Side of tiles in pixels, a multiple of 64; 0 for none.  [default: 1024 for images above "
    "16 megapixels]",
)
@drop
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@max_pixels
@click.option("--device", help="Where to encode.  [default: cuda if there is one, else cpu]")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    quality: float | None,
    rate_index: int | None,
    bpp: float | None,
    psnr: float | None,
    max_bytes: int | None,
    effort: int,
    task: str | None,
    encoder: str | None,
    tile: int | None,
    dropped: frozenset[str],
    force: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Encode images, or all images below folders, to .mvm files.

    At most one of -q, --rate-index, --bpp, --psnr and --max-bytes says how much to keep.

    "-" is standard input, and with -o standard output; then the summary goes to standard error.
    Of folders, files are taken that have the suffix of a format that Pillow reads; what is left
    out is named on standard error, and so is what an input loses. An output's name ends in .mvm
    instead of that suffix; to any other name .mvm is added. Files that exist are left alone without
    --force. All frames of an image become a series in one file.

    Exit codes: 0 all done, 1 an input failed (the others are done), 2 wrong usage, 130 interrupted,
    143 terminated.
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
        planned = plan(inputs, output, _naming())
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    to_stream = any(files.is_stream(job.target) for job in planned.jobs)
    for job in planned.jobs:
        if not to_stream and job.target.suffix.lower() != ".mvm":
            raise click.UsageError(
                f"the output of encode ends in .mvm, not in {files.shown(job.target.suffix)}"
            )
    head, tuned = _head(task, device), _tuned(encoder)
    without: dict[str, Any] = dict.fromkeys(dropped)
    outputs = files.Outputs(force=force)

    def work(job: files.Job) -> _Record:
        from mvmic_codec import api

        outputs.check(job)
        with files.reading(job.source) as file:
            frames, notes = open_frames(file)
        image = frames[0]
        start = time.perf_counter()
        name, few = files.shown(job.source.name), len(frames) == 1 and not is_cut(image, tile)
        with (
            batch.progress(name, "round", hide=quiet or effort == 1) as rounds,
            batch.progress(name, "tile", hide=quiet or few) as tiles,
        ):
            data = api.encode(
                frames if len(frames) > 1 else image,
                quality,
                rate_index=rate_index,
                bpp=bpp,
                psnr=psnr,
                max_bytes=max_bytes,
                effort=effort,
                on_round=rounds.update,
                on_tile=lambda done: tiles.update(),
                tile=tile,
                task=head,
                encoder=tuned,
                device=device,
                **without,
            )
        seconds = time.perf_counter() - start
        outputs.write(job.target, data)
        missing = [
            *lost.missing(data, lost.held_metadata(image, dropped)),
            *lost.unheld(image, dropped),
        ]
        if missing:
            notes.append(lost.sentence("an .mvm file", missing))
        if notes:
            batch.complain(job.source, "; ".join(notes))
        header = api.read_header(data)
        return _Record(
            input=str(job.source),
            output=str(job.target),
            width=header.width,
            height=header.height,
            frames=header.frames,
            mode=header.mode,
            rate_index=header.rate_index,
            bytes=len(data),
            bpp=round(8 * len(data) / (header.frames * header.width * header.height), 5),
            seconds=round(seconds, 3),
        )

    with batch.warnings_noted():
        records, failures = batch.run(
            planned.jobs, work, lambda job: job.source, label="encode", quiet=quiet
        )
    batch.tell_unplanned(planned)
    failures += planned.failed
    if as_json:
        batch.say(_as_json(records, failures, planned), err=to_stream)
    elif not quiet and records:
        batch.say("\n".join(map(_as_text, records)), err=to_stream)
    if failures:
        raise click.exceptions.Exit(1)


def _head(path: str | None, device: str | None) -> Head | None:
    if path is None:
        return None
    try:
        from mvmic_codec.tasks.heads import load_head

        return load_head(path, device)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error


def _tuned(path: str | None) -> TunedEncoder | None:
    if path is None:
        return None
    try:
        from mvmic_codec.model.tuned import load_encoder

        return load_encoder(path)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error


def _naming() -> Naming:
    from PIL import Image

    Image.init()
    formats = Image.registered_extensions()
    # Pillow's reader of JPEG opens MPO, too.
    read = {*Image.OPEN, "MPO"} - _NO_PIXELS
    taken = {suffix for suffix, form in formats.items() if form in read}
    return Naming("images that Pillow reads", taken, set(formats), ".mvm")


def _as_json(records: list[_Record], failures: list[tuple[Path, str]], planned: Plan) -> str:
    return json.dumps(
        {
            "files": [asdict(record) for record in records],
            "failed": [{"input": str(path), "error": text} for path, text in failures],
            "skipped": [{"input": str(path), "reason": text} for path, text in planned.skipped],
        },
        indent=1,
    )


def _as_text(record: _Record) -> str:
    frames = f"{record.frames} frames of " if record.frames > 1 else ""
    return (
        f"{files.shown(record.output)}: {frames}{record.width}x{record.height} {record.mode}, "
        f"{record.bytes} bytes, {record.bpp:.4f} bpp, rate index {record.rate_index}"
    )


def is_cut(image: Image.Image, tile: int | None) -> bool:
    """Whether an image becomes several tiles."""
    from mvmic_codec import api

    side = api.tile_side(tile, (image.height, image.width))
    return 0 < side < max(image.size)


def open_image(file: BinaryIO) -> tuple[Image.Image, list[str]]:
    """The first frame of `open_frames`, and its notes. Raises InputError if there are more."""
    frames, notes = open_frames(file)
    if len(frames) > 1:
        raise InputError(f"has {len(frames)} frames, and one is needed")
    return frames[0], notes


def open_frames(file: BinaryIO) -> tuple[list[Image.Image], list[str]]:
    """The frames of an image, loaded, and what encoding them changes; see `lost.changes`.

    Raises InputError, or OSError from the file system.
    """
    from PIL import Image, UnidentifiedImageError

    from mvmic_codec.image.series import copies_of

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                notes = lost.changes(image)
                # The further frames of an MPO are previews and other views of the first.
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    return copies_of(image), notes
                image.load()
                return [image], notes
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
