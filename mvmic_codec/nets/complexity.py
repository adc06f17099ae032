"""Multiply-adds for each pixel, counted from a model's shape."""

from __future__ import annotations

from .entropy import PASSES
from .model import Shape
from .transforms import BLOCK


def transform_macs(shape: Shape) -> float:
    """Of analysis, and of synthesis without its injection of the linear picture (the same)."""
    c, w8, w16 = shape.latent, shape.width8, shape.width16
    at8 = 192 * w8 + 2 * 9 * w8**2 * shape.blocks8
    at16 = 4 * w8 * w16 + 2 * 9 * w16**2 * shape.blocks16 + w16 * c + 768 * c
    borders = 2 * 3 * BLOCK
    return at8 / 64 + at16 / 256 + borders


def entropy_macs(shape: Shape) -> float:
    """Of hyper-synthesis and all context passes."""
    c, z, w, near = shape.latent, shape.hyper, shape.context, shape.linear
    at64 = 9 * z * (4 * w + PASSES * near * 4)
    merged = w + near + c
    merge = (PASSES - 1) * 9 * merged * w
    each = PASSES * (9 * w * w + w * c + w * near)
    predict = 9 * near * near * sum(range(1, PASSES))
    return at64 / 4096 + (merge + each + predict) / 1024


def decode_macs(shape: Shape) -> float:
    """Multiply-adds for each pixel to decode."""
    inject = 192 * shape.width8 / 64
    return transform_macs(shape) + inject + entropy_macs(shape)


def encode_macs(shape: Shape) -> float:
    """Multiply-adds for each pixel to encode: analysis, hyper-analysis and the entropy model."""
    width = 96
    hyper = (shape.latent * width + 2 * 9 * width**2) / 256
    hyper += (16 * width * shape.hyper + shape.linear * 16 * shape.hyper) / 4096
    return transform_macs(shape) + hyper + entropy_macs(shape)
