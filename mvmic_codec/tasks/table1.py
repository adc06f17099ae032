"""The paper's table 1: how well polyps are found in files of this codec and of others.

There is one row for each image, codec, setting, scale and head. A head on pixels judges what any
codec decodes. A head on features judges files of this codec alone, and never sees their pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.api import decode_features
from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.codec import Codec
from mvmic_codec.evaluation.metrics import ms_ssim, psnr
from mvmic_codec.tasks.heads import Prediction
from mvmic_codec.tasks.layouts import Item
from mvmic_codec.tasks.metrics import Overlap, overlap, paired_difference, standard_error
from mvmic_codec.tasks.pixel_dataset import as_planes
from mvmic_codec.tasks.score_plot import Curve
from mvmic_codec.tasks.tables import (
    ORIGINAL,
    CodedFile,
    CodedSet,
    ImageSet,
    Judge,
    decoded,
    shown,
)

# Set, image, codec, setting and scale of a row.
Key = tuple[str, str, str, str, float]


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


@dataclass
class Measurement:
    """What table 1 measures, and its rows so far.

    coded   the images as files
    rows    those that are there stay; others are added
    device  where to decode features
    save    called after each setting, and when the work is interrupted
    """

    coded: CodedSet
    judges: Sequence[Judge]
    rows: list[TaskRow]
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
                    for setting, files in self.coded.settings(codec, scale):
                        self._add_setting(codec, setting.label, scale, files)
                # Pillow's errors of damaged files, and this package's.
                except OSError as error:
                    failures.append(f"{codec.name} at scale {scale:g}: {error}")
        return failures

    def _add_originals(self, scale: float) -> None:
        images = self.coded.images
        try:
            for item in shown(images.items, "original"):
                key = (images.name, item.name, ORIGINAL, "", scale)
                missing = [each for each in self._missing(key) if each.head.takes_pixels]
                if missing:
                    image = images.load(item, scale)
                    planes = as_planes(image, item.image) / 255
                    for judge in missing:
                        prediction = judge.head.predict_pixels(planes)
                        coded = Coded(*image.size, None, None, math.inf, 1.0)
                        self._add(key, judge, coded, prediction, _mask_of(item))
        finally:
            self.save()

    def _add_setting(
        self, codec: Codec, setting: str, scale: float, files: Sequence[CodedFile]
    ) -> None:
        try:
            for file in shown(files, f"{codec.name} {setting}: judge"):
                key = (self.coded.images.name, file.item.name, codec.name, setting, scale)
                self._add_file(key, codec, file)
        finally:
            self.save()

    def _add_file(self, key: Key, codec: Codec, file: CodedFile) -> None:
        """The rows of one file that are missing."""
        missing = self._missing(key)
        on_features = [each for each in missing if not each.head.takes_pixels and codec.features]
        on_pixels = [each for each in missing if each.head.takes_pixels]
        if not on_features and not on_pixels:
            return
        data = file.path.read_bytes()
        image = self.coded.images.load(file.item, key[4])
        found = decoded(codec, data, file, image)
        pixels, reference = np.asarray(found), np.asarray(image)
        quality = psnr(reference, pixels), ms_ssim(reference, pixels)
        coded = Coded(*image.size, len(data), file.bpp, *quality)
        mask = _mask_of(file.item)
        if on_features:
            names = {name for each in on_features for name in each.head.feature_maps()}
            features = decode_features(data, sorted(names), device=self.device)
            for judge in on_features:
                self._add(key, judge, coded, judge.head.predict(features)[0], mask)
        for judge in on_pixels:
            prediction = judge.head.predict_pixels(as_planes(found, file.path) / 255)
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


def summary(rows: Sequence[TaskRow], images: ImageSet, judges: Sequence[Judge]) -> str:
    """Means over images with standard errors, and paired differences, as aligned text.

    Of each image first the mean over heads of one kind is taken. Rows of other images and heads are
    left out.
    """
    groups: dict[tuple[float, str, str, str], list[TaskRow]] = {}
    for row in _rows_of(rows, images, judges):
        groups.setdefault((row.scale, row.codec, row.setting, row.judge), []).append(row)
    wide = max([16, *(len(codec) for _, codec, _, _ in groups)])
    lines = [
        f"{'scale':>5} {'codec':{wide}} {'setting':>8} {'judge':15} {'images':>6} {'heads':>5} "
        f"{'bpp':>6} {'PSNR':>6} {'MS-SSIM':>7} {'mIoU':>13} {'IoU':>13} {'Dice':>13}"
    ]
    for (scale, codec, setting, judge), group in groups.items():
        bits = [row.bpp for row in group if row.bpp is not None]
        heads = len({row.digest for row in group})
        lines.append(
            f"{scale:5g} {codec:{wide}} {setting:>8} {judge:15} {len(by_image(group, 'miou')):6} "
            f"{heads:5} {f'{np.mean(bits):.4f}' if bits else '-':>6} "
            f"{np.mean([row.psnr for row in group]):6.2f} "
            f"{np.mean([row.ms_ssim for row in group]):7.4f} "
            + " ".join(
                f"{_with_error(list(by_image(group, name).values())):>13}"
                for name in ("miou", "iou", "dice")
            )
        )
    lines += ["", *_differences(groups)]
    lines.append(
        "± is the standard error over images. mvm judged by features is what the paper calls "
        "stage 2: heads learn from files of a codec that stays as it is."
    )
    return "\n".join(lines)


def _rows_of(rows: Sequence[TaskRow], images: ImageSet, judges: Sequence[Judge]) -> list[TaskRow]:
    """Those of these images and heads. Two folders of one name may have rows in one table."""
    names, digests = {item.name for item in images.items}, {judge.digest for judge in judges}
    return [
        row
        for row in rows
        if row.set == images.name and row.image in names and row.digest in digests
    ]


def curves(rows: Sequence[TaskRow], images: ImageSet, judges: Sequence[Judge]) -> list[Curve]:
    """MIoU at the first scale, of each codec and kind of head: those on features first."""
    rows = _rows_of(rows, images, judges)
    rows = [row for row in rows if row.scale == rows[0].scale]
    groups: dict[tuple[str, str], dict[str, list[TaskRow]]] = {}
    for row in sorted(rows, key=lambda row: not row.judge.startswith("features")):
        # Variants of a codec are curves of their own, such as JPEG's 75/4:4:4 and 75/4:2:0.
        variant = " ".join((row.codec, *row.setting.split("/")[1:]))
        settings = groups.setdefault((variant, row.judge), {})
        settings.setdefault(row.setting, []).append(row)
    made = []
    for (codec, judge), settings in groups.items():
        points = []
        for group in settings.values():
            bits = [row.bpp for row in group if row.bpp is not None]
            values = list(by_image(group, "miou").values())
            bpp = float(np.mean(bits)) if bits else None
            points.append((bpp, float(np.mean(values)), standard_error(values)))
        made.append(Curve(codec, judge, points))
    return made


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
    return mean if len(values) < 2 else f"{mean} ± {standard_error(values):.3f}"
