"""Stage 2 of the paper: the bitstream is frozen, and heads are trained on real files.

All that a run makes lies in one folder:

    archive/                  the images as .mvm files at several rates, and what they are made of;
                              see `archive`
    cache/                    decoded maps and pixels; may be deleted at any time
    NAME.json                 the settings of the heads called NAME, such as features-s16 or
                              mask-rcnn-features-s8-s16
    NAME-seed0.checkpoint     to go on from
    NAME-seed0.safetensors    the head; see `heads`

Training images come from files at rates over a whole band, so that one head serves all of it. Each
is seen mirrored too: features from mirrored coefficients, pixels as they are. The images that
`layouts.split` holds out give the scores in the card.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mvmic_codec.errors import InputError
from mvmic_codec.features.maps import Features
from mvmic_codec.model.tuned import TunedEncoder
from mvmic_codec.tasks import detection
from mvmic_codec.tasks.archive import (
    check_made_of,
    draw_rates,
    made_of,
    rates_of,
    write_archive,
)
from mvmic_codec.tasks.average_precision import DetectionMeter
from mvmic_codec.tasks.crops import collate, random_crop
from mvmic_codec.tasks.dataset import TaskDataset, TaskSample
from mvmic_codec.tasks.heads import (
    DETECTORS,
    Card,
    Detection,
    Head,
    Prediction,
    make_network,
    save_head,
)
from mvmic_codec.tasks.layouts import Item, marks_of, split
from mvmic_codec.tasks.metrics import Confusion, Overlap, class_scores, confusion, overlap
from mvmic_codec.tasks.pixel_dataset import PixelDataset, collate_untold, planes_of
from mvmic_codec.tasks.train import TrainConfig, segmentation_loss_of, train
from mvmic_codec.tasks.truth import IGNORED, GroundTruth
from mvmic_codec.tasks.whole import write_whole

# Crops of a batch for segmentation.
BATCH = 4
# Images of a batch for a detector. Whole frames, since a polyp may be as large as its frame.
DETECTOR_BATCH = 2
# Scores are given for so many equal parts of the band of rates.
BANDS = 3


@dataclass(frozen=True)
class HeadSettings:
    """What is trained, besides the seed.

    task           in a few words, for the card
    classes        names of the classes; one means that class against the background
    network        as in `heads.Card`
    maps           names of the feature maps; empty for pixels
    rates          lowest and highest rate index of the files to train on
    steps, seconds see `train.TrainConfig`
    learning_rate  see `train.TrainConfig`
    crop           side of the crops, a multiple of 64; None for whole images
    width          of the trunk
    data, licence  for the card
    """

    task: str
    classes: tuple[str, ...]
    network: str
    maps: tuple[str, ...]
    rates: tuple[int, int]
    steps: int
    seconds: float
    learning_rate: float
    crop: int | None
    width: int
    data: str
    licence: str

    @property
    def name(self) -> str:
        """The name of heads of this kind in a folder."""
        if not self.maps:
            return self.network
        return "-".join(
            (*([] if self.network == "fpn" else [self.network]), "features", *self.maps)
        )

    @property
    def detects(self) -> bool:
        """Whether a detector is trained."""
        return self.network in DETECTORS


@dataclass(frozen=True)
class Halves:
    """The images to train on, and those that are held out.

    digest  tells these images and what is known of them from others
    """

    train: list[Item]
    validation: list[Item]
    digest: str


def halves(items: Sequence[Item]) -> Halves:
    """By `layouts.split`. The ground truth of every image is read, and so checked.

    Warns if there are masks, and those of the images to train on are all empty. Errors as those of
    `layouts.split` and `Item.read`.
    """
    train, validation = split(items)
    digest = hashlib.sha256()
    if _read_truths(train, digest):
        warnings.warn(
            "all masks of the images to train on are empty: a head learns from them that there is "
            "nothing",
            stacklevel=2,
        )
    _read_truths(validation, digest)
    return Halves(train, validation, digest.hexdigest()[:16])


def _read_truths(items: Sequence[Item], digest: hashlib._Hash) -> bool:
    """Add images and what is known of them to a digest. Returns whether all masks are empty."""
    masks, empty = 0, 0
    bar = tqdm(items, "masks", unit="image", leave=False, delay=1.0, disable=None)
    for item, mark in zip(bar, marks_of(items), strict=True):
        truth = item.read()
        digest.update(f"{item.name} {mark}".encode())
        for known in (truth.mask, truth.boxes, truth.labels):
            digest.update(b"" if known is None else known.numpy().tobytes())
        if truth.mask is not None:
            masks += 1
            empty += not bool(((truth.mask > 0) & (truth.mask != IGNORED)).any())
    return masks > 0 and masks == empty


def archive_of(
    data: Halves,
    out: Path,
    rates: tuple[int, int],
    copies: int,
    encoder: TunedEncoder | None,
    device: str | None,
) -> Path:
    """Write the archive of a run, or the rest of it: `copies` rates of the band for each image.

    Returns the folder. None is the released encoder.

    Raises InputError for a folder with an archive of other rates, of another encoder or of another
    data set. Errors and warnings as `write_archive`.
    """
    folder = out / "archive"
    items = [*data.train, *data.validation]
    drawn = draw_rates(items, *rates, copies)
    known = made_of(folder)
    marks = zip(items, marks_of(items), strict=True)
    if known and not any(known.get(item.name) == mark for item, mark in marks):
        raise InputError(
            f"{folder} is made of other images, such as {next(iter(known))}: name another folder "
            "for each data set"
        )
    out.mkdir(parents=True, exist_ok=True)
    tuned = None if encoder is None else encoder.digest
    settings = {"rates": list(rates), "copies": copies, "encoder": tuned}
    same_settings(out / "archive.json", settings, folder.name)
    write_archive(items, folder, drawn, encoder=encoder, device=device)
    return folder


def train_head(
    data: Halves,
    archive: Path,
    out: Path,
    settings: HeadSettings,
    seed: int,
    device: str,
    cache: Path | None = None,
) -> Path:
    """Train a head on the files of an archive, score it on those held out, and write it.

    A run that was stopped goes on from its checkpoint, and a head that is there already stays.
    Returns its path.

    Raises InputError for a folder with heads of this name and other settings, images or masks, for
    files at other rates than the card will say, for files of images that have changed, and as
    `check_data`. Errors as `train`, `TaskDataset` and `PixelDataset`.
    """
    _check_rates(data, archive, settings)
    check_data(data, settings)
    items = [*data.train, *data.validation]
    check_made_of(items, archive)
    # It reads all headers: the files are of one model.
    TaskDataset(items, archive)
    out.mkdir(parents=True, exist_ok=True)
    same_settings(
        out / f"{settings.name}.json",
        asdict(settings)
        | {"archive": os.path.relpath(archive, out), "images and masks": data.digest},
        f"{settings.name}-seed*",
    )
    path = out / f"{settings.name}-seed{seed}.safetensors"
    if path.exists():
        return path
    training, held_out = _datasets(data, archive, settings, device, cache)
    first = training[0]
    card = Card(
        task=settings.task,
        network=settings.network,
        fingerprint=training.fingerprint.hex(),
        maps={name: len(each) for name, each in first.maps.items()},
        classes=list(settings.classes),
        width=settings.width,
        rates=list(settings.rates),
        data=settings.data,
        licence=settings.licence,
        scores={},
        seen=marks_of(data.train),
    )
    torch.manual_seed(seed)
    network = make_network(card)
    count = DETECTOR_BATCH if settings.detects else BATCH
    batches = DataLoader(
        training,
        count,
        shuffle=True,
        drop_last=len(training) >= count,
        collate_fn=collate if settings.maps else collate_untold,
    )
    config = TrainConfig(settings.steps, settings.seconds, settings.learning_rate, seed=seed)
    loss = detection.loss_of if settings.detects else segmentation_loss_of
    train(network, batches, config, device, path.with_suffix(".checkpoint"), loss)
    # It is scored with the weights that its file will have.
    head = Head(card, network.half().float().requires_grad_(False))
    scores: dict[str, float] = {}
    for label, each in held_out.items():
        if settings.detects:
            scores |= detection_scores(label, detections(head, each), settings)
        elif len(settings.classes) == 1:
            scores |= mean_scores(label, predictions(head, each), settings)
        else:
            scores |= scores_of_classes(label, predictions(head, each), settings)
    save_head(replace(head, card=replace(card, scores=scores)), path)
    return path


def _check_rates(data: Halves, archive: Path, settings: HeadSettings) -> None:
    """Raise InputError for files outside of the band."""
    low, high = settings.rates
    rates = rates_of(archive, {item.name for item in [*data.train, *data.validation]})
    if any(not low <= rate <= high for rate in rates):
        raise InputError(
            f"{archive} holds files at rate indices {min(rates)} to {max(rates)}, and the band is "
            f"{low} to {high}: give --rates {min(rates)} {max(rates)}"
        )


def check_data(data: Halves, settings: HeadSettings) -> None:
    """Raise InputError for images that such a head cannot be trained on, whatever their files are.

    A detector needs an object to train on, and one to score with. A head on pixels sees originals:
    they need to be as `pixel_dataset.original_pixels` takes them, and all gray or all RGB.
    """
    if settings.detects:
        for items, purpose in ((data.train, "to train on"), (data.validation, "held out")):
            labels = (item.read().labels for item in items)
            if not any(each is not None and len(each) for each in labels):
                raise InputError(
                    f"a detector needs objects, and no image {purpose} has one: give more images"
                )
    if not settings.maps:
        paths: dict[int, Path] = {}
        for item in [*data.train, *data.validation]:
            paths.setdefault(planes_of(item.image), item.image)
        if len(paths) > 1:
            raise InputError(
                f"{paths[1]} has one channel and {paths[3]} has three, and a head on pixels takes "
                "one kind: convert all to gray, or all to RGB"
            )


def _datasets(
    data: Halves, archive: Path, settings: HeadSettings, device: str, cache: Path | None
) -> tuple[TaskDataset | PixelDataset, dict[str, TaskDataset | PixelDataset]]:
    """What to train on, and by label what to score on."""
    crops = None
    if settings.crop is not None:
        crops = partial(random_crop, size=(settings.crop, settings.crop))
    if settings.maps:
        of_features = partial(TaskDataset, maps=settings.maps, cache=cache, device=device)
        return of_features(data.train, archive, mirror=True, transform=crops), {
            "": of_features(data.validation, archive)
        }
    of_pixels = partial(PixelDataset, cache=cache, device=device)
    # It is to judge other codecs, and images that were not coded.
    training = of_pixels(data.train, archive, originals=True, mirror=True, transform=crops)
    return training, {
        "": of_pixels(data.validation, archive),
        "originals": of_pixels(data.validation, None, originals=True),
    }


def predicted(head: Head, sample: TaskSample) -> Prediction:
    """What a head says of a sample with the maps that it takes."""
    if head.takes_pixels:
        return head.predict_pixels(sample.maps["pixels"])
    return head.predict(features_of(sample))[0]


def detected(head: Head, sample: TaskSample) -> Detection:
    """What a detector finds in a sample with the maps that it takes."""
    if head.takes_pixels:
        return head.detect_pixels(sample.maps["pixels"])
    return head.detect(features_of(sample))[0]


def features_of(sample: TaskSample) -> Features:
    """The maps of a sample as decoding gives them."""
    maps = OrderedDict((name, each[None]) for name, each in sample.maps.items())
    flat = np.asarray(sample.flat)[None]
    return Features(maps, sample.size, (sample.rate_index,), sample.fingerprint, flat)


def predictions(
    head: Head, data: TaskDataset | PixelDataset
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The rate index of each sample, the mask that the head predicts, and the true one."""
    for k in range(len(data)):
        sample = data[k]
        if sample.truth.mask is None:
            raise InputError(f"a head for segmentation needs masks, and {sample.name} has none")
        yield sample.rate_index, torch.from_numpy(predicted(head, sample).mask), sample.truth.mask


def mean_scores(
    label: str, found: Iterable[tuple[int, Tensor, Tensor]], settings: HeadSettings
) -> dict[str, float]:
    """Means of IoU, mIoU and Dice over `predictions` of what has this label.

    Samples with the label "" are those of files. They are given together and by parts of the band.
    """
    groups: dict[str, list[Overlap]] = {}
    for rate, mask, truth in found:
        for name in groups_of(label, rate, settings):
            groups.setdefault(name, []).append(overlap(mask, truth))
    means = {}
    for group, each in groups.items():
        for measure, name in (("IoU", "iou"), ("mIoU", "miou"), ("Dice", "dice")):
            mean = float(np.mean([getattr(one, name) for one in each]))
            means[_labelled(measure, group)] = round(mean, 4)
    return means


def scores_of_classes(
    label: str, found: Iterable[tuple[int, Tensor, Tensor]], settings: HeadSettings
) -> dict[str, float]:
    """As `mean_scores`, for several classes: mIoU over classes and accuracy, of all pixels."""
    groups: dict[str, list[Confusion]] = {}
    for rate, mask, truth in found:
        counts = confusion(mask, truth, len(settings.classes))
        for name in groups_of(label, rate, settings):
            groups.setdefault(name, []).append(counts)
    scores = {}
    for group, each in groups.items():
        of_all = class_scores(each)
        scores[_labelled("mIoU", group)] = round(of_all.miou, 4)
        scores[_labelled("accuracy", group)] = round(of_all.accuracy, 4)
    return scores


def detections(
    head: Head, data: TaskDataset | PixelDataset
) -> Iterator[tuple[int, Detection, GroundTruth]]:
    """The rate index of each sample, what a detector finds in it, and what is there."""
    for k in range(len(data)):
        sample = data[k]
        yield sample.rate_index, detected(head, sample), sample.truth


def detection_scores(
    label: str,
    found: Iterable[tuple[int, Detection, GroundTruth]],
    settings: HeadSettings,
) -> dict[str, float]:
    """Average precision of boxes, and of masks where they are found, over what has this label.

    Labels and parts of the band are as for `mean_scores`. Parts without an object have no scores.
    """
    masks = DETECTORS[settings.network][0]
    meters: dict[str, DetectionMeter] = defaultdict(lambda: DetectionMeter(masks=masks))
    for rate, each, truth in found:
        target = {"boxes": truth.boxes, "labels": truth.labels, "masks": truth.instances}
        for group in groups_of(label, rate, settings):
            meters[group].add(asdict(each), target)
    scores = {}
    for group, meter in meters.items():
        if not meter.objects:
            continue
        precision = meter.scores()
        for kind, values in (("box", precision.boxes), ("mask", precision.masks)):
            if values is not None:
                for at, value in zip(("", "50", "75"), astuple(values), strict=True):
                    scores[_labelled(f"{kind} AP{at}", group)] = round(value, 4)
    return scores


def _labelled(measure: str, group: str) -> str:
    return f"{measure}, {group}" if group else measure


def groups_of(label: str, rate: int, settings: HeadSettings) -> list[str]:
    """The labels that a sample is scored under: its own, and for files a part of the band."""
    if label:
        return [label]
    low, high = settings.rates
    edges = [low + (high + 1 - low) * k // BANDS for k in range(BANDS + 1)]
    parts = zip(edges, edges[1:], strict=False)
    return [label, *(f"rates {a} to {b - 1}" for a, b in parts if a <= rate < b)]


def same_settings(path: Path, settings: dict[str, object], made: str) -> None:
    """Write down the settings of a run, or compare them with those that are written down.

    made  what the run leaves beside the file, for people

    Raises InputError if they differ, and if the file is damaged.
    """
    text = json.dumps(settings, indent=1)
    if not path.exists():
        write_whole(path, text.encode())
        return
    try:
        earlier = json.loads(path.read_bytes())
        given = json.loads(text)
        differing = [name for name, value in given.items() if earlier[name] != value]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged: delete it, or name another folder") from error
    if differing:
        name = differing[0]
        raise InputError(
            f"{path.parent} holds a run with other settings, {name} {earlier[name]!r} and not "
            f"{given[name]!r}: give the same, name another folder, or delete {path.name} and {made}"
        )
