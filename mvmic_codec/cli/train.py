"""`mvmic train`: train a model from a configuration file."""

from __future__ import annotations

from pathlib import Path

import click

from mvmic_codec.cli import batch
from mvmic_codec.errors import InputError


@click.command("train")
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path),
    help="JSON file.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for checkpoints and logs.  [default: runs/NAME, by the name of the configuration]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in that folder.")
def command(config_path: Path, out: Path | None, resume: bool) -> None:
    """Train a model. A run may be killed at any time and goes on with --resume."""
    out = out or Path("runs") / config_path.stem
    try:
        if not config_path.is_file():
            raise InputError(f"{config_path} is not a file")
        started = out.is_dir() and any(out.iterdir())
        if started and not resume:
            raise InputError(f"{out} holds a run already; use --resume to go on with it")
        if resume and not started:
            raise InputError(f"{out} holds no run to go on with")
        from mvmic_codec.evaluation import require

        require("bjontegaard", extra="train")
        from mvmic_codec.training.loop import read_config, train

        try:
            config = read_config(config_path)
        except (TypeError, ValueError) as error:
            raise InputError(f"{config_path} is no configuration: {error}") from error
        train(config, out)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
