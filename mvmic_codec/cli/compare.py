"""`mvmic compare`: BD-rate tables from the rows that `mvmic eval` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mvmic_codec.cli import batch, files, tables
from mvmic_codec.errors import InputError


@click.command("compare")
@tables.arguments
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file.")
@click.option("--json", "as_json", is_flag=True, help="JSON in place of Markdown.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
def command(
    paths: tuple[Path, ...],
    folders: tuple[Path, ...],
    test: str,
    output: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Compare codecs by BD-rate and BD-PSNR over the rows of CSV TABLES, and print Markdown."""
    from mvmic_codec.evaluation import require
    from mvmic_codec.evaluation.report import markdown, objects

    try:
        require("bjontegaard")
        if output is not None and output.exists() and not force:
            raise InputError(f"{output} exists; use --force to overwrite it")
        rows = tables.read(paths, folders)
        text = json.dumps(objects(rows, test), indent=1) + "\n" if as_json else markdown(rows, test)
        if output is None:
            batch.say(text.rstrip("\n"))
        else:
            files.write(output, text.encode())
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
