"""`mvmic tasks train`: heads on files of a data set."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import click

from mvmic_codec.cli import batch
from mvmic_codec.cli.tasks import data


def _lowest_first(
    context: click.Context, option: click.Parameter, rates: tuple[int, int]
) -> tuple[int, int]:
    if rates[0] > rates[1]:
        raise click.BadParameter(f"the lowest comes first, got {rates[0]} and {rates[1]}.")
    return rates


@click.group("train")
def command() -> None:
    """Train a head on files of a data set. The codec stays as it is."""


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what all heads have in common."""
    for add in (
        click.option("--device", help="Where to run all networks, such as cpu or cuda."),
        click.option(
            "--licence",
            default="not stated",
            show_default=True,
            help="For the card: that of the data.",
        ),
        click.option(
            "--seed",
            "seeds",
            multiple=True,
            default=(0,),
            show_default=True,
            type=click.IntRange(0),
            help="One head for each; may be given several times.",
        ),
        click.option("--learning-rate", default=2e-3, show_default=True, type=click.FloatRange(0)),
        click.option(
            "--seconds",
            default=inf,
            type=click.FloatRange(0, min_open=True),
            help="End sooner, after so many seconds of CPU time (wall time on a GPU).",
        ),
        click.option("--steps", default=4000, show_default=True, type=click.IntRange(1)),
        click.option(
            "--cache",
            type=click.Path(path_type=Path),
            help="Folder for decoded maps and pixels, large.  [default: OUT/cache]",
        ),
        click.option(
            "--archive",
            type=click.Path(path_type=Path),
            help="Folder of .mvm files of all images, used as it is.  [default: OUT/archive, which "
            "is written]",
        ),
        click.option(
            "--encoder",
            type=click.Path(path_type=Path),
            help="Of `mvmic train --encoder`: OUT/archive is written with it.",
        ),
        click.option(
            "--copies",
            type=click.IntRange(1),
            help="Rate indices for each image in OUT/archive.  [default: 4]",
        ),
        click.option(
            "--rates",
            nargs=2,
            type=click.IntRange(0, 63),
            default=(6, 63),
            show_default=True,
            callback=_lowest_first,
            help="Lowest and highest rate index of the files.",
        ),
        click.option(
            "--input",
            "kind",
            type=click.Choice(["features", "pixels"]),
            default="features",
            show_default=True,
            help="What the head sees: features, or pixels of the same files and of the originals.",
        ),
        click.option(
            "--out",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder for all that is made.",
        ),
    ):
        command = add(command)
    return command


@command.command("polyp")
@data.options(*data.POLYPS)
@click.option(
    "--network",
    type=click.Choice(["segmentation", "faster-rcnn", "mask-rcnn"]),
    default="segmentation",
    show_default=True,
    help="What is trained. The R-CNNs find boxes of connected parts of masks; Mask R-CNN outlines "
    "them too.",
)
@_options
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
    "--crop",
    type=int,
    help="Side of crops, a multiple of 64.  [default: 448; whole images for an R-CNN]",
)
@click.option(
    "--width",
    type=click.IntRange(3),
    help="Of the trunk, for segmentation.  [default: 96]",
)
def polyp(
    network: str,
    kind: str,
    maps: tuple[str, ...],
    stem: str | None,
    crop: int | None,
    width: int | None,
    **common: Any,
) -> None:
    """Train heads that segment or detect polyps, on real files at a whole band of rates.

    A part of the images is held out: PolypGen's frames that no released model was trained on, or
    else whole groups of images, up to a tenth. Scores on them stand in the head's card.

    A run that was stopped goes on where it was if the command is given again: the archive from its
    last file, training from its last epoch. Scoring starts anew. A run with --seconds goes on too,
    but its result depends on the speed of the machine. Images that were changed since are encoded
    anew, and heads that are there are of the images before: delete them, or give another --out.

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
    stem = stem or "light"
    if segments:
        name = "fpn" if kind == "features" else f"pixels-{stem}"
        maps, width, crop = maps or ("s16",), width or 96, crop or 448
    else:
        from mvmic_codec.tasks import detection

        name = network if kind == "features" else f"{network}-pixels-{stem}"
        maps, width = tuple(detection.CHANNELS), detection.WIDTH
    _train(
        "polyp segmentation" if segments else "polyp detection",
        name,
        maps if kind == "features" else (),
        width,
        crop,
        **common,
    )


@command.command("street")
@data.options(*data.STREETS)
@_options
@click.option(
    "--map",
    "maps",
    multiple=True,
    help="Feature map, s16, s8 or coefficients; may be given several times.  [default: s8 and s16]",
)
@click.option(
    "--crop", type=int, default=320, show_default=True, help="Side of crops, a multiple of 64."
)
def street(kind: str, maps: tuple[str, ...], crop: int, **common: Any) -> None:
    """Train an ERFNet that tells classes in street scenes apart, on real files.

    Whole sequences or cities of images are held out, up to a tenth or the smallest one. The mean
    IoU over classes and the accuracy there stand in the head's card.

    A run that was stopped goes on where it was if the command is given again.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    if kind == "pixels" and maps:
        raise click.UsageError("--map goes with --input features alone")
    network = "erfnet" if kind == "features" else "erfnet-pixels"
    maps = maps or ("s8", "s16")
    # An ERFNet has but one width.
    _train("street scenes", network, maps if kind == "features" else (), 128, crop, **common)


def _train(
    task: str,
    network: str,
    maps: tuple[str, ...],
    width: int,
    crop: int | None,
    *,
    folder: Path,
    masks: Path | None,
    layout: str,
    out: Path,
    rates: tuple[int, int],
    copies: int | None,
    encoder: Path | None,
    archive: Path | None,
    cache: Path | None,
    steps: int,
    seconds: float,
    learning_rate: float,
    seeds: tuple[int, ...],
    licence: str,
    device: str | None,
) -> None:
    """Train one head for each seed, and say how good they are. The options are `_options`."""
    if crop is not None and (crop < 64 or crop % 64):
        raise click.UsageError(f"--crop must be a multiple of 64, got {crop}")
    if archive is not None and (encoder is not None or copies is not None):
        name = "--copies" if encoder is None else "--encoder"
        raise click.UsageError(f"{name} is for an archive that is written, and --archive is there")
    try:
        found = data.read(folder, masks, layout)
        from mvmic_codec.features.maps import checked_names
        from mvmic_codec.model.device import pick_device
        from mvmic_codec.model.tuned import load_encoder
        from mvmic_codec.tasks import stage2
        from mvmic_codec.tasks.heads import load_head
        from mvmic_codec.tasks.segmentation import HeadConfig

        device = pick_device(device)
        with batch.warnings_noted():
            halves = stage2.halves(found.items)
        held_out = len(halves.validation)
        settings = stage2.HeadSettings(
            task=task,
            classes=data.classes_of(found),
            network=network,
            maps=checked_names(maps) if maps else (),
            rates=rates,
            steps=steps,
            seconds=seconds,
            learning_rate=learning_rate,
            crop=crop,
            width=width,
            data=f"{folder.resolve().name}: {batch.images(len(halves.train))}, scores on "
            f"{held_out} other{'' if held_out == 1 else 's'}",
            licence=licence,
        )
        # They say what is wrong before an archive is written, which may take hours.
        stage2.check_data(halves, settings)
        if network == "fpn":
            HeadConfig(dict.fromkeys(settings.maps, 1))
        if archive is None:
            tuned = None if encoder is None else load_encoder(encoder)
            with batch.warnings_noted():
                archive = stage2.archive_of(halves, out, rates, copies or 4, tuned, device)
        for seed in seeds:
            path = stage2.train_head(
                halves, archive, out, settings, seed, device, cache or out / "cache"
            )
            card = load_head(path, "cpu").card
            # Those of parts of the band have commas in their names.
            scores = ", ".join(
                f"{name} {score:.3f}" for name, score in card.scores.items() if "," not in name
            )
            batch.say(f"{path}: {scores} on {batch.images(held_out)} held out")
        batch.say(card.notice)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
