"""`mvmic tasks table1`, `table2` and `table4`: the paper's tables, each by one command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvmic_codec.cli import batch, files
from mvmic_codec.cli.tasks import data
from mvmic_codec.errors import MvmError
from mvmic_codec.evaluation import require
from mvmic_codec.evaluation.codec import LEARNED

if TYPE_CHECKING:
    from mvmic_codec.evaluation.codec import Codec
    from mvmic_codec.model.tuned import TunedEncoder
    from mvmic_codec.tasks.score_plot import Curve
    from mvmic_codec.tasks.tables import Judge

# The paper's peers and newer ones. Those that are not installed are left out.
_PEERS = ("jpeg", "jpeg2000", "avif", "heic", "bpg", "vvc")


def _scales(context: click.Context, option: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        scales = tuple(round(float(part), 4) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale <= 4 for scale in scales):
        raise click.BadParameter(f"{text!r} is no list of scales above 0, such as 1,0.75,0.5.")
    return tuple(dict.fromkeys(scales))


def _band(
    context: click.Context, option: click.Parameter, band: tuple[float, float]
) -> tuple[float, float]:
    if not band[0] < band[1]:
        raise click.BadParameter(f"the lower end comes first, got {band[0]:g} and {band[1]:g}.")
    return band


def _figure(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.BadParameter(f"{files.shown(path)} must end in .png, .svg or .pdf.")
    if path is not None:
        require("matplotlib", extra="tasks")
        # Before hours of measuring.
        files.check_folder(path)
    return path


def _draw(figure: Path | None, curves: list[Curve], score: str, name: str) -> None:
    """Write a plot, if one is asked for."""
    if figure is None:
        return
    from mvmic_codec.tasks.score_plot import draw_scores

    files.write(figure, draw_scores(curves, score, name, figure.suffix[1:].lower()))


def _measurement(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that all tables share."""
    for add in (
        click.option("--device", help="Where to run all networks, such as cpu or cuda."),
        click.option(
            "--plot",
            "figure",
            type=click.Path(path_type=Path),
            callback=_figure,
            help="Draw scores against bits per pixel, to a .png, .svg or .pdf file.",
        ),
        click.option(
            "--files",
            "folder_of_files",
            type=click.Path(path_type=Path),
            help="Folder of encoded files. Those that are there stay: delete it when a codec "
            "changes.  [default: beside the CSV file]",
        ),
        click.option(
            "--rate-index",
            "indices",
            multiple=True,
            default=(9, 18, 27, 36, 63),
            show_default=True,
            type=click.IntRange(0, 63),
            help="Of mvm; may be given several times. 63 is nearly lossless, the ceiling of "
            "features.",
        ),
        click.option(
            "--csv", "table", required=True, type=click.Path(path_type=Path), help="Rows."
        ),
        click.option(
            "--heads",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder of heads, of which table2 takes the detectors, and the others those for "
            "segmentation. Those of one kind count as seeds.",
        ),
    ):
        command = add(command)
    return command


def _codecs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which codecs tables 1 and 2 compare."""
    for add in (
        click.option(
            "--learned",
            "weights",
            type=click.Path(path_type=Path),
            help=f"Folder with weights of {', '.join(LEARNED)}.",
        ),
        click.option(
            "--encoder",
            "tuned",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Of `mvmic train --encoder`: mvm with it is one more codec; may be given several "
            "times.",
        ),
        click.option(
            "--task",
            type=click.Path(path_type=Path),
            help="Head that says what errors cost, or polyp for the one that ships: mvm that is "
            "told by it is one more codec. "
            "A head of --heads cannot be it.",
        ),
        click.option(
            "--band",
            nargs=2,
            type=float,
            default=(0.03, 0.3),
            show_default=True,
            callback=_band,
            help="Bits per pixel: settings of other codecs outside of it are left out.",
        ),
        click.option(
            "--codec",
            "names",
            multiple=True,
            type=click.Choice(("mvm", *_PEERS, *LEARNED)),
            help="Codec to measure; may be given several times.  [default: all that are installed]",
        ),
    ):
        command = add(command)
    return command


@click.command("table1")
@data.options(*data.POLYPS)
@_measurement
@_codecs
@click.option(
    "--multiscale",
    "scales",
    default="1",
    show_default=True,
    callback=_scales,
    help="Scales, such as 1,0.75,0.5: images are resized before they are encoded, and masks are "
    "compared at the original size.",
)
def table1(
    folder: Path,
    masks: Path | None,
    layout: str,
    heads: Path,
    table: Path,
    names: tuple[str, ...],
    indices: tuple[int, ...],
    band: tuple[float, float],
    task: Path | None,
    tuned: tuple[Path, ...],
    weights: Path | None,
    folder_of_files: Path | None,
    figure: Path | None,
    device: str | None,
    scales: tuple[float, ...],
) -> None:
    """Make table 1: segmentation of polyps from files of mvm and of other codecs.

    Heads on pixels judge the decoded pixels of all codecs, and the originals. Heads on features
    judge files of mvm. Rows that the CSV file has are kept, so the command goes on where it was
    stopped. The summary has means over images with standard errors, and features minus pixels at
    the same files.

    Exit codes: 0 done, 1 something failed (the rest is done), 2 wrong usage, 130 interrupted.
    """
    try:
        items = data.read(folder, masks, layout).items
        files.check_folder(table)
        from mvmic_codec.tasks import tables
        from mvmic_codec.tasks.table1 import Measurement, TaskRow, curves, summary

        rows: list[TaskRow] = []
        if table.exists():
            rows = tables.read_rows(TaskRow, table, "mvmic tasks table1")
        images = tables.image_set(folder.resolve().name, items)
        measurement = Measurement(
            tables.CodedSet(images, folder_of_files or _files_of(table), band),
            tables.load_judges(heads, images.gray, device, detect=False),
            rows,
            device,
            lambda: files.write(table, tables.format_rows(TaskRow, rows).encode()),
        )
        with batch.warnings_noted():
            tables.warn_of_seen(images, {each.name: each.head for each in measurement.judges})
            failures = measurement.run(
                _chosen(names, indices, weights, task, tuned, device, measurement.judges), scales
            )
        batch.say(summary(rows, images, measurement.judges))
        _draw(figure, curves(rows, images, measurement.judges), "mIoU", images.name)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    _note(failures)


@click.command("table2")
@data.options(*data.POLYPS)
@_measurement
@_codecs
def table2(
    folder: Path,
    masks: Path | None,
    layout: str,
    heads: Path,
    table: Path,
    names: tuple[str, ...],
    indices: tuple[int, ...],
    band: tuple[float, float],
    task: Path | None,
    tuned: tuple[Path, ...],
    weights: Path | None,
    folder_of_files: Path | None,
    figure: Path | None,
    device: str | None,
) -> None:
    """Make table 2: detection of polyps in files of mvm and of other codecs.

    Detectors on pixels judge the decoded pixels of all codecs, and the originals. Those on features
    judge files of mvm. There is one row for each setting and head: average precision of boxes, and
    for Mask R-CNN of masks, over all images together. Rows that the CSV file has are kept, so the
    command goes on where it was stopped.

    Exit codes: 0 done, 1 something failed (the rest is done), 2 wrong usage, 130 interrupted.
    """
    try:
        items = data.read(folder, masks, layout).items
        files.check_folder(table)
        from mvmic_codec.tasks import tables
        from mvmic_codec.tasks.table2 import DetectionRow, Measurement, curves, summary

        rows: list[DetectionRow] = []
        if table.exists():
            rows = tables.read_rows(DetectionRow, table, "mvmic tasks table2")
        images = tables.image_set(folder.resolve().name, items)
        measurement = Measurement(
            tables.CodedSet(images, folder_of_files or _files_of(table), band),
            tables.load_judges(heads, images.gray, device, detect=True),
            rows,
            device,
            lambda: files.write(table, tables.format_rows(DetectionRow, rows).encode()),
        )
        with batch.warnings_noted():
            tables.warn_of_seen(images, {each.name: each.head for each in measurement.judges})
            failures = measurement.run(
                _chosen(names, indices, weights, task, tuned, device, measurement.judges)
            )
        batch.say(summary(rows, images.name, measurement.judges))
        _draw(figure, curves(rows, images.name, measurement.judges), "AP of boxes", images.name)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    _note(failures)


@click.command("table4")
@data.options(*data.STREETS, *data.POLYPS)
@_measurement
@click.option(
    "--encoder",
    "tuned",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Of `mvmic train --encoder`; may be given several times, one for each lambda2.",
)
def table4(
    folder: Path,
    masks: Path | None,
    layout: str,
    heads: Path,
    table: Path,
    indices: tuple[int, ...],
    folder_of_files: Path | None,
    figure: Path | None,
    device: str | None,
    tuned: tuple[Path, ...],
) -> None:
    """Make table 4: what encoders that were tuned for a task bring, by lambda2.

    Heads judge files of the released encoder and of each tuned one. A head that an encoder was
    tuned with cannot judge it: train others with other seeds. One encoder of lambda2 0 is the
    control. There is one row for each encoder, rate index and head. Rows that the CSV file has are
    kept, so the command goes on where it was stopped.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    try:
        found = data.read(folder, masks, layout, judge=True)
        files.check_folder(table)
        from mvmic_codec.tasks import tables
        from mvmic_codec.tasks.table4 import EncoderRow, Measurement, curves, encoders, summary

        rows: list[EncoderRow] = []
        if table.exists():
            rows = tables.read_rows(EncoderRow, table, "mvmic tasks table4")
        images = tables.image_set(folder.resolve().name, found.items)
        classes = len(data.classes_of(found))
        judges = tables.load_judges(heads, images.gray, device, detect=False, classes=classes)
        measurement = Measurement(
            # All settings are of this codec, and count.
            tables.CodedSet(images, folder_of_files or _files_of(table), (0.0, inf)),
            judges,
            classes,
            rows,
            device,
            lambda: files.write(table, tables.format_rows(EncoderRow, rows).encode()),
        )
        with batch.warnings_noted():
            tables.warn_of_seen(images, {each.name: each.head for each in judges})
            measurement.run(encoders(_tuned(tuned, judges), sorted(set(indices)), device))
        batch.say(summary(rows, images.name, judges))
        _draw(figure, curves(rows, images.name, judges), "mIoU", images.name)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error


def _files_of(table: Path) -> Path:
    """The folder of encoded files beside a table."""
    return table.with_name(f"{table.stem}-files")


def _note(failures: list[str]) -> None:
    """Say what failed, and end with exit code 1 if anything did."""
    for failure in failures:
        batch.note(failure)
    if failures:
        raise click.exceptions.Exit(1)


def _chosen(
    names: tuple[str, ...],
    indices: tuple[int, ...],
    weights: Path | None,
    task: Path | None,
    tuned: tuple[Path, ...],
    device: str | None,
    judges: Sequence[Judge],
) -> list[Codec]:
    """The codecs of these names, or all that are here, and mvm as it is told. Says what is not.

    Raises InputError if a judge had part in one of them.
    """
    from mvmic_codec.evaluation import peers
    from mvmic_codec.tasks.heads import digest_of, load_head
    from mvmic_codec.tasks.table4 import encoders
    from mvmic_codec.tasks.tables import check_judges

    indices = tuple(sorted(set(indices)))
    found = []
    wanted = names or ("mvm", *_PEERS, *(LEARNED if weights is not None else ()))
    for name in dict.fromkeys(wanted):
        try:
            found.append(peers.codec(name, indices, device, weights))
        except MvmError as error:
            if names:
                raise
            batch.note(f"left out {name}: {batch.sentence(error)}")
    if task is not None:
        head = load_head(task, device)
        # Two heads of one name take neither each other's rows nor files.
        name = f"mvm task {task.stem} {digest_of(head)[:8]}"
        check_judges(judges, {name: digest_of(head)})
        found.append(peers.mvm(indices, device, name=name, task=head))
    # The first is the released encoder.
    found += [each.codec for each in encoders(_tuned(tuned, judges), indices, device)[1:]]
    return found


def _tuned(paths: tuple[Path, ...], judges: Sequence[Judge]) -> list[TunedEncoder]:
    """Encoders. Raises InputError if a judge had part in the tuning of one."""
    from mvmic_codec.model.tuned import load_encoder
    from mvmic_codec.tasks.tables import check_judges

    found = [load_encoder(path) for path in paths]
    # With lambda2 0 the head has no part.
    check_judges(judges, {each.name: each.card.head for each in found if each.card.lambda2})
    return found
