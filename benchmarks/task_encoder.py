"""What an encoder that knows a task gains for other heads, at equal bits.

    python benchmarks/task_encoder.py IMAGES MASKS --head MAP.safetensors \\
        --encoder TUNED.tuned.safetensors --untasked OTHER.tuned.safetensors \\
        --judge A.safetensors --judge B.safetensors --csv task_encoder.csv

IMAGES/NAME.* have masks of one class, MASKS/NAME.*. Each image is encoded at each rate index in
several ways:

    plain     as always
    map       with the importance map that the head of --head makes of the plain file
    mirrored  with that map mirrored from left to right: its control. It moves as many bits, to
              places that mean nothing, or no more than the middle of an image does
    tuned     by the encoder of --encoder, which `mvmic train --encoder` made
    untasked  by the encoder of --untasked: its control, tuned as long on the same images with
              lambda2 = 0

--head brings map and mirrored, --encoder and --untasked one way each; at least one is needed.

Heads that had no part in these judge all files by IoU; train each with a seed of its own. For
each image the curves of score over log bytes are interpolated by straight lines, and their
difference is the mean over the range that all ways have in common. Prints mean differences over
the images with standard errors, in IoU and in dB of PSNR. A gain is shown if `map - mirrored`, or
`tuned - untasked`, is above its standard error by far, not only the difference from plain.

The table is resumable: images whose rows are all in the CSV are not encoded again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import mvmic_codec
from mvmic_codec.encoder.image_encoder import EncodedFile, ImageEncoder
from mvmic_codec.errors import InputError, ModelError
from mvmic_codec.image.samples import Samples, from_input
from mvmic_codec.model.tuned import TunedEncoder, load_encoder
from mvmic_codec.tasks.archive import write_whole
from mvmic_codec.tasks.heads import Head, digest_of, load_head
from mvmic_codec.tasks.importance import POWER, check_model, importance_map
from mvmic_codec.tasks.layouts import Item, folder_of_masks
from mvmic_codec.tasks.metrics import overlap, paired_difference

WAYS = ("plain", "map", "mirrored", "tuned", "untasked")
# Those of them are shown whose ways were measured.
DIFFERENCES = (
    ("map", "plain"),
    ("mirrored", "plain"),
    ("map", "mirrored"),
    ("tuned", "plain"),
    ("untasked", "plain"),
    ("tuned", "untasked"),
)
# Points of the common range at which curves are compared.
POINTS = 101


@dataclass(frozen=True)
class Row:
    """How well a judge did on one file. `setting` is that of `Study`."""

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
    return digest_of(head)[:8]


@dataclass(frozen=True)
class Study:
    """In which ways images are encoded.

    head      that makes maps, if any, and their power
    encoders  by way, tuned or untasked
    """

    head: Head | None
    power: float
    encoders: Mapping[str, TunedEncoder]

    @property
    def ways(self) -> list[str]:
        """All ways, in the order of WAYS."""
        mapped = ("map", "mirrored") if self.head is not None else ()
        return [way for way in WAYS if way in ("plain", *mapped, *self.encoders)]

    @property
    def setting(self) -> str:
        """What tells it from other studies."""
        names = [] if self.head is None else [f"{name_of(self.head)} {self.power:g}"]
        for way, each in self.encoders.items():
            names.append(f"{way} {each.digest[:8]}")
        return " ".join(names)

    def files(self, samples: Samples, index: int, device: str | None) -> dict[str, EncodedFile]:
        """The file of each way. Errors as `check_model` and `ImageEncoder`."""
        plain = ImageEncoder([samples], {}, device=device)
        if self.head is not None:
            check_model(self.head, plain.fingerprint)
        files = {"plain": plain.file_at(index)}
        if self.head is not None:
            importance = importance_map(files["plain"].coded, self.head, self.power)
            for way, weights in (("map", importance), ("mirrored", importance[:, ::-1])):
                # A copy: torch takes no arrays that run backwards.
                encoder = ImageEncoder([samples], {}, importance=weights.copy(), device=device)
                files[way] = encoder.file_at(index)
        for way, tuned in self.encoders.items():
            files[way] = ImageEncoder([samples], {}, tuned=tuned, device=device).file_at(index)
        return files


def rows_of(
    item: Item,
    study: Study,
    judges: Mapping[str, Head],
    indices: Sequence[int],
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
        for way, file in study.files(samples, index, device).items():
            psnr = file.psnr()
            for name, judge in judges.items():
                features = mvmic_codec.decode_features(
                    file.data, judge.feature_maps(), device=device
                )
                (prediction,) = judge.predict(features)
                iou = overlap(torch.from_numpy(prediction.mask), truth).iou
                size = len(file.data)
                rows.append(Row(study.setting, item.name, way, index, size, psnr, name, iou))
    return rows


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
    ways = ways_of(rows)

    def mean(of_score: Callable[[Row], float], chosen: Sequence[Row]) -> dict[str, float] | None:
        return at_equal_bits(
            {way: [(r.bytes, of_score(r)) for r in chosen if r.way == way] for way in ways}
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
        way: float(np.mean([scores[f"IoU, {judge}"][way] for judge in judges])) for way in ways
    }
    return scores


def ways_of(rows: Sequence[Row]) -> list[str]:
    """The ways that were measured, in the order of WAYS."""
    found = {row.way for row in rows}
    return [way for way in WAYS if way in found]


def table(rows: Sequence[Row]) -> str:
    """Mean differences with standard errors as Markdown, and how many images have none."""
    images = sorted({row.image for row in rows})
    every = [scores_of([row for row in rows if row.image == image]) for image in images]
    found = [scores for scores in every if scores is not None]
    if len(found) < 2:
        raise InputError("differences need at least 2 images whose sizes overlap; give more")
    ways = ways_of(rows)
    differences = [pair for pair in DIFFERENCES if set(pair) <= set(ways)]
    titles = [f"{first} - {second}" for first, second in differences]
    lines = [f"| score | {' | '.join(titles)} |", "|---|" + "---|" * len(titles)]
    for score in found[0]:
        cells = []
        for first, second in differences:
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
    study: Study,
    judges: Mapping[str, Head],
    indices: Sequence[int],
    path: Path,
    device: str | None,
) -> list[Row]:
    """The rows of all images; those that the table lacks are measured and added to it."""
    rows = read_rows(path)
    if any(row.setting != study.setting for row in rows):
        raise InputError(
            f"{path} is of another head, power or encoder: give another --csv, or remove it"
        )
    wanted = {(way, index, judge) for way in study.ways for index in indices for judge in judges}
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
        found = rows_of(item, study, judges, indices, device)
        by_image[item.name] = found
        with open(path, "a", encoding="utf-8") as file:
            file.write(as_text(map(astuple, found)))
    return [row for found in by_image.values() for row in found]


@click.command()
@click.argument("images", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("masks", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--head", "of_map", type=click.Path(path_type=Path))
@click.option("--encoder", "tuned", type=click.Path(path_type=Path))
@click.option("--untasked", type=click.Path(path_type=Path))
@click.option("--judge", "of_judges", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--csv", "path", required=True, type=click.Path(path_type=Path))
@click.option("--index", "indices", multiple=True, default=(12, 18, 24), show_default=True)
@click.option("--power", default=POWER, show_default=True, help="See importance_map.")
@click.option("--limit", type=int, help="So many images, the first by name.")
@click.option("--device")
def main(
    images: Path,
    masks: Path,
    of_map: Path | None,
    tuned: Path | None,
    untasked: Path | None,
    of_judges: tuple[Path, ...],
    path: Path,
    indices: tuple[int, ...],
    power: float,
    limit: int | None,
    device: str | None,
) -> None:
    """What an encoder that knows a task gains for other heads, at equal bits."""
    if of_map is None and tuned is None and untasked is None:
        raise click.UsageError("give --head, --encoder or --untasked: else there is one way")
    try:
        maps = [] if of_map is None else [of_map]
        heads = list(heads_of([*maps, *of_judges], device).items())
        judges = dict(heads[len(maps) :])
        files = {"tuned": tuned, "untasked": untasked}
        encoders = {way: load_encoder(each) for way, each in files.items() if each is not None}
        study = Study(heads[0][1] if maps else None, power, encoders)
        items = folder_of_masks(images, masks).items[:limit]
        click.echo(table(measure(items, study, judges, indices, path, device)))
    except (InputError, ModelError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
