"""Faster R-CNN and Mask R-CNN on feature maps of files, or on pixels with a stem of their own.

The parts are torchvision's. Its `GeneralizedRCNN` is not used, since it resizes and normalises
images (pytorch/vision#8840). Two things need care:

- `AnchorGenerator` divides the size of the image by that of a map to get the stride. That is wrong
  for sides that are no multiples of it. So maps are padded to multiples of 64 samples, and it is
  told the padded size.
- An element of a map stands for a block of samples, and lies in the middle of it. `BoxPooler` and
  all strided convolutions keep to that. Anchors do not: torchvision centres them on the first
  sample of the block. The shift is the same everywhere, so the network learns it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, roi_align
from torchvision.ops.poolers import LevelMapper

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.model.layers import RateScale
from mvmic_codec.tasks.average_precision import (
    MOST_DETECTIONS,
    DetectionScores,
    detection_scores,
)
from mvmic_codec.tasks.crops import SAMPLES, Batch
from mvmic_codec.tasks.heads import other_model
from mvmic_codec.tasks.pixels import PIXELS, StemConfig
from mvmic_codec.tasks.segmentation import ResidualBlock

# Channels of the maps that the pyramid starts from, of both models.
CHANNELS = {"s8": 128, "s16": 224}
# The pyramid's levels are at 1/8, 1/16, 1/32 and 1/64: powers of 2. They have WIDTH channels. The
# maps that the two last come from have COARSE_WIDTH.
LEVELS = (3, 4, 5, 6)
COARSE_WIDTH = 96
WIDTH = 64
COARSEST = 64
# Sides of anchors at each level in samples of the image, and their ratios of height to width.
ANCHOR_SIZES = ((32, 45), (64, 91), (128, 181), (256, 362))
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
# At most so many are judged in an image: a few things need fewer than COCO's crowds.
PROPOSALS = 250
# Sides of what is pooled for a box, and for its mask.
BOX_SIDE = 7
MASK_SIDE = 14
# Detections of less than this are not given.
LEAST_SCORE = 0.05
# About half of the multiply-adds of the rest of a detector.
LIGHT = StemConfig((12, 24, 48, 96), (0, 0, 0, 0))
# About the multiply-adds of decoding as far as s16 and s8, with residual bodies like a decoder's.
DEEP = StemConfig((32, 64, 128, 224), (0, 0, 2, 3))

Targets = list[dict[str, Tensor]]
Detections = list[dict[str, Tensor]]


class PixelStem(nn.Module):
    """Pixels -> maps like s8 and s16 of features: as many channels, at the same strides.

    planes  3 for colour, 1 for gray
    """

    def __init__(self, config: StemConfig = LIGHT, planes: int = 3) -> None:
        super().__init__()
        self.planes = planes
        # Pixels of the training images get mean 0 and standard deviation 1.
        self.normalise = nn.BatchNorm2d(planes, affine=False)
        inputs = (planes, *config.widths)
        to2, to4, to8, self.to16 = (
            nn.Sequential(
                halved(inputs[k], width), *[ResidualBlock(width) for _ in range(config.blocks[k])]
            )
            for k, width in enumerate(config.widths)
        )
        self.to8 = nn.Sequential(to2, to4, to8)
        self.leave8 = nn.Conv2d(config.widths[2], CHANNELS["s8"], 1)
        self.leave16 = nn.Conv2d(config.widths[3], CHANNELS["s16"], 1)

    def forward(self, pixels: Tensor) -> OrderedDict[str, Tensor]:
        """Maps of pixels [N,P,H,W] in 0..1 whose sides are multiples of 16."""
        at8 = self.to8(self.normalise(pixels))
        return OrderedDict(s8=self.leave8(at8), s16=self.leave16(self.to16(at8)))


def halved(inputs: int, outputs: int) -> nn.Sequential:
    """[N,inputs,h,w] with even sides -> [N,outputs,h/2,w/2].

    The window of 4x4 has its middle where that of each 2x2 is. One of 3x3 is half a step off.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class BoxPooler(nn.Module):
    """Pools boxes from the level that fits their size, each to [64,side,side].

    In place of torchvision's `MultiScaleRoIAlign`, which takes the first element of a map to lie
    at the image's corner. Here it is the middle of a block: half a stride further.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.level_of = LevelMapper(LEVELS[0], LEVELS[-1])

    def forward(
        self, levels: Mapping[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Levels [N,64,h,w] and boxes [K,4] of each of N images -> [sum of K,64,side,side]."""
        images = [torch.full_like(each[:, :1], n) for n, each in enumerate(boxes)]
        rows = torch.cat([torch.cat(images), torch.cat(boxes)], dim=1)
        chosen = self.level_of(boxes)
        first = next(iter(levels.values()))
        pooled = first.new_zeros(len(rows), WIDTH, self.side, self.side)
        for k, (level, values) in enumerate(zip(LEVELS, levels.values(), strict=True)):
            here = torch.where(chosen == k)[0]
            pooled[here] = roi_align(values, rows[here], self.side, 2.0**-level, 2, aligned=True)
        return pooled


class Pyramid(nn.Module):
    """Maps at 1/8 and 1/16 -> a feature pyramid (1612.03144) at 1/8, 1/16, 1/32 and 1/64."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.ModuleDict({name: RateScale(c) for name, c in CHANNELS.items()})
        self.to32 = halved(CHANNELS["s16"], COARSE_WIDTH)
        self.to64 = halved(COARSE_WIDTH, COARSE_WIDTH)
        # From random weights a network learns sooner with norms (1811.08883).
        self.pyramid = FeaturePyramidNetwork(
            [*CHANNELS.values(), COARSE_WIDTH, COARSE_WIDTH], WIDTH, norm_layer=nn.BatchNorm2d
        )

    def forward(self, maps: Mapping[str, Tensor], rates: Tensor) -> OrderedDict[str, Tensor]:
        """Levels [N,64,h,w] by name, finest first."""
        levels = OrderedDict((n, m(maps[n], rates)) for n, m in self.rates.items())
        levels["s32"] = self.to32(levels["s16"])
        levels["s64"] = self.to64(levels["s32"])
        pyramid: OrderedDict[str, Tensor] = self.pyramid(levels)
        return pyramid


class Detector(nn.Module):
    """Faster R-CNN (1506.01497), or Mask R-CNN (1703.06870) with `masks`.

    classes      of things to be found, whose labels are 1 to `classes`; 0 is the background
    masks        whether a mask is found for each box
    stem         None for maps s8 and s16 of features; a stem for pixels
    fingerprint  the model whose features it takes, such as that of a `TaskDataset`; None for pixels
    """

    def __init__(
        self,
        classes: int = 1,
        *,
        masks: bool = False,
        stem: PixelStem | None = None,
        fingerprint: bytes | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.masks, self.fingerprint = classes, masks, fingerprint
        self.stem = stem
        self.pyramid = Pyramid()
        self.rpn = _proposals()
        self.roi_heads = _heads(classes + 1, masks)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the maps that the network looks at."""
        return tuple(CHANNELS) if self.stem is None else (PIXELS,)

    def forward(
        self,
        maps: Mapping[str, Tensor],
        rates: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Targets | None = None,
    ) -> dict[str, Tensor] | Detections:
        """Losses by name in training, and detections by image in evaluation.

        maps     by name, [N,C,h,w]; those that `needs` names. Maps of smaller images are padded
                 to the largest, at the right and below.
        rates    [N], rate indices of the files, 0 to 63
        sizes    N times height and width of the image in samples
        targets  in training, for each image boxes [K,4] float32 (left, top, right, bottom in
                 samples), labels [K] int64, and masks [K,H,W] or larger where masks are trained.
                 K may be 0.

        A detection has boxes [K,4], labels [K], scores [K] (0 to 1, falling), and for Mask R-CNN
        masks [K,H,W] bool.

        Raises InputError if maps or targets are missing or do not fit.
        """
        self._check_maps(maps, sizes)
        height, width = (-(-max(side) // COARSEST) * COARSEST for side in zip(*sizes, strict=True))
        if self.training:
            targets = self.checked(targets, sizes)
            if len(sizes) * height * width == COARSEST**2:
                raise InputError(
                    f"one image within {COARSEST}x{COARSEST} is too little for a training step; "
                    "use larger images or batches"
                )
        padded = {name: _padded(name, maps[name], height, width) for name in self.needs}
        levels = self.pyramid(padded if self.stem is None else self.stem(padded[PIXELS]), rates)
        # Only its shape is read.
        canvas = rates.new_empty(1).expand(len(sizes), 1, height, width)
        images = ImageList(canvas, list(sizes))
        # Places of up to a thousand samples do not fit into the 8 bits of bfloat16.
        with torch.autocast(rates.device.type, enabled=False):
            levels = OrderedDict((name, level.float()) for name, level in levels.items())
            proposals, losses = self.rpn(images, levels, targets)
            found, more_losses = self.roi_heads(levels, proposals, images.image_sizes, targets)
        if self.training:
            return {**losses, **more_losses}
        for each, size in zip(found, sizes, strict=True):
            if self.masks:
                each["masks"] = _pasted(each["masks"], each["boxes"], size)
        detections: Detections = found
        return detections

    def _check_maps(self, maps: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]]) -> None:
        for name in self.needs:
            if name not in maps:
                raise InputError(
                    f"this detector looks at maps {' and '.join(self.needs)}, "
                    f"but was given {' and '.join(maps) or 'none'}; decode the files with those"
                )
            channels = CHANNELS[name] if self.stem is None else self.stem.planes
            sides = tuple(-(-max(side) // SAMPLES[name]) for side in zip(*sizes, strict=True))
            if tuple(maps[name].shape) != (len(sizes), channels, *sides):
                raise InputError(
                    f"map {name} has the shape {list(maps[name].shape)}, but images of these "
                    f"sizes have {[len(sizes), channels, *sides]}"
                )

    def checked(self, targets: Targets | None, sizes: Sequence[tuple[int, int]]) -> Targets:
        """Targets as in `forward`. Raises InputError if they cannot be learned from."""
        if targets is None or len(targets) != len(sizes):
            raise InputError(
                f"a detector learns from boxes in each of {len(sizes)} images, but got those of "
                f"{0 if targets is None else len(targets)}; name data that has boxes"
            )
        for target, size in zip(targets, sizes, strict=True):
            boxes, labels = target["boxes"], target["labels"]
            if boxes.shape != (len(labels), 4):
                raise InputError(
                    f"boxes have the shape {list(boxes.shape)}, but {len(labels)} labels "
                    f"need {[len(labels), 4]}"
                )
            if not bool((boxes[:, 2:] > boxes[:, :2]).all()):
                raise InputError("a box has no width or no height: leave it out of the targets")
            if not bool(((labels >= 1) & (labels <= self.classes)).all()):
                raise InputError(
                    f"labels of this detector run from 1 to {self.classes}, "
                    f"but there is one of {int(labels[(labels < 1) | (labels > self.classes)][0])}"
                )
            masks = target.get("masks")
            if self.masks and (
                masks is None or len(masks) != len(labels) or not _covers(masks.shape[1:], size)
            ):
                raise InputError(
                    "Mask R-CNN needs a mask of the size of the image for each box; "
                    "train Faster R-CNN where there are boxes alone"
                )
        return targets


def loss_of(model: Detector, batch: Batch) -> Tensor:
    """The sum of the losses of a batch, for a training step.

    Raises InputError as `Detector.forward` and for features of another model, and MvmError if a
    loss is not finite.
    """
    device = next(model.parameters()).device
    targets = [
        {name: each.to(device) for name, each in target.items() if model.masks or name != "masks"}
        for target in batch["targets"] or []
    ]
    losses: dict[str, Tensor] = model(*_inputs(model, batch), targets)
    broken = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
    if broken:
        raise MvmError(
            f"training failed: {' and '.join(broken)} of the detector is not finite; "
            "use a lower learning rate"
        )
    return torch.stack(list(losses.values())).sum()


@torch.no_grad()
def detect(model: Detector, batch: Batch) -> Detections:
    """Detections in each image, on the CPU. The model stays in the mode that it is in.

    Raises InputError as `Detector.forward`, and for features of another model.
    """
    training = model.training
    model.eval()
    try:
        found = model(*_inputs(model, batch))
    finally:
        model.train(training)
    return [{name: each.cpu() for name, each in image.items()} for image in found]


def multiply_adds(model: Detector, size: tuple[int, int]) -> int:
    """The multiply-adds of convolutions and products for one image (H,W), by torch.

    With as many proposals as the network makes at most, and for Mask R-CNN the mask of one
    detection. The model is left as it was.
    """
    shadow = deepcopy(model).to("meta").eval()
    height, width = (-(-side // COARSEST) * COARSEST for side in size)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        if shadow.stem is None:
            maps = OrderedDict(
                (name, torch.empty(1, channels, height // SAMPLES[name], width // SAMPLES[name]))
                for name, channels in CHANNELS.items()
            )
        else:
            maps = shadow.stem(torch.empty(1, shadow.stem.planes, height, width))
        levels = shadow.pyramid(maps, torch.empty(1))
        shadow.rpn.head(list(levels.values()))
        heads = shadow.roi_heads
        heads.box_predictor(heads.box_head(torch.empty(PROPOSALS, WIDTH, BOX_SIDE, BOX_SIDE)))
        if shadow.masks:
            heads.mask_predictor(heads.mask_head(torch.empty(1, WIDTH, MASK_SIDE, MASK_SIDE)))
    return int(counter.get_total_flops()) // 2


def score(model: Detector, batches: Iterable[Batch]) -> DetectionScores:
    """Average precision over batches, of boxes and for Mask R-CNN of masks.

    Errors as `detect` and `average_precision.detection_scores`.
    """

    def pairs() -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        for batch in batches:
            targets = model.checked(batch["targets"], batch["sizes"])
            found = detect(model, batch)
            for each, target, (height, width) in zip(found, targets, batch["sizes"], strict=True):
                # Masks of a batch are padded to its largest image.
                masks = {"masks": target["masks"][:, :height, :width] > 0} if model.masks else {}
                yield each, {**target, **masks}

    return detection_scores(pairs(), masks=model.masks)


def _inputs(
    model: Detector, batch: Batch
) -> tuple[dict[str, Tensor], Tensor, list[tuple[int, int]]]:
    """What `Detector.forward` takes beside targets, on the model's device."""
    if model.fingerprint is not None and model.fingerprint != batch["fingerprint"]:
        raise InputError(other_model(model.fingerprint.hex(), batch["fingerprint"].hex()))
    device = next(model.parameters()).device
    maps = {name: each.to(device) for name, each in batch["maps"].items()}
    return maps, batch["rate_indices"].to(device), batch["sizes"]


def _covers(sides: Sequence[int], size: Sequence[int]) -> bool:
    return len(sides) == 2 and sides[0] >= size[0] and sides[1] >= size[1]


def _padded(name: str, values: Tensor, height: int, width: int) -> Tensor:
    """A map with zeros below and at the right, for an image of that many samples."""
    rows, columns = height // SAMPLES[name], width // SAMPLES[name]
    return F.pad(values, (0, columns - values.shape[3], 0, rows - values.shape[2]))


def _proposals() -> RegionProposalNetwork:
    """A network that proposes boxes. Thresholds are those of torchvision's Faster R-CNN."""
    anchors = AnchorGenerator(ANCHOR_SIZES, (ANCHOR_RATIOS,) * len(ANCHOR_SIZES))
    return RegionProposalNetwork(
        anchors,
        RPNHead(WIDTH, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        # By level, before non-maximum suppression.
        pre_nms_top_n={"training": 500, "testing": 500},
        post_nms_top_n={"training": PROPOSALS, "testing": PROPOSALS},
        nms_thresh=0.7,
    )


def _heads(labels: int, masks: bool) -> RoIHeads:
    """What judges proposals, and draws masks. Thresholds are those of torchvision's R-CNNs."""
    hidden = 256
    heads = RoIHeads(
        BoxPooler(BOX_SIDE),
        TwoMLPHead(WIDTH * BOX_SIDE**2, hidden),
        FastRCNNPredictor(hidden, labels),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=64,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=LEAST_SCORE,
        nms_thresh=0.5,
        detections_per_img=MOST_DETECTIONS,
    )
    if masks:
        heads.mask_roi_pool = BoxPooler(MASK_SIDE)
        heads.mask_head = MaskRCNNHeads(WIDTH, (WIDTH,) * 4, dilation=1)
        heads.mask_predictor = MaskRCNNPredictor(WIDTH, WIDTH, labels)
    return heads


def _pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [K,1,28,28] of boxes as bool [K,H,W]. One by one: as floats they take 4 times more."""
    whole = torch.zeros(len(boxes), *size, dtype=torch.bool, device=boxes.device)
    for row, mask, box in zip(whole, masks, boxes, strict=True):
        row.copy_(paste_masks_in_image(mask[None], box[None], size)[0, 0] > 0.5)
    return whole
