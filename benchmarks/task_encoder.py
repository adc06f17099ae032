"""What an encoder that weighs errors by a head gains for other heads, at equal bits.

    python benchmarks/task_encoder.py IMAGES MASKS --head MAP.safetensors \\
        --judge A.safetensors --judge B.safetensors --csv task_encoder.csv

IMAGES/NAME.* have masks of one class, MASKS/NAME.*. Each image is encoded in three ways at each
rate index:

    plain     as always
    map       with the importance map that the head of --head makes of the plain file
    mirrored  with that map mirrored from left to right: the control. It moves as many bits, to
              places that mean nothing, or no more than the middle of an image does

Heads that had no part in the map judge all files by IoU; train each with a seed of its own. For
each image the curves of score over log bytes are interpolated by straight lines, and their
difference is the mean over the range that all three ways have in common. Prints mean differences
over the images with standard errors, in IoU and in dB of PSNR. A gain is shown if `map - mirrored`
is above its standard error by far, not only `map - plain`.

The table is resumable: images whose rows are all in the CSV are not encoded again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import mvmic_codec
from mvmic_codec.encoder.image_encoder import ImageEncoder
from mvmic_codec.errors import InputError
from mvmic_codec.image.samples import from_input
from mvmic_codec.tasks.archive import write_whole
from mvmic_codec.tasks.heads import Head, digest, load_head
from mvmic_codec.tasks.importance import POWER, check_model, importance_map
from mvmic_codec.tasks.layouts import Item, folder_of_masks
from mvmic_codec.tasks.metrics import overlap, paired_difference

WAYS = ("plain", "map", "mirrored")
DIFFERENCES = (("map", "plain"), ("mirrored", "plain"), ("map", "mirrored"))
# Points of the common range at which curves are compared.
POINTS = 101


@dataclass(frozen=True)
class Row:
    """How well a judge did on one file. `setting` names the head of the map and the power."""

    setting: str
    image: str
    way: str
    index: int
    bytes: int
    psnr: float
    judge: str
    iou: float


TITLES = [field.name for field in fields(Row)]


def name_of(head: Head) -> str:
    """What tells a head from others that are trained alike."""
    return digest(json.dumps(asdict(head.card)), dict(head.network.state_dict()))[:8]


def rows_of(
    item: Item,
    head: Head,
    judges: Mapping[str, Head],
    indices: Sequence[int],
    power: float,
    device: str | None,
) -> list[Row]:
    """All rows of an image. Raises InputError if it cannot be read, or is for other heads."""
    try:
        with Image.open(item.image) as image:
            samples = from_input(image)
    except OSError as error:
        raise InputError(f"{item.image} cannot be encoded: {error}") from error
    truth = item.read().mask
    assert truth is not None
    rows = []
    for index in indices:
        plain = ImageEncoder(samples, {}, device=device)
        check_model(head, plain.fingerprint)
        files = {"plain": plain.file_at(index)}
        importance = importance_map(files["plain"].coded, head, power)
        for way, weights in (("map", importance), ("mirrored", importance[:, ::-1])):
            # A copy: torch takes no arrays that run backwards.
            encoder = ImageEncoder(samples, {}, importance=weights.copy(), device=device)
            files[way] = encoder.file_at(index)
        for way, file in files.items():
            psnr = file.psnr()
            for name, judge in judges.items():
                features = mvmic_codec.decode_features(
                    file.data, judge.feature_maps(), device=device
                )
                (prediction,) = judge.predict(features)
                iou = overlap(torch.from_numpy(prediction.mask), truth).iou
                size, setting = len(file.data), setting_of(head, power)
                rows.append(Row(setting, item.name, way, index, size, psnr, name, iou))
    return rows


def setting_of(head: Head, power: float) -> str:
    return f"{name_of(head)} {power:g}"


def read_rows(path: Path) -> list[Row]:
    """The rows of a table, none if there is no file. A last line that was cut off is left out."""
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1].splitlines()
        first, *lines = csv.reader(whole)
        if first != TITLES:
            raise ValueError("its columns are others")
        kinds = (str, str, str, int, int, float, str, float)
        return [
            Row(*(kind(cell) for kind, cell in zip(kinds, line, strict=True))) for line in lines
        ]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a table of this program: {error}") from error


def as_text(lines: Iterable[Sequence[object]]) -> str:
    """Lines of a table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def at_equal_bits(curves: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, float] | None:
    """The mean score of each way over the range of log bytes that all have in common.

    curves holds (bytes, score) of each file, by way. None if there is no common range.
    """
    logs = {}
    for way, points in curves.items():
        sizes, scores = zip(*sorted(set(points)), strict=True)
        logs[way] = np.log(sizes), np.array(scores, np.float64)
    low = max(sizes[0] for sizes, _ in logs.values())
    high = min(sizes[-1] for sizes, _ in logs.values())
    if low >= high:
        return None
    at = np.linspace(low, high, POINTS)
    return {way: float(np.interp(at, *curve).mean()) for way, curve in logs.items()}


def scores_of(rows: Sequence[Row]) -> dict[str, dict[str, float]] | None:
    """By score and way, the mean over the common range of an image's sizes, None without one."""
    judges = sorted({row.judge for row in rows})

    def mean(of_score: Callable[[Row], float], chosen: Sequence[Row]) -> dict[str, float] | None:
        return at_equal_bits(
            {way: [(r.bytes, of_score(r)) for r in chosen if r.way == way] for way in WAYS}
        )

    psnr = mean(lambda row: row.psnr, rows)
    if psnr is None:
        return None
    scores = {"PSNR in dB": psnr}
    for judge in judges:
        iou = mean(lambda row: row.iou, [row for row in rows if row.judge == judge])
        assert iou is not None
        scores[f"IoU, {judge}"] = iou
    scores["IoU, mean of judges"] = {
        way: float(np.mean([scores[f"IoU, {judge}"][way] for judge in judges])) for way in WAYS
    }
    return scores


def table(rows: Sequence[Row]) -> str:
    """Mean differences with standard errors as Markdown, and how many images have none."""
    images = sorted({row.image for row in rows})
    every = [scores_of([row for row in rows if row.image == image]) for image in images]
    found = [scores for scores in every if scores is not None]
    if len(found) < 2:
        raise InputError("differences need at least 2 images whose sizes overlap; give more")
    titles = [f"{first} - {second}" for first, second in DIFFERENCES]
    lines = [f"| score | {' | '.join(titles)} |", "|---|" + "---|" * len(titles)]
    for score in found[0]:
        cells = []
        for first, second in DIFFERENCES:
            ours, theirs = ([each[score][way] for each in found] for way in (first, second))
            difference = paired_difference(ours, theirs)
            cells.append(f"{difference.mean:+.4f} ({difference.standard_error:.4f})")
        lines.append(f"| {score} | {' | '.join(cells)} |")
    apart = len(images) - len(found)
    left_out = f"; {apart} more have sizes that do not overlap" if apart else ""
    return "\n".join([*lines, "", f"{len(found)} images{left_out}"])


def heads_of(paths: Sequence[Path], device: str | None) -> dict[str, Head]:
    """Heads by name. InputError for one of several classes or on pixels, or one given twice."""
    heads = {}
    for path in paths:
        head = load_head(path, device)
        head.feature_maps()
        if len(head.card.classes) != 1:
            raise InputError(f"{path} has several classes, and masks here have one")
        heads[f"{path.stem} {name_of(head)}"] = head
    if len({name_of(head) for head in heads.values()}) < len(paths):
        raise InputError("a head is given twice: judges must differ from each other and the map's")
    return heads


def measure(
    items: Sequence[Item],
    head: Head,
    judges: Mapping[str, Head],
    indices: Sequence[int],
    power: float,
    path: Path,
    device: str | None,
) -> list[Row]:
    """The rows of all images; those that the table lacks are measured and added to it."""
    rows = read_rows(path)
    if any(row.setting != setting_of(head, power) for row in rows):
        raise InputError(f"{path} is of another head or power: give another --csv, or remove it")
    wanted = {(way, index, judge) for way in WAYS for index in indices for judge in judges}
    by_image: dict[str, list[Row]] = {item.name: [] for item in items}
    for row in rows:
        if row.image in by_image and (row.way, row.index, row.judge) in wanted:
            by_image[row.image].append(row)
    missing = [item for item in items if len(by_image[item.name]) != len(wanted)]
    # Of an image that is measured again, rows of other judges and rates stay.
    again = {item.name for item in missing}
    kept = [
        row
        for row in rows
        if row.image not in again or (row.way, row.index, row.judge) not in wanted
    ]
    write_whole(path, as_text([TITLES, *map(astuple, kept)]).encode())
    for item in tqdm(missing, unit="image", disable=None):
        found = rows_of(item, head, judges, indices, power, device)
        by_image[item.name] = found
        with open(path, "a", encoding="utf-8") as file:
            file.write(as_text(map(astuple, found)))
    return [row for found in by_image.values() for row in found]


@click.command()
@click.argument("images", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("masks", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--head", "of_map", required=True, type=click.Path(path_type=Path))
@click.option("--judge", "of_judges", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--csv", "path", required=True, type=click.Path(path_type=Path))
@click.option("--index", "indices", multiple=True, default=(12, 18, 24), show_default=True)
@click.option("--power", default=POWER, show_default=True, help="See importance_map.")
@click.option("--limit", type=int, help="So many images, the first by name.")
@click.option("--device")
def main(
    images: Path,
    masks: Path,
    of_map: Path,
    of_judges: tuple[Path, ...],
    path: Path,
    indices: tuple[int, ...],
    power: float,
    limit: int | None,
    device: str | None,
) -> None:
    """What an encoder that weighs errors by a head gains for other heads, at equal bits."""
    try:
        head, *judges = heads_of([of_map, *of_judges], device).items()
        items = folder_of_masks(images, masks).items[:limit]
        click.echo(table(measure(items, head[1], dict(judges), indices, power, path, device)))
    except InputError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
