"""The paper's table 4: what training an encoder with a task brings, by lambda2.

There is one row for each encoder, rate index and head: the released encoder, and those that
`mvmic train --encoder` tuned. The decoder is the same for all. mIoU over classes is of all pixels
of a set together, and so is accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np
import torch

from mvmic_codec.api import decode_features
from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.codec import Codec
from mvmic_codec.evaluation.metrics import psnr
from mvmic_codec.evaluation.peers import mvm
from mvmic_codec.model.tuned import TunedEncoder
from mvmic_codec.tasks.metrics import Confusion, class_errors, class_scores, confusion
from mvmic_codec.tasks.pixel_dataset import as_planes
from mvmic_codec.tasks.score_plot import Curve
from mvmic_codec.tasks.tables import (
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

RELEASED = "released"


@dataclass(frozen=True)
class EncoderRow:
    """How well a head does on a set of images, coded by one encoder at one rate index.

    set      name of the folder of images
    encoder  "released", or its file without the suffix and the first digits of its digest
    lambda2  that it was tuned with; None for the released one
    setting  the rate index
    judge    the network and what it sees; see `tables.Judge`
    head     its file without the suffix
    digest   of the head: the first digits of what `heads.digest` gives
    images   how many there are
    bpp, psnr  means over images; dB of the decoded pixels
    miou, accuracy        see `metrics.ClassScores`. With one class the background is another
    miou_se, accuracy_se  their standard errors over images; see `metrics.class_errors`
    """

    set: str
    encoder: str
    lambda2: float | None
    setting: str
    judge: str
    head: str
    digest: str
    images: int
    bpp: float
    psnr: float
    miou: float
    accuracy: float
    miou_se: float
    accuracy_se: float


@dataclass(frozen=True)
class Encoder:
    """An encoder of a table: how rows call it, lambda2 (None: the released one), and the codec."""

    name: str
    lambda2: float | None
    codec: Codec


def encoders(
    tuned: Sequence[TunedEncoder], indices: Sequence[int], device: str | None
) -> list[Encoder]:
    """The released encoder and tuned ones. Raises InputError for one that is given twice.

    Names have digits of the encoder's digest. So one that was tuned anew takes neither the rows nor
    the files of the one before it.
    """
    made = [Encoder(RELEASED, None, mvm(indices, device))]
    for each in tuned:
        stem = each.name.removesuffix(".safetensors").removesuffix(".tuned")
        name = f"{stem} {each.digest[:8]}"
        if name in {other.name for other in made}:
            raise InputError(f"the encoder {each.name} is given twice")
        codec = mvm(indices, device, name=f"mvm {name}", encoder=each)
        made.append(Encoder(name, each.card.lambda2, codec))
    return made


@dataclass
class Measurement:
    """What table 4 measures, and its rows so far.

    coded    the images as files
    classes  of heads; 1 means that class against the background
    rows     those that are there stay; others are added
    device   where to decode features
    save     called after each setting

    Raises InputError for rows of another number of images.
    """

    coded: CodedSet
    judges: Sequence[Judge]
    classes: int
    rows: list[EncoderRow]
    device: str | None
    save: Callable[[], None]

    def __post_init__(self) -> None:
        check_count(self.rows, self.coded.images)

    def run(self, compared: Sequence[Encoder]) -> None:
        """Add all rows that are missing."""
        done = {(row.set, row.encoder, row.setting, row.digest) for row in self.rows}
        name = self.coded.images.name
        for encoder in compared:
            for setting, files in self.coded.settings(encoder.codec):
                key = name, encoder.name, setting.label
                missing = [each for each in self.judges if (*key, each.digest) not in done]
                if missing:
                    self._add(encoder, setting.label, files, missing)
                    self.save()

    def _add(
        self, encoder: Encoder, setting: str, files: Sequence[CodedFile], judges: Sequence[Judge]
    ) -> None:
        counts: list[list[Confusion]] = [[] for _ in judges]
        quality = []
        on_features = [each.head for each in judges if not each.head.takes_pixels]
        maps = sorted({name for head in on_features for name in head.feature_maps()})
        count = partial(confusion, classes=max(2, self.classes))
        for file in shown(files, f"{encoder.name} {setting}: judge"):
            data = file.path.read_bytes()
            image = self.coded.images.load(file.item)
            pixels = decoded(encoder.codec, data, file, image)
            quality.append(psnr(np.asarray(image), np.asarray(pixels)))
            mask = file.item.read().mask
            if mask is None:
                raise InputError(f"{file.item.image} has no mask to compare with")
            features = decode_features(data, maps, device=self.device) if maps else None
            for judge, each in zip(judges, counts, strict=True):
                if judge.head.takes_pixels:
                    found = judge.head.predict_pixels(as_planes(pixels, file.path) / 255)
                else:
                    assert features is not None
                    found = judge.head.predict(features)[0]
                each.append(count(torch.from_numpy(found.mask), mask))
        bpp = float(np.mean([file.bpp for file in files]))
        for judge, each in zip(judges, counts, strict=True):
            self.rows.append(
                EncoderRow(
                    self.coded.images.name,
                    encoder.name,
                    encoder.lambda2,
                    setting,
                    judge.kind,
                    judge.name,
                    judge.digest,
                    len(files),
                    bpp,
                    float(np.mean(quality)),
                    *astuple(class_scores(each)),
                    *astuple(class_errors(each)),
                )
            )


def summary(rows: Sequence[EncoderRow], name: str, judges: Sequence[Judge]) -> str:
    """Means over heads of one kind as aligned text.

    Rows of other sets than `name` and of other heads are left out.
    """
    groups: dict[tuple[str, str, str], list[EncoderRow]] = {}
    for row in judged_rows(rows, name, judges):
        groups.setdefault((row.setting, row.judge, row.encoder), []).append(row)
    wide = max([20, *(len(encoder) for _, _, encoder in groups)])
    lines = [
        f"{'setting':>7} {'judge':22} {'encoder':{wide}} {'lambda2':>8} {'heads':>5} {'bpp':>6} "
        f"{'PSNR':>6} {'mIoU':>13} {'accuracy':>13}"
    ]
    for (setting, judge, encoder), group in groups.items():
        first = group[0]
        lambda2 = "-" if first.lambda2 is None else f"{first.lambda2:g}"
        lines.append(
            f"{setting:>7} {judge:22} {encoder:{wide}} {lambda2:>8} {len(group):5} {first.bpp:.4f} "
            f"{first.psnr:6.2f} {score_cell(group, 'miou'):>13} {score_cell(group, 'accuracy'):>13}"
        )
    lines.append(
        "± is the standard error over images, of one head, by the bootstrap. lambda2 0 is the "
        "control: tuned alike, without the task."
    )
    return "\n".join(lines)


def curves(rows: Sequence[EncoderRow], name: str, judges: Sequence[Judge]) -> list[Curve]:
    """MIoU of each encoder and kind of head."""
    chosen = judged_rows(rows, name, judges)
    return curves_of(chosen, lambda row: (row.encoder, row.judge), "miou")
