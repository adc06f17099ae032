"""`mvmic eval`: rate and distortion of codecs on folders of images, as a CSV table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvmic_codec.cli import batch, files

if TYPE_CHECKING:
    from mvmic_codec.evaluation.peers import Codec
    from mvmic_codec.evaluation.rows import Row

# Quality 1, 2, ... 8.
_DEFAULT_INDICES = tuple(range(0, 64, 9))


@click.command("eval")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--codec",
    "names",
    multiple=True,
    default=("mvm",),
    show_default=True,
    type=click.Choice(("mvm", "jpeg", "jpeg2000", "webp", "avif")),
    help="Codec to measure; may be given several times.",
)
@click.option(
    "--rate-index",
    "indices",
    multiple=True,
    default=_DEFAULT_INDICES,
    type=click.IntRange(0, 63),
    help="Rate index for mvm; may be given several times.  [default: 0, 9, ... 63]",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="[FOLDER=]N",
    help="Only the first N images by name, of every folder or of the one named.",
)
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write the rows here.")
@click.option("--resume", is_flag=True, help="Go on with the rows that the CSV file has.")
@click.option("--force", is_flag=True, help="Overwrite the CSV file.")
@click.option("--device", help="Where to run the model, such as cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    folders: tuple[Path, ...],
    names: tuple[str, ...],
    indices: tuple[int, ...],
    limits: tuple[str, ...],
    table: Path | None,
    resume: bool,
    force: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure codecs on the images that lie directly in FOLDERS.

    Each folder is one set and gives it its name. There is one row for each image, codec and
    setting: size of the whole file, PSNR, MS-SSIM, largest error, seconds. Gray images of more
    than 8 bits are compared in a rendering to 8 bits (set NAME_8bit).
    """
    from mvmic_codec.evaluation import evaluate, images, peers, require, rows

    if resume and table is None:
        raise click.UsageError("--resume needs --csv")
    per_folder = _limits(limits)
    try:
        require("torchmetrics", "bjontegaard")
        measured = _earlier_rows(table, resume, force)
        codecs = [
            peers.mvm(sorted(set(indices)), device) if name == "mvm" else peers.peer(name)
            for name in dict.fromkeys(names)
        ]
        done = {(row.set, row.image, row.codec) for row in measured}
        jobs = [
            (path, codec)
            for codec in codecs
            for folder in folders
            for path in images.files_of(
                folder, per_folder.get(folder.resolve().name, per_folder.get(""))
            )
            if not any((name, path.name, codec.name) in done for name in evaluate.sets_of(path))
        ]
        for codec in codecs:
            if any(codec is waiting for _, waiting in jobs):
                evaluate.warm_up(codec)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error

    def work(job: tuple[Path, Codec]) -> None:
        measured.extend(evaluate.evaluate(*job))
        if table is not None:
            files.write(table, rows.format_rows(measured).encode())

    _, failures = batch.run(jobs, work, lambda job: job[0], label="eval", quiet=quiet)
    if as_json:
        # JSON has no infinity: the PSNR of an exact copy is null.
        objects = [
            asdict(row) | {"psnr": row.psnr if isfinite(row.psnr) else None} for row in measured
        ]
        click.echo(json.dumps(objects, indent=1))
    elif not quiet:
        click.echo(_summary(measured), nl=False)
    if failures:
        raise click.exceptions.Exit(1)


def _limits(texts: Sequence[str]) -> dict[str, int]:
    limits = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or int(number) == 0:
            raise click.UsageError(f"--limit takes [FOLDER=]N with N of at least 1, got {text!r}")
        limits[name] = int(number)
    return limits


def _earlier_rows(table: Path | None, resume: bool, force: bool) -> list[Row]:
    from mvmic_codec.errors import InputError
    from mvmic_codec.evaluation.rows import read_rows

    if table is None or not table.exists():
        return []
    if resume:
        return read_rows(table)
    if not force:
        raise InputError(f"{table} exists; use --resume to go on with it or --force to replace it")
    return []


def _summary(rows: Sequence[Row]) -> str:
    """Means over the images of each set, codec and setting, as aligned text."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.set, row.codec, row.setting.partition("/")[0]].append(row)
    lines = [f"{'set':16} {'codec':9} {'setting':>7} {'images':>6} {'bpp':>8} {'PSNR':>7} MS-SSIM"]
    for (name, codec, setting), group in groups.items():
        bpp = sum(row.bpp for row in group) / len(group)
        psnr = sum(row.psnr for row in group) / len(group)
        known = [row.ms_ssim for row in group if row.ms_ssim is not None]
        ms_ssim = f"{sum(known) / len(known):7.4f}" if known else "      -"
        lines.append(
            f"{name:16} {codec:9} {setting:>7} {len(group):6} {bpp:8.4f} {psnr:7.3f} {ms_ssim}"
        )
    return "\n".join(lines) + "\n"
