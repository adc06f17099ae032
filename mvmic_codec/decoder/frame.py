"""A frame of a file -> its samples, with transparency, or its indices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import overlays, plane
from mvmic_codec.bitstream.container import Reader
from mvmic_codec.bitstream.grid import Box
from mvmic_codec.bitstream.header import GRAY_RGB, Header
from mvmic_codec.decoder.image import Corners, checked_window, decode_samples
from mvmic_codec.decoder.paint import Overlays, alpha_part
from mvmic_codec.decoder.reconstruct import EmitMapPart
from mvmic_codec.decoder.tiles import EmitOverlays, tiling_of
from mvmic_codec.image.samples import array_type

Array = npt.NDArray[Any]


def decode_frame(
    reader: Reader,
    frame: int = 0,
    *,
    box: Corners | None = None,
    scale: int = 1,
    device: str | None = None,
    emit_map: EmitMapPart | None = None,
    emit_overlays: EmitOverlays = lambda box, laid: None,
    on_part: Callable[[float], object] = lambda share: None,
) -> Array:
    """The samples of a frame, [H,W] or [H,W,C], of the types of `samples.array_type`.

    C is 2 for gray with transparency, 3 for RGB, 4 for RGB with transparency. An image that is
    shown with a palette gives its indices [H,W]. box, scale and the rest are those of
    `image.decode_samples`. Of a square of an indexed image the pixel in the middle counts.
    on_part is called after each part with the share of the samples that there are so far.

    Errors as `image.decode_samples`.
    """
    header = reader.header
    if header.indexed:
        indices = decode_indices(reader, frame, box, scale, on_part)
        if header.palette:
            return indices
        assert reader.colours is not None
        colours = overlays.colours_of(reader.colours, header)
        return shown(header, colours.astype(array_type(header.bits, header.signed))[indices])
    window = checked_window(header, box, scale)
    small = window.reduced(scale)
    alpha = np.empty((small.height, small.width), np.uint8) if header.alpha else None

    def take(tile: Box, laid: Overlays) -> None:
        emit_overlays(tile, laid)
        if alpha is not None:
            assert laid.alpha is not None
            squares = tile.reduced(scale)
            both = squares.overlap(small)
            part = Box(both.top - squares.top, both.left - squares.left, both.height, both.width)
            if both.height * both.width:
                alpha[both.within(small)] = alpha_part(laid.alpha, scale, part)

    values = decode_samples(
        header,
        partial(reader.tile, frame),
        box=box,
        scale=scale,
        device=device,
        emit_map=emit_map,
        emit_overlays=take,
        on_part=on_part,
    )
    return values if alpha is None else np.dstack((values, alpha))


def shown(header: Header, values: Array) -> Array:
    """Samples [H,W,C] of an indexed image as those of others: gray is [H,W], RGB has 3 channels."""
    if header.photometric == GRAY_RGB:
        return values[:, :, [0, 0, 0, *range(1, values.shape[2])]]
    return values[:, :, 0] if values.shape[2] == 1 else values


def decode_indices(
    reader: Reader,
    frame: int,
    box: Corners | None,
    scale: int,
    on_part: Callable[[float], object],
) -> Array:
    """The indices uint8 of a window of an indexed frame. Errors as `decode_frame`."""
    header = reader.header
    assert reader.colours is not None
    count = len(overlays.colours_of(reader.colours, header))
    tiling, window = tiling_of(header), checked_window(header, box, scale)
    small = window.reduced(scale)
    out, done = np.empty((small.height, small.width), np.uint8), 0
    rows, columns = tiling.covering(window)
    for row in rows:
        for column in columns:
            tile = tiling.box(row, column)
            payload = reader.tile(frame, row, column).payload
            part = plane.from_payload(payload, tile.height, tile.width, count, ordered=False)
            squares = tile.reduced(scale)
            both = squares.overlap(small)
            middle = [
                np.minimum(scale * np.arange(size) + scale // 2, len_ - 1)
                for size, len_ in zip((squares.height, squares.width), part.shape, strict=True)
            ]
            out[both.within(small)] = part[np.ix_(*middle)][both.within(squares)]
            done += both.height * both.width
            on_part(done / out.size)
    return out
