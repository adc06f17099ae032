"""A task to train a codec with: L = R + lambda1 D + lambda2 L_task, stage 1 of the paper.

`training.loop` has R + lambda1 D and adds the loss that a task here gives. A new model has a new
head, trained along on the model's own features s16. A released model has statistics of its
features, so a head that was trained on its files can judge, as it is, while an encoder is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mvmic_codec.bitstream.grid import UNIT
from mvmic_codec.errors import InputError
from mvmic_codec.features import statistics
from mvmic_codec.features.statistics import LIMIT, Statistics
from mvmic_codec.rate import RATES
from mvmic_codec.tasks import layouts
from mvmic_codec.tasks.heads import Head
from mvmic_codec.tasks.layouts import DataSet, Item
from mvmic_codec.tasks.segmentation import HeadConfig, SegmentationHead, size_of
from mvmic_codec.tasks.train import segmentation_loss
from mvmic_codec.tasks.truth import IGNORED
from mvmic_codec.training.images import as_gray, as_planes, fill_flat, load_planes
from mvmic_codec.training.loop import Config

# By name, what reads a folder of images and one of masks, and how many logits its classes take.
LAYOUTS: dict[str, tuple[Callable[[Path, Path], DataSet], int]] = {
    "folders": (layouts.folder_of_masks, 1),
    "camvid": (layouts.camvid, len(layouts.CAMVID)),
}
MAP = "s16"


@dataclass(frozen=True)
class Masked:
    """An image as networks see it, uint8 or uint16 [C,H,W], and the class of each pixel [H,W]."""

    image: npt.NDArray[np.generic]
    mask: npt.NDArray[np.uint8]


class NewHead(nn.Module):
    """A head for features of a model in training.

    Such a model has no statistics yet: each channel of a batch is normalised by its own mean and
    deviation (BatchNorm without a scale), then clamped as features from files are.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.head = SegmentationHead(HeadConfig({MAP: channels}, classes))

    def forward(self, s16: Tensor, rates: Tensor, size: tuple[int, int]) -> Tensor:
        """Features [M,C,h,w], rate indices [M], image size (H,W) -> logits [M,K,H,W]."""
        maps = {MAP: self.normalise(s16.float()).clamp(-LIMIT, LIMIT)}
        logits: Tensor = self.head(maps, rates, size)
        return logits


class FrozenHead(nn.Module):
    """A trained head on features of a released model. Nothing in it moves."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, head: Head, measured: Statistics) -> None:
        super().__init__()
        self.head = head.network.eval().requires_grad_(False)
        for name, table in (("mean", measured.mean), ("deviation", measured.deviation)):
            by_rate = [measured.at(rate, table[MAP]) for rate in range(RATES)]
            self.register_buffer(name, torch.from_numpy(np.stack(by_rate))[..., None, None])

    def train(self, mode: bool = True) -> FrozenHead:
        """It stays in evaluation mode."""
        return self

    def forward(self, s16: Tensor, rates: Tensor, size: tuple[int, int]) -> Tensor:
        """As `NewHead`."""
        x = (s16.float() - self.mean[rates]) / self.deviation[rates]
        logits: Tensor = self.head({MAP: x.clamp(-LIMIT, LIMIT)}, rates, size)
        return logits


class JointTask:
    """Crops with masks, and a head that judges their features; see `training.loop.Task`.

    network  called with features s16, rate indices and the size of crops
    size     the side of crops, a multiple of 64
    """

    def __init__(
        self,
        images: Sequence[Masked],
        network: nn.Module,
        lambda2: float,
        batch: int,
        size: int,
    ) -> None:
        # At 1/64 BatchNorm needs more than one value of each channel.
        if size < UNIT or size % UNIT or batch * (size // UNIT) ** 2 < 2:
            raise InputError(
                f"crops with masks have a side that is a multiple of {UNIT}, and one of {UNIT} "
                f"needs 2 in a batch; got {batch} of {size}"
            )
        self.images = [padded(each, size) for each in images]
        self.network, self.lambda2 = network.train(), lambda2
        self.batch, self.size = batch, size

    def crops(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches of random crops, planes [M,P,s,s] in 0..1 and masks int64 [M,s,s].

        Half of them are mirrored, the image and not its features.
        """
        rng = np.random.default_rng(seed)
        while True:
            drawn = []
            for _ in range(self.batch):
                each = self.images[int(rng.integers(len(self.images)))]
                height, width = each.mask.shape
                top, left = (int(rng.integers(side - self.size + 1)) for side in (height, width))
                part = cut(each, top, left, self.size)
                drawn.append(mirrored(part) if rng.random() < 0.5 else part)
            yield as_batch(drawn)

    def losses(self, s16: Tensor, rate: Tensor, mask: Tensor) -> Tensor:
        """The loss of each crop [M], of features [M,C,h,w] and rate indices [M]."""
        logits = self.network(s16, rate, size_of(mask[:, None]))
        each = zip(logits.float().split(1), mask.split(1), strict=True)
        return torch.stack([segmentation_loss(*one) for one in each])


def new_task(config: Config) -> JointTask:
    """The task of a new model, with a fresh head. It learns from the training half alone.

    Raises InputError as `halves_of` does, and for crops that are too small.
    """
    settings = config.task
    assert settings is not None
    train, _ = halves_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = NewHead(config.shape.width16, LAYOUTS[settings.layout][1])
    masked = load_masked(train, config.gray)
    return JointTask(masked, network, settings.lambda2, settings.batch, config.crop)


def frozen_network(head: Head) -> FrozenHead:
    """A head to train an encoder with. Raises InputError unless it takes s16 alone."""
    if head.feature_maps() != (MAP,):
        raise InputError(
            f"an encoder is trained with a head on {MAP} alone, and this one takes "
            f"{', '.join(head.feature_maps())}"
        )
    return FrozenHead(head, statistics.load(bytes.fromhex(head.card.fingerprint)))


def check_classes(head: Head, layout: str) -> None:
    """Raise InputError for a head of other classes than masks of a layout have."""
    count, logits = len(head.card.classes), LAYOUTS[layout][1]
    if count != logits:
        raise InputError(
            f"the head tells {count} classes apart, and masks of the layout {layout} hold "
            f'{logits}: use another head, or set "layout" in the task of --config'
        )


def halves_of(config: Config) -> tuple[list[Item], list[Item]]:
    """Images with masks to train on, and those that are held out; see `layouts.split`.

    Raises InputError for an unknown layout, and as the layout does.
    """
    settings = config.task
    assert settings is not None
    if settings.layout not in LAYOUTS:
        raise InputError(
            f"a task has the layout {' or '.join(LAYOUTS)}, and not {settings.layout!r}"
        )
    read, _ = LAYOUTS[settings.layout]
    return layouts.split(read(Path(settings.data), Path(settings.masks)).items)


def load_masked(items: Sequence[Item], gray: bool) -> list[Masked]:
    """Images with masks, in memory. Flat areas are filled as an encoder fills them."""
    loaded = []
    for item in tqdm(items, unit="image", desc="with masks", disable=None):
        truth = item.read().mask
        assert truth is not None
        try:
            image = load_planes(item.image)
        except OSError as error:
            raise InputError(f"{item.image} cannot be read: {error}") from error
        loaded.append(Masked(fill_flat(planes_for(image, gray)), truth.numpy()))
    return loaded


def planes_for(image: npt.NDArray[np.generic], gray: bool) -> npt.NDArray[np.generic]:
    """Planes [C,H,W] as the model for gray images takes them, or else that for colour."""
    made: npt.NDArray[np.generic] = as_gray(image) if gray else image.repeat(3 // len(image), 0)
    return made


def padded(each: Masked, size: int) -> Masked:
    """At least as large as a crop: the image goes on as at its edges, where nothing is judged."""
    height, width = each.mask.shape
    sides = (0, max(0, size - height)), (0, max(0, size - width))
    return Masked(
        np.pad(each.image, ((0, 0), *sides), mode="edge"),
        np.pad(each.mask, sides, constant_values=IGNORED),
    )


def cut(each: Masked, top: int, left: int, size: int) -> Masked:
    """A square part."""
    at = slice(top, top + size), slice(left, left + size)
    return Masked(each.image[(slice(None), *at)], each.mask[at])


def mirrored(each: Masked) -> Masked:
    """From left to right."""
    return Masked(each.image[..., ::-1], each.mask[..., ::-1])


def as_batch(crops: Sequence[Masked]) -> tuple[Tensor, Tensor]:
    """Crops of one size as planes [M,P,s,s] in 0..1 and masks int64 [M,s,s]."""
    planes = [torch.from_numpy(as_planes(each.image, len(each.image))) for each in crops]
    masks = [torch.from_numpy(each.mask.astype(np.int64)) for each in crops]
    return torch.stack(planes), torch.stack(masks)
