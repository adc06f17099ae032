"""`mvmic report`: a page of curves, tables and pictures from the rows that `mvmic eval` wrote."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvmic_codec.cli import batch, files, tables
from mvmic_codec.errors import InputError

if TYPE_CHECKING:
    from mvmic_codec.evaluation.rows import Row
    from mvmic_codec.evaluation.views import View


@click.command("report")
@click.argument("output", type=click.Path(path_type=Path, readable=False), metavar="OUT")
@tables.arguments
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="Image to show as coded by mvm and by another codec; may be given several times.",
)
@click.option(
    "--against",
    metavar="CODEC",
    help="Codec to show images beside mvm: avif, jpeg2000, jpeg or webp.  [default: AVIF where "
    "this Pillow writes it, else JPEG 2000, else JPEG]",
)
@click.option("--force", is_flag=True, help="Write into OUT although it has files.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    output: Path,
    paths: tuple[Path, ...],
    folders: tuple[Path, ...],
    test: str,
    images: tuple[Path, ...],
    against: str | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write a report on the rows of CSV TABLES into the folder OUT.

    OUT/index.html is one page that needs nothing else: curves, BD-rates, speed, and the images
    given, each by mvm and by another codec in files no larger. OUT/SET.png and .svg are plots for
    papers. Codecs with a part of a set's images are plotted on these, in SET-N-images.png.
    """
    from mvmic_codec.evaluation import pictures, require
    from mvmic_codec.evaluation.page import page
    from mvmic_codec.evaluation.plots import plot
    from mvmic_codec.evaluation.views import views

    try:
        require("bjontegaard", "matplotlib")
        _check_output(output, force)
        rows = tables.read(paths, folders)
        _check_rows(rows, test)
        beside = against or pictures.default_against()
        pictures.check_against(beside)
        sources = [pictures.read_source(path) for path in images]
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    shown, failures = batch.run(
        sources,
        lambda source: pictures.compare(source, beside),
        lambda source: source.path,
        label="report",
        quiet=quiet,
    )
    if failures:
        raise click.exceptions.Exit(1)
    try:
        found = {"index.html": page(rows, test, _maker(), shown).encode()}
        for view in views(rows, test):
            name = _file_name(view, found)
            for suffix, data in plot(view, test).items():
                found[name + suffix] = data
        for name, data in found.items():
            files.write(output / name, data)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error


def _check_output(output: Path, force: bool) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is not a folder")
    if output.exists() and not force and any(output.iterdir()):
        raise InputError(f"{output} is not empty; use --force to write into it")


def _check_rows(rows: list[Row], test: str) -> None:
    if not rows:
        raise InputError("the tables hold no rows")
    if not any(row.codec == test for row in rows):
        raise InputError(f"the tables hold no rows of {test}")


def _maker() -> str:
    from mvmic_codec import __version__
    from mvmic_codec.model.identity import model_identity

    models = [model_identity(gray) for gray in (True, False)]
    named = " and ".join(f"{name} ({fingerprint.hex()})" for name, fingerprint in models)
    return f"mvmic_codec {__version__}, models {named}"


def _file_name(view: View, taken: Collection[str]) -> str:
    """A file name without suffix for a view's plots: whatever a set is called, a plain name."""
    stem = re.sub(r"[^\w.-]", "_", view.set)[:100].lstrip(".") or "set"
    names = [stem, f"{stem}-{view.images}-images"]
    names += [f"{names[1]}-{k}" for k in range(2, len(taken) + 3)]
    return next(name for name in names if f"{name}.png" not in taken)
