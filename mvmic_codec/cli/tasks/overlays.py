"""`mvmic tasks overlays`: a sheet of the images on which a head does best and worst."""

from __future__ import annotations

import io
from pathlib import Path

import click

from mvmic_codec import rate
from mvmic_codec.cli import batch, files
from mvmic_codec.cli.tasks import data
from mvmic_codec.errors import InputError


@click.command("overlays")
@data.options(*data.POLYPS)
@click.option(
    "--head",
    "head_path",
    required=True,
    type=click.Path(path_type=Path),
    help="For segmentation, on features or on pixels, or polyp for the one that ships.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The sheet, a PNG file."
)
@click.option(
    "--rate-index",
    "index",
    default=rate.index_of(3.0),
    show_default=True,
    type=click.IntRange(0, 63),
    help="Of the files; the default is quality 3.",
)
@click.option(
    "--count",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="How many of the best, and of the worst.",
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
@click.option("--device", help="Where to run all networks, such as cpu or cuda.")
def command(
    folder: Path,
    masks: Path | None,
    layout: str,
    head_path: Path,
    output: Path,
    index: int,
    count: int,
    force: bool,
    device: str | None,
) -> None:
    """Draw what a head finds in files of images, where it does best and where worst.

    Each image is encoded, and the head sees its file. Found is cyan, the truth yellow. The sheet
    shows the best images on the left and the worst on the right, each with its IoU. Not a medical
    device: for research only.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    try:
        if output.suffix.lower() != ".png":
            raise click.UsageError(f"{files.shown(output)} must end in .png")
        outputs = files.Outputs(force=force)
        outputs.check(files.Job(folder, output))
        found = data.read(folder, masks, layout)
        from mvmic_codec.tasks import tables
        from mvmic_codec.tasks.heads import load_head
        from mvmic_codec.tasks.sheet import draw_sheet, scored

        head = load_head(head_path, device)
        if len(head.card.classes) != 1 or head.detects:
            raise InputError(f"{files.shown(head_path)} is no head for segmentation of one class")
        images = tables.image_set(folder.resolve().name, found.items)
        with batch.warnings_noted():
            tables.warn_of_seen(images, {files.shown(head_path): head})
            each = [
                scored(images, item, head, index, device)
                for item in tables.shown(images.items, "overlays")
            ]
        file = io.BytesIO()
        draw_sheet(each, count).save(file, "PNG")
        outputs.write(output, file.getvalue())
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    mean = sum(one.iou for one in each) / len(each)
    batch.say(
        f"{batch.images(len(each))} at rate index {index}: IoU {mean:.3f} on average; drawn to "
        f"{files.shown(output)}\n{head.card.notice}"
    )
