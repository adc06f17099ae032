"""`mvmic decode`: .mvm files to images of any other format."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvmic_codec.cli import batch, files
from mvmic_codec.cli.limits import max_pixels
from mvmic_codec.errors import InputError

if TYPE_CHECKING:
    from PIL import PngImagePlugin

    from mvmic_codec.bitstream.container import Header

# Format and options for each suffix: without loss where the format can, else with little.
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".jp2": ("JPEG2000", {"irreversible": False}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".pgm": ("PPM", {}),
    ".ppm": ("PPM", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
}
# Formats that hold these Pillow modes; every format holds L and RGB.
_HOLDERS = {"I;16": ("PNG", "TIFF", "JPEG2000", "PPM"), "I": ("TIFF",)}
_METADATA = ("exif", "icc_profile", "xmp", "dpi")


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False),
    help="File for one image, else a folder.  [default: beside the input]",
)
@click.option(
    "--to",
    "suffix",
    default=".png",
    show_default=True,
    help="Suffix, and by it the format, of files whose name -o does not give.",
)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@max_pixels
@click.option("--device", help="Where to run the model, such as cpu or cuda.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    inputs: tuple[Path, ...],
    output: str | None,
    suffix: str,
    force: bool,
    device: str | None,
    quiet: bool,
) -> None:
    """Decode .mvm files, or all of them below folders, to images.

    The suffix of the output chooses the format. Files that exist are left alone without --force.
    """
    suffix = suffix if suffix.startswith(".") else f".{suffix}"
    _check_suffix(suffix)
    try:
        jobs = files.plan(inputs, output, (".mvm",), suffix)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    for job in jobs:
        _check_suffix(job.target.suffix)

    def work(job: files.Job) -> str:
        from mvmic_codec import api

        files.check_target(job, force)
        form, options = _FORMATS[job.target.suffix.lower()]
        _check_depth(api.read_header(job.source), form)
        image = api.decode(job.source, device=device)
        known = {name: image.info[name] for name in _METADATA if name in image.info}
        if form == "PNG":
            known["pnginfo"] = _png_text(image.info.get("text", {}))
        with files.atomic(job.target) as file:
            try:
                image.save(file, form, **options, **known)
            # What Pillow's writers raise for metadata or sizes that their format cannot hold.
            except (ValueError, RuntimeError, SyntaxError, struct.error) as error:
                raise InputError(f"cannot be written as {form}: {error}") from error
        return f"{job.target}: {image.width}x{image.height} {image.mode}, {form}"

    lines, failures = batch.run(jobs, work, lambda job: job.source, label="decode", quiet=quiet)
    if not quiet:
        for line in lines:
            click.echo(line)
    if failures:
        raise click.exceptions.Exit(1)


def _png_text(text: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    """What of text a PNG file can hold: its keys are of 1 to 79 letters of Latin-1."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        if 1 <= len(key) <= 79 and key.isprintable() and max(map(ord, key)) < 256:
            info.add_text(key, value)
    return info


def _check_suffix(suffix: str) -> None:
    if suffix.lower() not in _FORMATS:
        raise click.UsageError(
            f"{suffix or 'a name without a suffix'} is no format to decode to; "
            f"choose from {' '.join(_FORMATS)}"
        )


def _check_depth(header: Header, form: str) -> None:
    holders = _HOLDERS.get(header.mode)
    if holders is not None and form not in holders:
        kind = "signed samples" if header.signed else f"{header.bits} bits per sample"
        better = ".tif" if header.signed else ".png or .tif"
        raise InputError(f"has {kind}, which {form} cannot hold; decode it to {better}")
