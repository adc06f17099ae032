"""A trained head as a file: weights and a card that says what it is for.

The file is safetensors, with weights in half precision. Its metadata holds `card`, the fields of
`Card` as JSON, and `digest`, a SHA-256 over that JSON and all arrays.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mvmic_codec.errors import InputError, ModelError
from mvmic_codec.features.maps import Features
from mvmic_codec.model.arrays import fingerprint
from mvmic_codec.model.device import full_precision, pick_device
from mvmic_codec.model.encoder_file import NETWORKS
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks.pixels import DEEP, LIGHT, PIXELS, PixelNetwork
from mvmic_codec.tasks.segmentation import HeadConfig, SegmentationHead
from mvmic_codec.tasks.street import ErfNet, FeatureEntry, PixelEntry
from mvmic_codec.tasks.whole import write_whole

# Where the head that ships lies, and its name.
WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = "polyp"
NOTICE = "Not a medical device: for research only."
# Networks on decoded pixels, by their names in cards, and the maps that their stems make.
STEMS = {"pixels-light": LIGHT, "pixels-deep": DEEP}
MADE_BY_STEM = {"s16": 224}
# Networks that detect objects, on features and on pixels, by their names in cards: whether they
# find masks of them, and the stem.
DETECTORS = {
    f"{name}{'' if stem is None else f'-{stem}'}": (masks, stem)
    for name, masks in (("faster-rcnn", False), ("mask-rcnn", True))
    for stem in (None, *STEMS)
}
# The rate index that networks on pixels are given. One network judges the pixels of all codecs, so
# it is not told how an image was coded.
UNTOLD_RATE = 63


@dataclass(frozen=True)
class Card:
    """What a head is, what it was trained on, and what it takes.

    task         in a few words, such as "polyp segmentation"
    network      "fpn", a `SegmentationHead`, or "erfnet", an `ErfNet`, on features; on pixels
                 "pixels-light" or "pixels-deep", a `PixelNetwork` with that stem, or
                 "erfnet-pixels"; a name among DETECTORS, a `detection.Detector`
    fingerprint  16 hexadecimal digits: the model whose features it takes, or whose decoded pixels
                 it was trained on
    maps         channels of each map that it takes, by the name of the map. "pixels" alone is what
                 networks on pixels take
    classes      names of the classes. One means that class against the background
    width        of the trunk; an ErfNet and a detector have but one
    rates        lowest and highest rate index that it was trained on
    data         what it was trained on
    licence      what its training data allows
    scores       as measured, by what was measured
    notice       for everybody who uses it
    seen         images that it was trained on; see `layouts.marks_of`
    """

    task: str
    network: str
    fingerprint: str
    maps: dict[str, int]
    classes: list[str]
    width: int
    rates: list[int]
    data: str
    licence: str
    scores: dict[str, float]
    notice: str = NOTICE
    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prediction:
    """What a head says of one image.

    mask           uint8 [H,W], the number of the likeliest class. With one class 1 where it is
                   likelier than not, else 0
    probabilities  float32 [K,H,W], in 0..1
    """

    mask: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Detection:
    """What a detector finds in one image: K objects, the surest first.

    boxes   float32 [K,4]: left, top, right and bottom edge, in samples
    labels  int64 [K]: the number of the class, from 1
    scores  float32 [K], in 0..1
    masks   bool [K,H,W]; None for a Faster R-CNN
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Head:
    """A head that is ready to use. One for segmentation predicts, and a detector detects."""

    card: Card
    network: nn.Module

    def predict(self, features: Features) -> list[Prediction]:
        """What the head says of each image, at the image's size. Runs where the network is.

        Warns of rates that the head was not trained on. Raises InputError for features of another
        model, for features without a map that the head takes, and for a detector.
        """
        self.check_task(detects=False)
        self.check(features)
        maps = {name: features[name] for name in self.card.maps}
        return self._predictions(maps, features.rate_indices, features.size)

    def predict_pixels(self, planes: Tensor) -> Prediction:
        """What a head on pixels says of one image, given as planes [P,H,W] in 0..1.

        Raises InputError for a head on features, for gray planes where it takes colour or the
        reverse, and for a detector.
        """
        self.check_task(detects=False)
        self._check_pixels(planes)
        return self._predictions({PIXELS: planes[None]}, (UNTOLD_RATE,), _size_of(planes))[0]

    def detect(self, features: Features) -> list[Detection]:
        """What a detector finds in each image. Warnings and errors as `predict`.

        Raises InputError for a head for segmentation.
        """
        self.check_task(detects=True)
        self.check(features)
        maps = {name: features[name] for name in self.card.maps}
        return self._detections(maps, features.rate_indices, features.size)

    def detect_pixels(self, planes: Tensor) -> Detection:
        """What a detector on pixels finds in one image. Errors as `predict_pixels`.

        Raises InputError for a head for segmentation.
        """
        self.check_task(detects=True)
        self._check_pixels(planes)
        return self._detections({PIXELS: planes[None]}, (UNTOLD_RATE,), _size_of(planes))[0]

    @property
    def detects(self) -> bool:
        """Whether it is a detector, and not for segmentation."""
        return self.card.network in DETECTORS

    def check_task(self, *, detects: bool) -> None:
        """Raise InputError unless the head is a detector, or is for segmentation, as wanted."""
        if self.detects and not detects:
            raise InputError(
                f"the head is a detector, {self.card.network}, and gives no mask of the whole "
                "image: use a head that was trained with --network segmentation"
            )
        if detects and not self.detects:
            raise InputError(
                "the head is for segmentation and detects no objects: use a head that was trained "
                "with --network faster-rcnn or mask-rcnn"
            )

    def _check_pixels(self, planes: Tensor) -> None:
        if not self.takes_pixels:
            raise InputError(
                f"the head takes features, {', '.join(self.card.maps)}, and not pixels: use a head "
                "that was trained with --input pixels"
            )
        kinds = {1: "gray", 3: "colour"}
        wanted, given = self.card.maps[PIXELS], len(planes)
        if wanted != given:
            raise InputError(
                f"the head takes {kinds.get(wanted)} pixels, and the image is "
                f"{kinds.get(given)}: use a head for {kinds.get(given)} images"
            )

    @property
    def takes_pixels(self) -> bool:
        """Whether it takes decoded pixels in place of features."""
        return PIXELS in self.card.maps

    def feature_maps(self) -> tuple[str, ...]:
        """The maps to decode for it. Raises InputError for a head on pixels."""
        if self.takes_pixels:
            raise InputError(
                "the head takes decoded pixels and not features: use a head that was trained with "
                "--input features"
            )
        return tuple(self.card.maps)

    def _predictions(
        self, maps: dict[str, Tensor], rate_indices: Sequence[int], size: tuple[int, int]
    ) -> list[Prediction]:
        device = next(self.network.parameters()).device
        rates = torch.tensor(rate_indices, device=device)
        with full_precision(device):
            logits = self.network(
                {name: each.to(device) for name, each in maps.items()}, rates, size
            )
            one = logits.shape[1] == 1
            probabilities = logits.sigmoid() if one else logits.softmax(1)
            masks = probabilities[:, 0] > 0.5 if one else probabilities.argmax(1)
        return [
            Prediction(mask.to(torch.uint8).cpu().numpy(), each.cpu().numpy())
            for mask, each in zip(masks, probabilities, strict=True)
        ]

    def _detections(
        self, maps: dict[str, Tensor], rate_indices: Sequence[int], size: tuple[int, int]
    ) -> list[Detection]:
        device = next(self.network.parameters()).device
        rates = torch.tensor(rate_indices, device=device)
        with full_precision(device):
            found = self.network(
                {name: each.to(device) for name, each in maps.items()}, rates, [size] * len(rates)
            )
        return [
            Detection(
                each["boxes"].cpu().numpy(),
                each["labels"].cpu().numpy(),
                each["scores"].cpu().numpy(),
                each["masks"].cpu().numpy() if "masks" in each else None,
            )
            for each in found
        ]

    def check(self, features: Features) -> None:
        """Errors and warnings as `predict`, for features."""
        names = self.feature_maps()
        if features.fingerprint.hex() != self.card.fingerprint:
            raise InputError(other_model(self.card.fingerprint, features.fingerprint.hex()))
        missing = [name for name in names if name not in features.maps]
        if missing:
            raise InputError(
                f"the head takes maps that these features lack, {', '.join(missing)}: "
                f"ask for maps={names}"
            )
        low, high = self.card.rates
        outside = sorted({rate for rate in features.rate_indices if not low <= rate <= high})
        if outside:
            warnings.warn(
                f"the head was trained on rate indices {low} to {high}, and may do badly at "
                f"{', '.join(map(str, outside))}",
                stacklevel=3,
            )


def other_model(expected: str, got: str) -> str:
    """Why a head for features of the model `expected` refuses those of the model `got`."""
    kinds = {default_identity(gray).fingerprint: gray for gray in (True, False)}
    if expected in kinds and got in kinds:
        wanted, given = ("gray" if kinds[each] else "colour" for each in (expected, got))
        return (
            f"the head takes features of {wanted} images, and these are of a {given} image: "
            f"encode it as {wanted}, or use a head for {given} images"
        )
    return (
        f"the head takes features of model {expected}, and these are of model {got}: "
        "use a head that was trained for it"
    )


def make_network(card: Card) -> nn.Module:
    """The network of a card, with fresh weights. Raises ValueError for one that is unknown.

    Raises MvmError for a detector where torchvision or what else it needs is not installed.
    """
    count = len(card.classes)
    if card.network in DETECTORS:
        return _make_detector(card)
    if card.network == "fpn":
        return SegmentationHead(HeadConfig(card.maps, count, card.width))
    if card.network == "erfnet":
        return ErfNet(FeatureEntry(card.maps), count)
    if card.network == "erfnet-pixels":
        return ErfNet(PixelEntry(card.maps[PIXELS]), count)
    if card.network in STEMS:
        config = HeadConfig(MADE_BY_STEM, count, card.width)
        return PixelNetwork(STEMS[card.network], config, card.maps[PIXELS])
    raise ValueError(f"there is no network {card.network!r}")


def _make_detector(card: Card) -> nn.Module:
    """Errors as `make_network`."""
    # Heads for segmentation work without these packages.
    from mvmic_codec.evaluation import require

    require("torchvision", "pycocotools", extra="tasks")
    from mvmic_codec.tasks import detection

    masks, stem = DETECTORS[card.network]
    count = len(card.classes)
    if stem is None:
        if card.maps != detection.CHANNELS:
            raise ValueError(f"a detector takes the maps {detection.CHANNELS}, not {card.maps}")
        fingerprint = bytes.fromhex(card.fingerprint)
        return detection.Detector(count, masks=masks, fingerprint=fingerprint)
    config = {"pixels-light": detection.LIGHT, "pixels-deep": detection.DEEP}[stem]
    pixels = detection.PixelStem(config, card.maps[PIXELS])
    return detection.Detector(count, masks=masks, stem=pixels)


def _size_of(planes: Tensor) -> tuple[int, int]:
    """Height and width of planes [P,H,W]."""
    return planes.shape[1], planes.shape[2]


def save_head(head: Head, path: Path) -> None:
    """Write a head, whole or not at all. Its weights are rounded to half precision."""
    arrays = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in head.network.state_dict().items()
    }
    text = json.dumps(asdict(head.card))
    write_whole(path, save(arrays, {"card": text, "digest": digest(text, arrays)}))


def load_head(path: Path | str, device: str | None = None) -> Head:
    """Read a head. `device` is as for `decode_features`: None means CUDA if it works here.

    The path "polyp" means the head that ships, unless there is a file of that name.

    Raises InputError if there is no such file, and ModelError if it is damaged or no head.
    """
    path = Path(path)
    if path == Path(SHIPPED) and not path.is_file():
        path = WEIGHTS / f"{SHIPPED}.safetensors"
        if not path.is_file():
            raise InputError(
                "the head that ships is missing: install mvmic_codec again, or name the file of "
                "another head"
            )
    if not path.is_file():
        raise InputError(f"there is no head {path}; the one that ships is named {SHIPPED}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the head {path} is damaged: get it again") from error
    if "card" not in metadata:
        raise ModelError(f"{path} is not a head: it has no card")
    if any(name.startswith(NETWORKS) for name in arrays):
        raise ModelError(f"{path} is an encoder and not a head: name a file of `mvmic tasks train`")
    text = metadata["card"]
    if metadata.get("digest") != digest(text, arrays):
        raise ModelError(
            f"the head {path} is damaged, or its card was edited: get it again, or train it again"
        )
    try:
        card = Card(**json.loads(text))
        # Fresh networks draw random weights. That must not move the caller's random state.
        with torch.random.fork_rng(devices=[]):
            network = make_network(card)
        network.load_state_dict(arrays)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"the head {path} is not one that this version of mvmic_codec knows: update mvmic_codec"
        ) from error
    return Head(card, network.to(pick_device(device)).eval().requires_grad_(False))


def digest(card: str, arrays: dict[str, Tensor]) -> str:
    """64 hexadecimal digits that tell a head from any other."""
    return hashlib.sha256(card.encode() + fingerprint(arrays, {})).hexdigest()


def digest_of(head: Head) -> str:
    """The `digest` of a head that was read, wherever its network is."""
    state = {name: value.cpu() for name, value in head.network.state_dict().items()}
    return digest(json.dumps(asdict(head.card)), state)
