"""`mvmic train`: train a model from a configuration file, or an encoder for a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mvmic_codec.cli import batch
from mvmic_codec.cli.tasks.data import masks_of
from mvmic_codec.errors import InputError


@click.command("train")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="JSON file. Needed unless --encoder is given.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for checkpoints and logs.  [default: runs/NAME, by the name of the configuration]",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="How many, such as 20 for a trial.  [default: as the configuration says, or 1000 for an "
    "encoder]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in that folder.")
@click.option(
    "--task",
    "images",
    type=click.Path(path_type=Path),
    help="Folder of images with masks: R + lambda1 D + lambda2 L_task is trained.",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="Folder of their masks.  [default: FOLDER_mask, for camvid FOLDER_label, beside FOLDER]",
)
@click.option(
    "--layout",
    type=click.Choice(["folders", "camvid"]),
    help="folders: masks of one class; camvid: labels 0 to 11.  [default: folders]",
)
@click.option(
    "--lambda2", type=click.FloatRange(0), help="What the task's loss weighs, 0 for nothing."
)
@click.option(
    "--encoder",
    is_flag=True,
    help="Train only an encoder, through the released decoder and the head of --head.",
)
@click.option(
    "--head",
    type=click.Path(path_type=Path),
    help="For --encoder: a head's file, on s16, or polyp for the one that ships.",
)
def command(
    config_path: Path | None,
    out: Path | None,
    steps: int | None,
    resume: bool,
    images: Path | None,
    masks: Path | None,
    layout: str | None,
    lambda2: float | None,
    encoder: bool,
    head: Path | None,
) -> None:
    """Train a model, or an encoder for a task. A run that was stopped goes on with --resume.

    With a task a head learns beside the new model. With --encoder the released decoder and a
    trained head stay as they are, and mvmic encode --encoder takes the result.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.
    """
    if config_path is None and not encoder:
        raise click.UsageError("Missing option '--config'.")
    for name, value in (("--masks", masks), ("--layout", layout)):
        if value is not None and images is None:
            raise click.UsageError(f"{name} goes with --task alone")
    try:
        if images is not None:
            masks = masks_of(images, masks, "label" if layout == "camvid" else "mask")
    except InputError as error:
        raise batch.stop(error) from error
    task = {"data": images, "masks": masks, "layout": layout, "lambda2": lambda2, "head": head}
    given: dict[str, Any] = {
        "task": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in task.items()
            if value is not None
        }
    }
    if encoder:
        given["encoder"] = True
    if steps is not None:
        given["steps"] = steps
    out = out or Path("runs") / ("encoder" if config_path is None else config_path.stem)
    try:
        if config_path is not None and not config_path.is_file():
            raise InputError(f"{config_path} is not a file")
        started = out.is_dir() and any(out.iterdir())
        if started and not resume:
            raise InputError(f"{out} holds a run already; use --resume to go on with it")
        if resume and not started:
            raise InputError(f"{out} holds no run to go on with")
        _run(config_path, given, out)
    except KeyboardInterrupt:
        if not (out / "checkpoint.pt").exists():
            raise
        batch.note("interrupted; go on with --resume")
        raise click.exceptions.Exit(130) from None
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error


def _run(config_path: Path | None, given: dict[str, Any], out: Path) -> None:
    """Train, or go on. Errors as those of the loops."""
    from mvmic_codec.evaluation import require
    from mvmic_codec.training.loop import read_config, train

    try:
        config = read_config(config_path, **given)
    except (TypeError, ValueError) as error:
        if config_path is None:
            raise InputError(str(error)) from error
        raise InputError(f"{config_path} is no configuration: {error}") from error
    if not config.encoder:
        # Models are validated with by BD-rates.
        require("bjontegaard", extra="train")
    if config.task is None:
        train(config, out)
        return
    require("torchvision", "torchmetrics", "pycocotools", extra="tasks")
    if config.encoder:
        from mvmic_codec.tasks.tune import tune

        click.echo(tune(config, out))
        return
    from mvmic_codec.tasks.joint import new_task

    train(config, out, new_task(config))
