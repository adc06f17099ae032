"""`mvmic eval`: rate and distortion of codecs on folders of images, as a CSV table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvmic_codec.cli import batch, files
from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation.codec import LEARNED, MVM, PEERS

if TYPE_CHECKING:
    from mvmic_codec.evaluation.codec import Codec
    from mvmic_codec.evaluation.rows import Row

# Quality 1, 2, ... 8.
_DEFAULT_INDICES = tuple(range(0, 64, 9))

_OTHERS = (*PEERS, *LEARNED)

Job = tuple[Path, str]  # an image, the name of a codec


def _names(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    names = None if text is None else tuple(name.strip() for name in text.split(","))
    for name in names or ():
        if name not in _OTHERS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(_OTHERS)}.")
    return names


@click.command("eval")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option(
    "--codec",
    "names",
    multiple=True,
    type=click.Choice(("mvm", *_OTHERS)),
    help="Codec to measure; may be given several times.  [default: mvm]",
)
@click.option(
    "--against",
    metavar="CODEC[,CODEC...]",
    callback=_names,
    help="Measure mvm and these codecs, and print BD-rates of mvm against each; not with --codec.",
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
    "--effort",
    default=1,
    show_default=True,
    type=click.IntRange(1, 3),
    help="Effort of mvm's encoder; 2 and 3 make rows of codec mvm-effort2 and mvm-effort3.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="[FOLDER=]N",
    help="Only the first N images by name, of every folder or of the one named.",
)
@click.option(
    "--learned",
    "weights",
    type=click.Path(path_type=Path, readable=False),
    help=f"Folder with weights of {', '.join(LEARNED)}.",
)
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write the rows here.")
@click.option("--resume", is_flag=True, help="Go on with the rows that the CSV file has.")
@click.option("--force", is_flag=True, help="Overwrite the CSV file.")
@click.option("--device", help="Where to run the model, such as cpu or cuda.")
@click.option(
    "--jobs",
    "processes",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Images to measure beside each other, each in a process. With more than one, rows have "
    "no seconds.",
)
@click.option(
    "--memory", is_flag=True, help="Code everything once more to see what memory it takes (Linux)."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the rows as JSON, in place of any table."
)
@click.option("--quiet", is_flag=True, help="No progress bar and no tables.")
def command(
    folders: tuple[Path, ...],
    names: tuple[str, ...],
    against: tuple[str, ...] | None,
    indices: tuple[int, ...],
    effort: int,
    limits: tuple[str, ...],
    weights: Path | None,
    table: Path | None,
    resume: bool,
    force: bool,
    device: str | None,
    processes: int,
    memory: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure codecs on the images that lie directly in FOLDERS.

    Each folder is one set and gives it its name. There is one row for each image, codec and
    setting: size of the whole file, PSNR, PSNR of luma, MS-SSIM, largest error, seconds, and peak
    memory if asked for. Gray images of more than 8 bits are compared in a rendering to 8 bits (set
    NAME_8bit).

    heic and jxl need the packages of the extra "peers", bpg and vvc programs on the PATH.
    bmshj2018-hyperprior, mbt2018-mean and cheng2020-anchor need those of the extra "learned" and
    weights.
    """
    from mvmic_codec.evaluation import evaluate, images, peers, require, rows
    from mvmic_codec.evaluation.report import comparison_table

    if names and against is not None:
        raise click.UsageError("--against measures mvm and the codecs it names; leave out --codec")
    names = ("mvm", *against) if against is not None else names or ("mvm",)
    names = tuple(MVM[effort] if name == "mvm" else name for name in names)
    indices = tuple(sorted(set(indices)))
    if resume and table is None:
        raise click.UsageError("--resume needs --csv")
    per_folder = _limits(limits)
    sets = [folder.resolve().name for folder in folders]
    for name in sets:
        if sets.count(name) > 1:
            raise click.UsageError(f"two folders are named {name}: they would be one set")
    for name in per_folder:
        if name and name not in sets:
            raise click.UsageError(f"--limit {name}=...: no folder of that name is given")
    try:
        require("torchmetrics", "bjontegaard")
        measured = _earlier_rows(table, resume, force)
        if MVM[effort] in names:
            _check_indices(measured, MVM[effort], indices)
        codecs = {name: peers.codec(name, indices, device, weights) for name in names}
        done = {(row.set, row.image, row.codec) for row in measured}
        jobs = [
            (path, codec)
            for codec in codecs
            for folder in folders
            for path in images.files_of(
                folder, per_folder.get(folder.resolve().name, per_folder.get(""))
            )
            if not any((name, path.name, codec) in done for name in evaluate.sets_of(path))
        ]
        # Whatever keeps a codec from working is said once here, not for each image.
        for name in dict.fromkeys(name for _, name in jobs):
            evaluate.warm_up(codecs[name])
    except batch.KNOWN_ERRORS as error:
        raise batch.stop(error) from error

    with _measure(jobs, codecs, processes, indices, device, weights, memory) as rows_of:

        def work(job: Job) -> None:
            measured.extend(rows_of(job))
            if table is not None:
                files.write(table, rows.format_rows(measured).encode())

        try:
            _, failures = batch.run(jobs, work, lambda job: job[0], label="eval", quiet=quiet)
        except BrokenProcessPool:
            ended = MvmError("a process ended while it measured, perhaps for want of memory")
            raise batch.stop(ended) from None
    if as_json:
        # JSON has no infinity: the PSNR of an exact copy is null.
        objects = [
            {
                name: None if isinstance(value, float) and not isfinite(value) else value
                for name, value in asdict(row).items()
            }
            for row in measured
        ]
        batch.say(json.dumps(objects, indent=1))
    elif not quiet:
        batch.say(_summary(measured).rstrip("\n"))
        if against is not None and any(row.codec == MVM[effort] for row in measured):
            try:
                batch.say("\n" + comparison_table(measured, MVM[effort]).rstrip("\n"))
            except InputError as error:
                raise batch.stop(error) from error
    if failures:
        raise click.exceptions.Exit(1)


@contextmanager
def _measure(
    jobs: Sequence[Job],
    codecs: dict[str, Codec],
    processes: int,
    indices: Sequence[int],
    device: str | None,
    weights: Path | None,
    memory: bool,
) -> Iterator[Callable[[Job], list[Row]]]:
    """A function that gives the rows of a job: measured here, or by one of several processes."""
    from mvmic_codec.evaluation import evaluate, workers

    if processes == 1:
        yield lambda job: evaluate.evaluate(job[0], codecs[job[1]], memory)
    else:
        with workers.started(processes, jobs, indices, device, weights, memory) as futures:
            yield lambda job: futures[job].result()


def _limits(texts: Sequence[str]) -> dict[str, int]:
    limits = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or int(number) == 0:
            raise click.UsageError(f"--limit takes [FOLDER=]N with N of at least 1, got {text!r}")
        limits[name] = int(number)
    return limits


def _earlier_rows(table: Path | None, resume: bool, force: bool) -> list[Row]:
    from mvmic_codec.evaluation.rows import read_rows

    if table is None:
        return []
    files.check_folder(table)
    if not table.exists():
        return []
    if resume:
        return read_rows(table)
    if not force:
        raise InputError(f"{table} exists; use --resume to go on with it or --force to replace it")
    return []


def _check_indices(measured: Sequence[Row], name: str, indices: Sequence[int]) -> None:
    """InputError if mvm has been measured at other rate indices: images would not go together."""
    earlier = {row.setting for row in measured if row.codec == name}
    if earlier and earlier != {str(index) for index in indices}:
        there = ", ".join(sorted(earlier))
        raise InputError(
            f"the table holds {name} at rate indices {there}; resume with the same, or write "
            "another table"
        )


def _summary(rows: Sequence[Row]) -> str:
    """Means over the images of each set, codec and setting, as aligned text."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.set, row.codec, row.setting.partition("/")[0]].append(row)
    lines = [
        f"{'set':16} {'codec':11} {'setting':>7} {'images':>6} {'bpp':>8} {'PSNR':>7} {'luma':>7} "
        "MS-SSIM"
    ]
    for (name, codec, setting), group in groups.items():
        bpp = sum(row.bpp for row in group) / len(group)
        psnr = sum(row.psnr for row in group) / len(group)
        luma = _mean([row.psnr_y for row in group], 3)
        ms_ssim = _mean([row.ms_ssim for row in group], 4)
        lines.append(
            f"{name:16} {codec:11} {setting:>7} {len(group):6} {bpp:8.4f} {psnr:7.3f} {luma:>7} "
            f"{ms_ssim:>7}"
        )
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float | None], decimals: int) -> str:
    """Mean of what is known, as text."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.{decimals}f}" if known else "-"
