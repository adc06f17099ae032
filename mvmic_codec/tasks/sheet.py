"""A sheet of overlays: where a head does best, and where worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mvmic_codec.api import decode, decode_features, encode
from mvmic_codec.errors import InputError
from mvmic_codec.tasks.heads import Head
from mvmic_codec.tasks.layouts import Item
from mvmic_codec.tasks.metrics import overlap
from mvmic_codec.tasks.overlay import draw_overlay
from mvmic_codec.tasks.pixel_dataset import as_planes
from mvmic_codec.tasks.tables import ImageSet

# Pixels: width of a picture, and height of the line of text above it.
_WIDTH, _TEXT = 480, 24
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class Scored:
    """An overlay of one image, and how well the head did there: IoU, 0 to 1."""

    name: str
    iou: float
    overlay: Image.Image


def scored(images: ImageSet, item: Item, head: Head, index: int, device: str | None) -> Scored:
    """What a head for one class finds in an image's file at a rate index, over the original.

    Raises InputError for an image without a mask. Errors as `encode` and `Head.predict`.
    """
    mask = item.read().mask
    if mask is None:
        raise InputError(f"{item.image} has no mask to compare with")
    image = images.load(item)
    data = encode(image, rate_index=index, device=device)
    if head.takes_pixels:
        planes = as_planes(decode(data, device=device), item.image) / 255
        prediction = head.predict_pixels(planes)
    else:
        features = decode_features(data, head.feature_maps(), device=device)
        prediction = head.predict(features)[0]
    iou = overlap(torch.from_numpy(prediction.mask), mask).iou
    overlay = draw_overlay(image, mask=prediction.mask, truth=np.asarray(mask) == 1)
    return Scored(item.name, iou, overlay)


def draw_sheet(scored: Sequence[Scored], count: int) -> Image.Image:
    """The `count` best on the left and the `count` worst on the right, each with its IoU above.

    The best are in falling order, the worst in rising order. Images of a set of fewer than
    2 * count stand on one side alone: each is shown once, at most.
    """
    ordered = sorted(scored, key=lambda each: each.iou, reverse=True)
    best = ordered[: min(count, -(-len(ordered) // 2))]
    worst = ordered[len(best) :][::-1][:count]
    columns = [[_tile(each, label) for each in group] for label, group in _sides(best, worst)]
    height = max(sum(tile.height for tile in column) for column in columns)
    sheet = Image.new("RGB", (_WIDTH * len(columns), height), _PAPER)
    for k, column in enumerate(columns):
        top = 0
        for tile in column:
            sheet.paste(tile, (k * _WIDTH, top))
            top += tile.height
    return sheet


def _sides(best: list[Scored], worst: list[Scored]) -> list[tuple[str, list[Scored]]]:
    sides = [("best", best), ("worst", worst)]
    return [(label, group) for label, group in sides if group]


def _tile(scored: Scored, label: str) -> Image.Image:
    """A picture of _WIDTH pixels below a line of text."""
    height = max(1, round(scored.overlay.height * _WIDTH / scored.overlay.width))
    tile = Image.new("RGB", (_WIDTH, _TEXT + height), _PAPER)
    text = f"{label}: IoU {scored.iou:.3f}, {scored.name}"
    ImageDraw.Draw(tile).text((4, 4), text, _INK, ImageFont.load_default(14))
    tile.paste(scored.overlay.resize((_WIDTH, height), Image.Resampling.LANCZOS), (0, _TEXT))
    return tile
