"""`mvmic compare`: BD-rate tables from the rows that `mvmic eval` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mvmic_codec.cli import batch, files
from mvmic_codec.errors import InputError


@click.command("compare")
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--peers-dir",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of further CSV tables, such as those of BPG and VVC; may be given several times.",
)
@click.option("--test", default="mvm", show_default=True, help="Codec to compare the others with.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file.")
@click.option("--json", "as_json", is_flag=True, help="JSON in place of Markdown.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
def command(
    tables: tuple[Path, ...],
    folders: tuple[Path, ...],
    test: str,
    output: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Compare codecs by BD-rate and BD-PSNR over the rows of CSV TABLES, and print Markdown."""
    from mvmic_codec.evaluation import require
    from mvmic_codec.evaluation.report import markdown, objects
    from mvmic_codec.evaluation.rows import read_rows

    try:
        require("bjontegaard")
        if output is not None and output.exists() and not force:
            raise InputError(f"{output} exists; use --force to overwrite it")
        paths = [*tables]
        for folder in folders:
            found = sorted(folder.glob("*.csv"))
            if not found:
                raise InputError(f"{folder} holds no CSV tables")
            paths += found
        rows = [row for path in paths for row in read_rows(path)]
        text = json.dumps(objects(rows, test), indent=1) + "\n" if as_json else markdown(rows, test)
        if output is None:
            click.echo(text, nl=False)
        else:
            files.write(output, text.encode())
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
