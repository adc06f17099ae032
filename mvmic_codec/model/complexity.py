"""How many multiply-adds a model takes for each pixel, counted from its shape."""

from __future__ import annotations

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.analysis import HYPER_WIDTH, LOW_CHROMA, LOW_LUMA
from mvmic_codec.model.definition import AREA, MODES, NODES
from mvmic_codec.model.schedule import SPATIAL_STEPS
from mvmic_codec.model.shape import Shape


def transform_macs(shape: Shape) -> float:
    """Multiply-adds of analysis and the block transform. Synthesis has these and more."""
    w8, w16, planes = shape.width8, shape.width16, shape.planes
    at8 = 64 * planes * w8 + 2 * 9 * w8 * w8 * shape.blocks8
    at16 = 4 * w8 * w16 + 2 * 9 * w16 * w16 * shape.blocks16 + w16 * planes * AREA
    lapped = planes * (2 * BLOCK + AREA)
    return at8 / 64 + at16 / 256 + lapped + block_macs(shape)


def block_macs(shape: Shape) -> float:
    """Multiply-adds of one mode's rotation of luma and of the rotation of chroma."""
    return AREA + float((shape.planes - 1) * shape.chroma)


def entropy_macs(shape: Shape) -> float:
    """Multiply-adds of hyper-synthesis, modes and all symbol groups."""
    c, z, w, low_freq = shape.latent, shape.hyper, shape.context, shape.near
    at64 = 9 * z * (4 * w + SPATIAL_STEPS * low_freq * 4)
    modes = 2 * w * 2 * NODES + 9 * w * (2 * w + 6 * MODES)
    merge = 9 * w * (SPATIAL_STEPS * (w + 2 * low_freq) + (SPATIAL_STEPS - 1) * (w + c - low_freq))
    each = SPATIAL_STEPS * (2 * 9 * w * w + w * c + w * low_freq)
    predict = 9 * low_freq * low_freq * sum(range(1, SPATIAL_STEPS))
    return at64 / 4096 + (modes + merge + each + predict) / 1024


def decode_macs(shape: Shape) -> float:
    """Multiply-adds for each pixel to decode."""
    mode = MODES * shape.width16 / AREA
    inject = shape.planes * shape.width8
    at2 = 2 * 9 * (4 * shape.planes * shape.width2 + shape.width2**2) / 4
    return transform_macs(shape) + mode + inject + at2 + entropy_macs(shape)


def encode_macs(shape: Shape) -> float:
    """Multiply-adds for each pixel to encode. Every block tries all modes."""
    width = HYPER_WIDTH
    low = LOW_LUMA * LOW_LUMA + (shape.planes - 1) * LOW_CHROMA * LOW_CHROMA
    hyper = (shape.planes * AREA * width + 2 * 9 * width * width) / 256
    hyper += (16 * width * shape.hyper + low * 16 * shape.hyper) / 4096
    return transform_macs(shape) + MODES * AREA + hyper + entropy_macs(shape)
