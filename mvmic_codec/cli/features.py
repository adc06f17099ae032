"""`mvmic features`: .mvm files to files of feature maps."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mvmic_codec.cli import batch, files
from mvmic_codec.cli.limits import max_pixels
from mvmic_codec.cli.plan import Naming, plan
from mvmic_codec.errors import InputError

_SUFFIXES = (".safetensors", ".npz")


@click.command("features")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False),
    help="File for one image, or -; else a folder.  [default: beside the input]",
)
@click.option(
    "--to",
    "suffix",
    default=".safetensors",
    show_default=True,
    help="Suffix, .safetensors or .npz, of files whose name -o does not give.",
)
@click.option(
    "--map",
    "maps",
    multiple=True,
    default=("s16",),
    show_default=True,
    help="s16, s8 or coefficients; may be given several times.",
)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@max_pixels
@click.option("--device", help="Where to decode: cpu, or by torch cuda.  [default: cpu]")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    suffix: str,
    maps: tuple[str, ...],
    force: bool,
    device: str | None,
    quiet: bool,
) -> None:
    """Decode task features of .mvm files, or of all below folders, without their pixels.

    Each output holds the maps as float32 arrays, and says what they are; docs/features.md. "-" is
    standard input, and with -o standard output; then the summary goes to standard error. Folders
    keep their tree; files in them that are left out are named on standard error. Files that exist
    are left alone without --force.

    Exit codes: 0 all done, 1 an input failed (the others are done), 2 wrong usage, 130 interrupted.
    """
    if output is not None and Path(output).suffix.lower() in _SUFFIXES:
        _check_one(inputs, output)
    suffix = _checked_suffix(suffix if suffix.startswith(".") else f".{suffix}")
    naming = Naming(".mvm files", {".mvm"}, {".mvm"}, suffix)
    try:
        planned = plan(inputs, output, naming)
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error
    to_stream = any(files.is_stream(job.target) for job in planned.jobs)
    for job in planned.jobs:
        if not to_stream:
            _checked_suffix(job.target.suffix)
    from mvmic_codec.features.maps import checked_names

    try:
        names = checked_names(maps)
    except InputError as error:
        raise click.UsageError(str(error)) from error
    outputs = files.Outputs(force=force)

    def work(job: files.Job) -> str:
        from mvmic_codec import api
        from mvmic_codec.features.files import to_file

        outputs.check(job)
        chosen = suffix if to_stream else job.target.suffix.lower()
        with files.reading(job.source) as file:
            features = api.decode_features(file, names, device=device)
        outputs.write(job.target, to_file(features, chosen))
        shapes = [
            f"{name} {'x'.join(map(str, each.shape))}" for name, each in features.arrays.items()
        ]
        return f"{files.shown(job.target)}: {', '.join(shapes)}"

    lines, failures = batch.run(
        planned.jobs, work, lambda job: job.source, label="features", quiet=quiet
    )
    batch.tell_unplanned(planned)
    if not quiet and lines:
        batch.say("\n".join(lines), err=to_stream)
    if failures or planned.failed:
        raise click.exceptions.Exit(1)


def _check_one(inputs: tuple[str, ...], output: str) -> None:
    """Raise UsageError for an output that is named as a file, and inputs that one cannot hold."""
    named_as_file = not os.path.isdir(output) and not output.endswith((os.sep, os.altsep or os.sep))
    if named_as_file and (len(inputs) > 1 or os.path.isdir(inputs[0])):
        raise click.UsageError(
            f"{files.shown(output)} holds the maps of one image; for many give a folder with -o, "
            f"and --to {Path(output).suffix[1:].lower()}"
        )


def _checked_suffix(suffix: str) -> str:
    if suffix.lower() not in _SUFFIXES:
        raise click.UsageError(
            f"{suffix or 'a name without a suffix'} is no format for features; "
            f"choose from {' '.join(_SUFFIXES)}"
        )
    return suffix.lower()
