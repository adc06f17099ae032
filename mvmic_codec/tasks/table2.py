"""The paper's table 2: how well polyps are detected in files of this codec and of others.

There is one row for each codec, setting and head, since average precision is of a whole set of
images and no mean over them. A head on pixels judges what any codec decodes. A head on features
judges files of this codec alone, and never sees their pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from mvmic_codec.api import decode_features
from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.codec import Codec
from mvmic_codec.evaluation.metrics import psnr
from mvmic_codec.features.maps import Features
from mvmic_codec.tasks.average_precision import DetectionMeter
from mvmic_codec.tasks.heads import DETECTORS, Detection
from mvmic_codec.tasks.layouts import Item
from mvmic_codec.tasks.pixel_dataset import as_planes
from mvmic_codec.tasks.score_plot import Curve
from mvmic_codec.tasks.tables import (
    ORIGINAL,
    CodedFile,
    CodedSet,
    Judge,
    check_count,
    curves_of,
    decoded,
    judged_rows,
    score_cell,
    shown,
)

# Set, codec and setting of a row.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class DetectionRow:
    """How well a head does on a set of images, coded at one setting of one codec.

    set      name of the folder of images
    codec, setting  as in `evaluation.rows.Row`; "original" for images that were not coded
    judge    the network and what it sees: "mask-rcnn features s8+s16", "faster-rcnn-pixels-light"
    head     its file without the suffix
    digest   of the head: the first digits of what `heads.digest` gives
    images   how many there are
    objects  how many boxes they have
    bpp      mean over images, or None for originals
    psnr     dB of the decoded pixels, which a head on features never sees, mean over images; inf
             for originals
    box_ap, box_ap50, box_ap75     see `average_precision.AveragePrecision`
    box_ap_se, ...                 their standard errors over images; see `DetectionMeter`
    mask_ap, ..., mask_ap75_se     the same of masks, or None for a Faster R-CNN
    """

    set: str
    codec: str
    setting: str
    judge: str
    head: str
    digest: str
    images: int
    objects: int
    bpp: float | None
    psnr: float
    box_ap: float
    box_ap50: float
    box_ap75: float
    box_ap_se: float
    box_ap50_se: float
    box_ap75_se: float
    mask_ap: float | None
    mask_ap50: float | None
    mask_ap75: float | None
    mask_ap_se: float | None
    mask_ap50_se: float | None
    mask_ap75_se: float | None


@dataclass(frozen=True)
class _Coded:
    """One image as a codec gives it back. `features` are those that judges ask for."""

    item: Item
    bpp: float | None
    psnr: float
    planes: Tensor
    features: Features | None

    def seen_by(self, judge: Judge) -> Detection:
        """What a judge finds in it."""
        if judge.head.takes_pixels:
            return judge.head.detect_pixels(self.planes)
        assert self.features is not None
        return judge.head.detect(self.features)[0]


@dataclass
class Measurement:
    """What table 2 measures, and its rows so far.

    coded   the images as files
    rows    those that are there stay; others are added
    device  where to decode features
    save    called after each setting

    Raises InputError for rows of another number of images.
    """

    coded: CodedSet
    judges: Sequence[Judge]
    rows: list[DetectionRow]
    device: str | None
    save: Callable[[], None]

    def __post_init__(self) -> None:
        self._done = {(*_key(row), row.digest) for row in self.rows}
        check_count(self.rows, self.coded.images)

    def run(self, codecs: Sequence[Codec]) -> list[str]:
        """Add all rows that are missing.

        Returns a sentence for each codec that failed, and leaves out the rest of it. Raises
        InputError if no image has a box.
        """
        name = self.coded.images.name
        key = name, ORIGINAL, ""
        if missing := self._missing(key, features=False):
            self._add(key, missing, self._originals())
        failures = []
        for codec in codecs:
            try:
                for setting, files in self.coded.settings(codec):
                    key = name, codec.name, setting.label
                    if missing := self._missing(key, features=codec.features):
                        self._add(key, missing, self._files(codec, files, missing))
            # Pillow's errors of damaged files, and this package's.
            except OSError as error:
                failures.append(f"{codec.name}: {error}")
        return failures

    def _missing(self, key: Key, *, features: bool) -> list[Judge]:
        """The judges without a row; those on features where there are some."""
        return [
            judge
            for judge in self.judges
            if (features or judge.head.takes_pixels) and (*key, judge.digest) not in self._done
        ]

    def _add(self, key: Key, judges: Sequence[Judge], images: Iterable[_Coded]) -> None:
        """The rows of a setting and these judges."""
        meters = [DetectionMeter(masks=_finds_masks(judge)) for judge in judges]
        bits, quality = [], []
        for image in images:
            target = _target_of(image.item)
            for judge, meter in zip(judges, meters, strict=True):
                meter.add(asdict(image.seen_by(judge)), target)
            if image.bpp is not None:
                bits.append(image.bpp)
            quality.append(image.psnr)
        bpp = float(np.mean(bits)) if bits else None
        for judge, meter in zip(judges, meters, strict=True):
            scores, errors = meter.scores(), meter.standard_errors()
            found: list[Any] = [*astuple(scores.boxes), *astuple(errors.boxes)]
            for each in (scores.masks, errors.masks):
                found += [None] * 3 if each is None else astuple(each)
            names = judge.kind, judge.name, judge.digest
            counts = meter.images, meter.objects
            self.rows.append(
                DetectionRow(*key, *names, *counts, bpp, float(np.mean(quality)), *found)
            )
            self._done.add((*key, judge.digest))
        self.save()

    def _originals(self) -> Iterator[_Coded]:
        images = self.coded.images
        for item in shown(images.items, ORIGINAL):
            planes = as_planes(images.load(item), item.image) / 255
            yield _Coded(item, None, math.inf, planes, None)

    def _files(
        self, codec: Codec, files: Sequence[CodedFile], judges: Sequence[Judge]
    ) -> Iterator[_Coded]:
        on_features = [judge.head for judge in judges if not judge.head.takes_pixels]
        maps = sorted({name for head in on_features for name in head.feature_maps()})
        for file in shown(files, f"{codec.name}: judge"):
            data = file.path.read_bytes()
            image = self.coded.images.load(file.item)
            pixels = decoded(codec, data, file, image)
            yield _Coded(
                file.item,
                file.bpp,
                psnr(np.asarray(image), np.asarray(pixels)),
                as_planes(pixels, file.path) / 255,
                decode_features(data, maps, device=self.device) if maps else None,
            )


def _finds_masks(judge: Judge) -> bool:
    return DETECTORS[judge.head.card.network][0]


def _key(row: DetectionRow) -> Key:
    return row.set, row.codec, row.setting


def _target_of(item: Item) -> dict[str, Tensor]:
    """The boxes and masks of an image. Raises InputError if it has none."""
    truth = item.read()
    if truth.boxes is None or truth.labels is None or truth.instances is None:
        raise InputError(f"{item.image} has no boxes and masks to compare with")
    return {"boxes": truth.boxes, "labels": truth.labels, "masks": truth.instances}


def summary(rows: Sequence[DetectionRow], name: str, judges: Sequence[Judge]) -> str:
    """Scores with standard errors as aligned text, means over heads of one kind.

    Rows of other sets than `name` and of other heads are left out.
    """
    groups: dict[tuple[str, str, str], list[DetectionRow]] = {}
    for row in judged_rows(rows, name, judges):
        groups.setdefault((row.codec, row.setting, row.judge), []).append(row)
    scores = [f"{kind} AP{at}" for kind in ("box", "mask") for at in ("", "50", "75")]
    wide = max([16, *(len(codec) for codec, _, _ in groups)])
    lines = [
        f"{'codec':{wide}} {'setting':>8} {'judge':26} {'heads':>5} {'bpp':>6} {'PSNR':>6} "
        + " ".join(f"{score:>13}" for score in scores)
    ]
    for (codec, setting, judge), group in groups.items():
        cells = [score_cell(group, score.replace(" AP", "_ap")) for score in scores]
        # All are of the same files.
        bpp = group[0].bpp
        lines.append(
            f"{codec:{wide}} {setting:>8} {judge:26} {len(group):5} "
            f"{'-' if bpp is None else f'{bpp:.4f}':>6} {group[0].psnr:6.2f} "
            + " ".join(f"{cell:>13}" for cell in cells)
        )
    if groups:
        first = next(iter(groups.values()))[0]
        lines.append(
            f"{first.objects} objects in {first.images} images. AP is the mean over thresholds "
            "from .50 to .95. ± is the standard error over images, of one head, by the bootstrap."
        )
    return "\n".join(lines)


def curves(rows: Sequence[DetectionRow], name: str, judges: Sequence[Judge]) -> list[Curve]:
    """Average precision of boxes, of each codec and kind of head: those on features first."""

    def key(row: DetectionRow) -> tuple[str, str]:
        # As in table 1, variants of a codec are curves of their own.
        return " ".join((row.codec, *row.setting.split("/")[1:])), row.judge

    chosen = judged_rows(rows, name, judges)
    chosen.sort(key=lambda row: "features" not in row.judge)
    return curves_of(chosen, key, "box_ap")
