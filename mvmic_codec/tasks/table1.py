"""The paper's table 1: how well polyps are found in files of this codec and of others.

There is one row for each image, codec, setting, scale and head. A head on pixels judges what any
codec decodes. A head on features judges files of this codec alone, and never sees their pixels.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mvmic_codec.api import decode_features
from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation.codec import MVM, Codec, Setting
from mvmic_codec.evaluation.metrics import ms_ssim, psnr
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks.heads import Head, Prediction, digest, load_head, other_model
from mvmic_codec.tasks.layouts import Item
from mvmic_codec.tasks.metrics import Overlap, overlap, paired_difference
from mvmic_codec.tasks.pixel_dataset import as_planes, original_pixels
from mvmic_codec.tasks.whole import write_whole

Each = TypeVar("Each")
# Set, image, codec, setting and scale of a row.
Key = tuple[str, str, str, str, float]

# The codec of rows of images that were not coded.
ORIGINAL = "original"
# Characters of a digest that tell heads apart.
_DIGEST = 12


@dataclass(frozen=True)
class TaskRow:
    """How well a head does on one image, coded at one setting of one codec.

    set        name of the folder of images
    image      its name in the data set
    codec, setting  as in `evaluation.rows.Row`; "original" for images that were not coded
    scale      the image was resized by this before it was coded
    judge      what the head sees: "pixels-light", "features s16", ...
    head       its file without the suffix
    digest     of the head: the first digits of what `heads.digest` gives
    width, height  of the image as it was coded
    bytes      size of the file, or None for originals
    bpp        8 * bytes / (width * height), or None
    psnr       dB of the decoded pixels, which a head on features never sees; inf for originals
    ms_ssim    of the same
    iou, miou, dice  see `metrics.Overlap`, at the image's own size
    """

    set: str
    image: str
    codec: str
    setting: str
    scale: float
    judge: str
    head: str
    digest: str
    width: int
    height: int
    bytes: int | None
    bpp: float | None
    psnr: float
    ms_ssim: float
    iou: float
    miou: float
    dice: float


COLUMNS = tuple(field.name for field in fields(TaskRow))


@dataclass(frozen=True)
class Judge:
    """A head of table 1, and how rows call it. Heads of one `kind` differ by their seeds."""

    kind: str
    name: str
    digest: str
    head: Head


@dataclass(frozen=True)
class ImageSet:
    """The images of a table: the name of the set, and whether they are gray."""

    name: str
    items: list[Item]
    gray: bool


def image_set(name: str, items: Sequence[Item]) -> ImageSet:
    """Images of one kind. Raises InputError if there are none, and as `original_pixels`."""
    if not items:
        raise InputError("there are no images to measure")
    return ImageSet(name, list(items), len(original_pixels(items[0].image)) == 1)


def load_judges(folder: Path, gray: bool, device: str | None) -> list[Judge]:
    """All heads in a folder, by name.

    Raises InputError if there are none, and for one that is not for such images or not for a single
    class. Errors as `load_head`.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(f"{folder} holds no heads: train some by `mvmic tasks train polyp`")
    judges = []
    for path in paths:
        head = load_head(path, device)
        card = head.card
        if len(card.classes) != 1:
            raise InputError(f"{path} tells {len(card.classes)} classes apart, and polyps are one")
        fingerprint = default_identity(gray).fingerprint
        if card.fingerprint != fingerprint:
            raise InputError(f"{path}: {other_model(card.fingerprint, fingerprint)}")
        kind = card.network if head.takes_pixels else f"features {'+'.join(card.maps)}"
        state = {name: each.cpu() for name, each in head.network.state_dict().items()}
        whole = digest(json.dumps(asdict(card)), state)
        judges.append(Judge(kind, path.stem, whole[:_DIGEST], head))
    return judges


@dataclass
class Measurement:
    """What table 1 measures, and its rows so far.

    rows    those that are there stay; others are added
    band    bits per pixel. Settings of other codecs count if their mean over all images lies in it.
            All settings of this codec count
    folder  of encoded files. Those that are there stay
    device  where to decode features
    save    called after each setting, and when the work is interrupted
    """

    images: ImageSet
    judges: Sequence[Judge]
    rows: list[TaskRow]
    band: tuple[float, float]
    folder: Path
    device: str | None
    save: Callable[[], None]

    def __post_init__(self) -> None:
        self._done = {(*_key(row), row.digest) for row in self.rows}

    def run(self, codecs: Sequence[Codec], scales: Sequence[float]) -> list[str]:
        """Add all rows that are missing.

        Returns a sentence for each codec that failed at a scale, and leaves out the rest of it.
        """
        failures = []
        for scale in scales:
            self._add_originals(scale)
            for codec in codecs:
                try:
                    for curve in codec.curves(self.images.gray):
                        self._add_curve(codec, curve, scale)
                # Pillow's errors of damaged files, and this package's.
                except OSError as error:
                    failures.append(f"{codec.name} at scale {scale:g}: {error}")
        return failures

    def _add_originals(self, scale: float) -> None:
        try:
            for item in _shown(self.images.items, "original"):
                key = (self.images.name, item.name, ORIGINAL, "", scale)
                missing = [each for each in self._missing(key) if each.head.takes_pixels]
                if missing:
                    image = _load(self.images, item, scale)
                    planes = as_planes(image, item.image) / 255
                    for judge in missing:
                        prediction = judge.head.predict_pixels(planes)
                        coded = Coded(*image.size, None, None, math.inf, 1.0)
                        self._add(key, judge, coded, prediction, _mask_of(item))
        finally:
            self.save()

    def _add_curve(self, codec: Codec, curve: Sequence[Setting], scale: float) -> None:
        """The rows of settings in the order of their rates."""
        low, high = self.band
        for setting in curve:
            files = self._encoded(codec, setting, scale)
            if not _is_ours(codec):
                bpp = np.mean([bits for _, _, bits in files])
                if bpp > high:
                    return
                if bpp < low:
                    continue
            try:
                for item, file, bits in _shown(files, f"{codec.name} {setting.label}: judge"):
                    key = (self.images.name, item.name, codec.name, setting.label, scale)
                    self._add_file(key, item, codec, file, bits)
            finally:
                self.save()

    def _encoded(
        self, codec: Codec, setting: Setting, scale: float
    ) -> list[tuple[Item, Path, float]]:
        """The file of each image, and its bits per pixel."""
        label = setting.label.replace("/", "_")
        folder = self.folder / self.images.name / f"scale{scale:g}" / codec.name / label
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for item in _shown(self.images.items, f"{codec.name} {setting.label}: encode"):
            file = folder / f"{item.name}{'.mvm' if _is_ours(codec) else '.bin'}"
            image = _load(self.images, item, scale)
            if not file.exists():
                write_whole(file, setting.encode(image))
            files.append((item, file, 8 * file.stat().st_size / (image.width * image.height)))
        return files

    def _add_file(self, key: Key, item: Item, codec: Codec, file: Path, bpp: float) -> None:
        """The rows of one file that are missing."""
        missing = self._missing(key)
        on_features = [each for each in missing if not each.head.takes_pixels and _is_ours(codec)]
        on_pixels = [each for each in missing if each.head.takes_pixels]
        if not on_features and not on_pixels:
            return
        data = file.read_bytes()
        image = _load(self.images, item, key[4])
        decoded = codec.decode(data)
        if image.mode == "L":
            decoded = decoded.convert("L")
        if (decoded.mode, decoded.size) != (image.mode, image.size):
            raise MvmError(f"{file} is not of {item.image}: delete it, and it is encoded anew")
        pixels, reference = np.asarray(decoded), np.asarray(image)
        quality = psnr(reference, pixels), ms_ssim(reference, pixels)
        coded = Coded(*image.size, len(data), bpp, *quality)
        mask = _mask_of(item)
        if on_features:
            names = {name for each in on_features for name in each.head.feature_maps()}
            features = decode_features(data, sorted(names), device=self.device)
            for judge in on_features:
                self._add(key, judge, coded, judge.head.predict(features)[0], mask)
        for judge in on_pixels:
            prediction = judge.head.predict_pixels(as_planes(decoded, file) / 255)
            self._add(key, judge, coded, prediction, mask)

    def _missing(self, key: Key) -> list[Judge]:
        """The judges without a row."""
        return [judge for judge in self.judges if (*key, judge.digest) not in self._done]

    def _add(
        self, key: Key, judge: Judge, coded: Coded, prediction: Prediction, mask: Tensor
    ) -> None:
        names = judge.kind, judge.name, judge.digest
        scores = astuple(_overlap(prediction, mask))
        self.rows.append(TaskRow(*key, *names, *astuple(coded), *scores))
        self._done.add((*key, judge.digest))


@dataclass(frozen=True)
class Coded:
    """The columns of a row that a file alone gives; see `TaskRow`."""

    width: int
    height: int
    bytes: int | None
    bpp: float | None
    psnr: float
    ms_ssim: float


def _key(row: TaskRow) -> Key:
    return row.set, row.image, row.codec, row.setting, row.scale


def _is_ours(codec: Codec) -> bool:
    return codec.name in MVM.values()


def _load(images: ImageSet, item: Item, scale: float) -> Image.Image:
    """An image as it is coded: without metadata, and resized."""
    planes = original_pixels(item.image)
    if (len(planes) == 1) != images.gray:
        raise InputError(
            f"{item.image} is {'colour' if images.gray else 'gray'}, and the first image of the "
            "set is not: measure gray and colour images apart"
        )
    pixels = planes[0] if images.gray else planes.permute(1, 2, 0)
    image = Image.fromarray(pixels.contiguous().numpy())
    if scale == 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _mask_of(item: Item) -> Tensor:
    mask = item.read().mask
    if mask is None:
        raise InputError(f"{item.image} has no mask to compare with")
    return mask


def _overlap(prediction: Prediction, mask: Tensor) -> Overlap:
    """At the size of the true mask [H,W], to which probabilities are stretched."""
    probabilities = torch.from_numpy(prediction.probabilities)[None]
    if probabilities.shape[2:] != mask.shape:
        size = (mask.shape[0], mask.shape[1])
        probabilities = F.interpolate(probabilities, size, mode="bilinear", align_corners=False)
    return overlap(probabilities[0, 0] > 0.5, mask)


def _shown(items: Sequence[Each], label: str) -> Iterator[Each]:
    """The items, with a bar on a terminal."""
    yield from tqdm(items, label, unit="image", leave=False, delay=1.0, disable=None)


def format_rows(rows: Iterable[TaskRow]) -> str:
    """Rows as CSV text with a header line. What is None is empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        values: list[Any] = [getattr(row, name) for name in COLUMNS]
        table.writerow([f"{each:.6g}" if isinstance(each, float) else each for each in values])
    return text.getvalue()


def read_rows(path: Path) -> list[TaskRow]:
    """Rows of a CSV file. Raises InputError for a file that is no such table, naming the line."""
    text = ("set", "image", "codec", "setting", "judge", "head", "digest")
    rows = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if tuple(table.fieldnames or ()) != COLUMNS:
                raise InputError(
                    f"{path} is not a table of `mvmic tasks table1`: name another file"
                )
            for line in table:
                values: dict[str, Any] = {
                    name: line[name] if name in text else _number(line[name], name)
                    for name in COLUMNS
                }
                rows.append(TaskRow(**values))
    except (TypeError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}, line {len(rows) + 2}: {error}") from None
    return rows


def _number(text: str, name: str) -> Any:
    if not text and name in ("bytes", "bpp"):
        return None
    return int(text) if name in ("width", "height", "bytes") else float(text)


def summary(rows: Sequence[TaskRow], images: ImageSet, judges: Sequence[Judge]) -> str:
    """Means over images with standard errors, and paired differences, as aligned text.

    Of each image first the mean over heads of one kind is taken. Rows of other sets and heads are
    left out.
    """
    digests = {judge.digest for judge in judges}
    rows = [row for row in rows if row.set == images.name and row.digest in digests]
    groups: dict[tuple[float, str, str, str], list[TaskRow]] = {}
    for row in rows:
        groups.setdefault((row.scale, row.codec, row.setting, row.judge), []).append(row)
    lines = [
        f"{'scale':>5} {'codec':16} {'setting':>8} {'judge':15} {'images':>6} {'heads':>5} "
        f"{'bpp':>6} {'PSNR':>6} {'MS-SSIM':>7} {'mIoU':>13} {'IoU':>13} {'Dice':>13}"
    ]
    for (scale, codec, setting, judge), group in groups.items():
        bits = [row.bpp for row in group if row.bpp is not None]
        heads = len({row.digest for row in group})
        lines.append(
            f"{scale:5g} {codec:16} {setting:>8} {judge:15} {len(by_image(group, 'miou')):6} "
            f"{heads:5} {f'{np.mean(bits):.4f}' if bits else '-':>6} "
            f"{np.mean([row.psnr for row in group]):6.2f} "
            f"{np.mean([row.ms_ssim for row in group]):7.4f} "
            + " ".join(
                f"{_with_error(list(by_image(group, name).values())):>13}"
                for name in ("miou", "iou", "dice")
            )
        )
    lines += ["", *_differences(groups)]
    lines.append("± is the standard error over images. mvm judged by features is stage 2.")
    return "\n".join(lines)


def _differences(groups: dict[tuple[float, str, str, str], list[TaskRow]]) -> list[str]:
    """Lines on heads on features against heads on pixels, at the same files."""
    lines = []
    for (scale, codec, setting, judge), group in groups.items():
        for (scale2, codec2, setting2, other), pixels in groups.items():
            same = (scale, codec, setting) == (scale2, codec2, setting2)
            if not same or not judge.startswith("features") or other.startswith("features"):
                continue
            parts = []
            for label, name in (("mIoU", "miou"), ("IoU", "iou")):
                ours, theirs = by_image(group, name), by_image(pixels, name)
                both = [image for image in ours if image in theirs]
                if len(both) < 2:
                    continue
                found = paired_difference([ours[k] for k in both], [theirs[k] for k in both])
                parts.append(f"{label} {found.mean:+.3f} ± {found.standard_error:.3f}")
            if parts:
                lines.append(
                    f"{codec} {setting}, scale {scale:g}: {judge} minus {other}: {', '.join(parts)}"
                    f"{_by_seed(group, pixels)}"
                )
    return lines


def _by_seed(ours: Sequence[TaskRow], theirs: Sequence[TaskRow]) -> str:
    """The range of the difference of mIoU over pairs of heads, in the order of their names."""
    means = []
    for rows in (ours, theirs):
        heads = sorted({row.head for row in rows})
        means.append([np.mean([row.miou for row in rows if row.head == head]) for head in heads])
    if len(means[0]) < 2 or len(means[0]) != len(means[1]):
        return ""
    differences = np.subtract(means[0], means[1])
    return f"; mIoU by pairs of heads {differences.min():+.3f} to {differences.max():+.3f}"


def by_image(rows: Sequence[TaskRow], name: str) -> dict[str, float]:
    """A score of each image, the mean over heads."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.image, []).append(getattr(row, name))
    return {image: float(np.mean(values)) for image, values in found.items()}


def _with_error(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {np.std(values, ddof=1) / math.sqrt(len(values)):.3f}"
