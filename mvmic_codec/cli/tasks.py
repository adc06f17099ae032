"""`mvmic tasks`: experiments with vision tasks on features from files."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvmic_codec.cli import batch, files
from mvmic_codec.errors import MvmError
from mvmic_codec.evaluation.codec import LEARNED

if TYPE_CHECKING:
    from mvmic_codec.evaluation.codec import Codec
    from mvmic_codec.tasks.layouts import Item

# The paper's peers and newer ones. Those that are not installed are left out.
_PEERS = ("jpeg", "jpeg2000", "avif", "heic", "bpg", "vvc")
_EXTRA = ("torchvision", "torchmetrics", "pycocotools")


@click.group("tasks")
def command() -> None:
    """Train networks on features of .mvm files, and make the paper's tables."""


@command.group("train")
def train() -> None:
    """Train a head on files of a data set. The codec stays as it is."""


def _data(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --data, --masks and --layout."""
    for add in (
        click.option(
            "--layout",
            type=click.Choice(["folders", "colondb"]),
            default="folders",
            show_default=True,
            help="folders: images and masks of equal names; colondb: --data is CVC-ColonDB or "
            "CVC-ClinicDB.",
        ),
        click.option(
            "--masks",
            type=click.Path(path_type=Path),
            help="Folder of masks.  [default: FOLDER_mask, beside FOLDER]",
        ),
        click.option(
            "--data",
            "folder",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder of images.",
        ),
    ):
        command = add(command)
    return command


def _items(folder: Path, masks: Path | None, layout: str) -> list[Item]:
    """The images of a data set. Errors as those of `layouts`."""
    from mvmic_codec.evaluation import require

    require(*_EXTRA, extra="tasks")
    from mvmic_codec.tasks import layouts

    if layout == "colondb":
        if masks is not None:
            raise click.UsageError("--masks goes with --layout folders alone")
        return layouts.cvc_colondb(folder).items
    if masks is None:
        masks = folder.with_name(f"{folder.resolve().name}_mask")
    return layouts.folder_of_masks(folder, masks).items


@train.command("polyp")
@_data
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for all that is made."
)
@click.option(
    "--network",
    "network",
    type=click.Choice(["segmentation", "faster-rcnn", "mask-rcnn"]),
    default="segmentation",
    show_default=True,
    help="What is trained. The R-CNNs find boxes of connected parts of masks; Mask R-CNN outlines "
    "them too.",
)
@click.option(
    "--input",
    "kind",
    type=click.Choice(["features", "pixels"]),
    default="features",
    show_default=True,
    help="What the head sees: features, or pixels of the same files and of the originals.",
)
@click.option(
    "--map",
    "maps",
    multiple=True,
    help="Feature map for segmentation, s16, s8 or coefficients; may be given several times.  "
    "[default: s16]",
)
@click.option(
    "--stem",
    type=click.Choice(["light", "deep"]),
    help="For pixels: cheap like a head on features, or as costly as that and decoding to its "
    "maps.  [default: light]",
)
@click.option(
    "--rates",
    nargs=2,
    type=click.IntRange(0, 63),
    default=(6, 63),
    show_default=True,
    help="Lowest and highest rate index of the files.",
)
@click.option(
    "--copies",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="Rate indices for each image.",
)
@click.option(
    "--archive",
    type=click.Path(path_type=Path),
    help="Folder of .mvm files of all images, used as it is.  [default: OUT/archive, is written]",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder for decoded maps and pixels, large.  [default: OUT/cache]",
)
@click.option("--steps", default=4000, show_default=True, type=click.IntRange(1))
@click.option(
    "--seconds",
    default=inf,
    type=click.FloatRange(0, min_open=True),
    help="End sooner, after so many seconds of CPU time (wall time on a GPU).",
)
@click.option("--learning-rate", default=2e-3, show_default=True, type=click.FloatRange(0))
@click.option(
    "--crop",
    type=int,
    help="Side of crops, a multiple of 64.  [default: 448; whole images for an R-CNN]",
)
@click.option(
    "--width",
    type=click.IntRange(3),
    help="Of the trunk, for segmentation.  [default: 96]",
)
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    default=(0,),
    show_default=True,
    type=click.IntRange(0),
    help="One head for each; may be given several times.",
)
@click.option(
    "--licence", default="not stated", show_default=True, help="For the card: that of the data."
)
@click.option("--device", help="Where to run all networks, such as cpu or cuda.")
def train_polyp(
    folder: Path,
    masks: Path | None,
    layout: str,
    out: Path,
    network: str,
    kind: str,
    maps: tuple[str, ...],
    stem: str | None,
    rates: tuple[int, int],
    copies: int,
    archive: Path | None,
    cache: Path | None,
    steps: int,
    seconds: float,
    learning_rate: float,
    crop: int | None,
    width: int | None,
    seeds: tuple[int, ...],
    licence: str,
    device: str | None,
) -> None:
    """Train heads that segment or detect polyps, on real files at a whole band of rates.

    A part of the images is held out: PolypGen's frames that no released model was trained on, or
    else whole groups of images, up to a tenth. Scores on them stand in the head's card.

    A run that was stopped goes on where it was if the command is given again: the archive from its
    last file, training from its last epoch. Scoring starts anew. A run with --seconds goes on too,
    but its result depends on the speed of the machine.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    if kind == "pixels" and maps:
        raise click.UsageError("--map goes with --input features alone")
    if kind == "features" and stem is not None:
        raise click.UsageError("--stem goes with --input pixels alone")
    segments = network == "segmentation"
    if not segments and (maps or width is not None):
        name = "--map" if maps else "--width"
        raise click.UsageError(f"{name} goes with --network segmentation alone")
    if crop is not None and (crop < 64 or crop % 64):
        raise click.UsageError(f"--crop must be a multiple of 64, got {crop}")
    try:
        items = _items(folder, masks, layout)
        from mvmic_codec.features.maps import checked_names
        from mvmic_codec.model.device import pick_device
        from mvmic_codec.tasks import detection, polyps
        from mvmic_codec.tasks.heads import load_head

        device = pick_device(device)
        data = polyps.halves(items)
        maps = maps or (("s16",) if segments else tuple(detection.CHANNELS))
        settings = polyps.HeadSettings(
            network=_network(network, kind, stem or "light"),
            maps=checked_names(maps) if kind == "features" else (),
            rates=rates,
            steps=steps,
            seconds=seconds,
            learning_rate=learning_rate,
            crop=crop or (448 if segments else None),
            width=(width or 96) if segments else detection.WIDTH,
            data=f"{folder.resolve().name}: {len(data.train)} images, scores on "
            f"{len(data.validation)} others",
            licence=licence,
        )
        if archive is None:
            archive = polyps.archive_of(data, out, rates, copies, device)
        for seed in seeds:
            path = polyps.train_head(
                data, archive, out, settings, seed, device, cache or out / "cache"
            )
            card = load_head(path, "cpu").card
            # Those of parts of the band have commas in their names.
            found = ", ".join(
                f"{name} {score:.3f}" for name, score in card.scores.items() if "," not in name
            )
            batch.say(f"{path}: {found} on {len(data.validation)} images held out")
        batch.say(card.notice)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error


def _network(name: str, kind: str, stem: str) -> str:
    """The name in cards of what --network, --input and --stem choose."""
    if name == "segmentation":
        return "fpn" if kind == "features" else f"pixels-{stem}"
    return name if kind == "features" else f"{name}-pixels-{stem}"


def _scales(context: click.Context, option: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        scales = tuple(round(float(part), 4) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale <= 4 for scale in scales):
        raise click.BadParameter(f"{text!r} is no list of scales above 0, such as 1,0.75,0.5.")
    return tuple(dict.fromkeys(scales))


def _measurement(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that tables 1 and 2 share."""
    for add in (
        click.option("--device", help="Where to run all networks, such as cpu or cuda."),
        click.option(
            "--files",
            "folder_of_files",
            type=click.Path(path_type=Path),
            help="Folder of encoded files. Those that are there stay: delete it when a codec "
            "changes.  [default: beside the CSV file]",
        ),
        click.option(
            "--learned",
            "weights",
            type=click.Path(path_type=Path),
            help=f"Folder with weights of {', '.join(LEARNED)}.",
        ),
        click.option(
            "--band",
            nargs=2,
            type=float,
            default=(0.03, 0.3),
            show_default=True,
            help="Bits per pixel: settings of other codecs outside of it are left out.",
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
            "--codec",
            "names",
            multiple=True,
            type=click.Choice(("mvm", *_PEERS, *LEARNED)),
            help="Codec to measure; may be given several times.  [default: all that are installed]",
        ),
        click.option(
            "--csv", "table", required=True, type=click.Path(path_type=Path), help="Rows."
        ),
        click.option(
            "--heads",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder of heads, of which table1 takes those for segmentation and table2 the "
            "detectors. Those of one kind count as seeds.",
        ),
    ):
        command = add(command)
    return command


@command.command("table1")
@_data
@_measurement
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
    weights: Path | None,
    folder_of_files: Path | None,
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
        items = _items(folder, masks, layout)
        files.check_folder(table)
        from mvmic_codec.tasks import tables
        from mvmic_codec.tasks.table1 import Measurement, TaskRow, summary

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
            failures = measurement.run(_codecs(names, indices, weights, device), scales)
        batch.say(summary(rows, images, measurement.judges))
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    _note(failures)


@command.command("table2")
@_data
@_measurement
def table2(
    folder: Path,
    masks: Path | None,
    layout: str,
    heads: Path,
    table: Path,
    names: tuple[str, ...],
    indices: tuple[int, ...],
    band: tuple[float, float],
    weights: Path | None,
    folder_of_files: Path | None,
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
        items = _items(folder, masks, layout)
        files.check_folder(table)
        from mvmic_codec.tasks import tables
        from mvmic_codec.tasks.table2 import DetectionRow, Measurement, summary

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
            failures = measurement.run(_codecs(names, indices, weights, device))
        batch.say(summary(rows, images.name, measurement.judges))
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    _note(failures)


def _files_of(table: Path) -> Path:
    """The folder of encoded files beside a table."""
    return table.with_name(f"{table.stem}-files")


def _note(failures: list[str]) -> None:
    """Say what failed, and end with exit code 1 if anything did."""
    for failure in failures:
        batch.note(failure)
    if failures:
        raise click.exceptions.Exit(1)


def _codecs(
    names: tuple[str, ...], indices: tuple[int, ...], weights: Path | None, device: str | None
) -> list[Codec]:
    """The codecs of these names, or all that are here. Says which are not."""
    from mvmic_codec.evaluation import peers

    found = []
    wanted = names or ("mvm", *_PEERS, *(LEARNED if weights is not None else ()))
    for name in dict.fromkeys(wanted):
        try:
            found.append(peers.codec(name, sorted(set(indices)), device, weights))
        except MvmError as error:
            if names:
                raise
            batch.note(f"left out {name}: {batch.sentence(error)}")
    return found
