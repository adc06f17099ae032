"""A whole file -> sample values: samples from the networks, with flat areas painted over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.grid import Box
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder.decode import levels_of
from mvmic_codec.decoder.paint import Overlays, Painter
from mvmic_codec.decoder.parts import decode_parts
from mvmic_codec.decoder.reconstruct import EmitMapPart, EmitPart
from mvmic_codec.decoder.reduced import SCALES, decode_reduced_parts
from mvmic_codec.decoder.tiles import EmitOverlays, TileOf, tiling_of
from mvmic_codec.errors import InputError

# A window in pixels, as Pillow has it: left, top, right and bottom, the last two not included.
Corners = tuple[int, int, int, int]


def decode_samples(
    header: Header,
    tile_of: TileOf,
    *,
    box: Corners | None = None,
    scale: int = 1,
    device: str | None = None,
    emit_map: EmitMapPart | None = None,
    emit_overlays: EmitOverlays = lambda box, areas: None,
    on_part: Callable[[float], object] = lambda share: None,
) -> npt.NDArray[Any]:
    """The sample values of an image, [H,W] or [H,W,3], of the types of `samples.array_type`.

    Decodes part by part, since activations of the whole image would take many times the memory.

    tile_of    gives the tiles, each when it is needed; see `tiles.TileOf`
    box        the window that is wanted; None is the whole image. What is given is the same as if
               all were decoded and then cut
    scale      1, 2, 4, 8 or 16: the picture is made smaller, each sample the mean over a square of
               so many pixels a side. These means come from the latent without the networks: they
               lack what those add. Squares are those of the whole image: a window gives all that
               have pixels in it. Always decoded on the CPU
    emit_map   gets the feature maps on the way; for the whole image at scale 1 only
    emit_overlays  gets the flat areas of tiles on the way
    on_part    called after each part with the share of the samples that there are so far

    Raises InputError for a box that does not lie in the image or is empty, and for another scale;
    else errors are those of `parts.decode_parts`.
    """
    small = checked_window(header, box, scale).reduced(scale)
    values = np.empty((small.height, small.width, header.channels), levels_of(header).type)
    done = 0

    def emit(top: int, left: int, part: npt.NDArray[Any]) -> None:
        nonlocal done
        height, width, _ = part.shape
        # One channel counts for all where they are equal.
        values[top : top + height, left : left + width] = part
        done += height * width
        on_part(done / (small.height * small.width))

    emit_samples(
        header,
        tile_of,
        emit,
        box=box,
        scale=scale,
        device=device,
        emit_map=emit_map,
        emit_overlays=emit_overlays,
    )
    return values[:, :, 0] if header.channels == 1 else values


def emit_samples(
    header: Header,
    tile_of: TileOf,
    emit: EmitPart,
    *,
    box: Corners | None = None,
    scale: int = 1,
    device: str | None = None,
    emit_map: EmitMapPart | None = None,
    emit_overlays: EmitOverlays = lambda box, areas: None,
) -> None:
    """As `decode_samples`, but samples are passed to `emit` part by part, painted.

    Parts come roughly from top to bottom. They have one channel where the header's photometric is
    not RGB.
    """
    window = checked_window(header, box, scale)
    if emit_map is not None and (scale != 1 or window != tiling_of(header).image):
        raise InputError("feature maps are those of the whole image at its full size")
    painter = Painter(window, scale)

    def keep(tile: Box, laid: Overlays) -> None:
        painter.keep(tile, laid)
        emit_overlays(tile, laid)

    def painted(top: int, left: int, part: npt.NDArray[Any]) -> None:
        painter.paint(top, left, part)
        emit(top, left, part)

    if scale == 1:
        decode_parts(
            header,
            tile_of,
            painted,
            window=window,
            emit_overlays=keep,
            device=device,
            emit_map=emit_map,
        )
    else:
        decode_reduced_parts(header, tile_of, painted, scale, window=window, emit_overlays=keep)


def checked_window(header: Header, box: Corners | None, scale: int) -> Box:
    """The window of pixels that a box stands for. Raises InputError as `decode_samples`."""
    if scale not in (1, *SCALES):
        scales = ", ".join(map(str, SCALES[:-1]))
        raise InputError(f"scale must be 1, {scales} or {SCALES[-1]}, got {scale!r}")
    if box is None:
        return tiling_of(header).image
    left, top, right, bottom = box
    if not (0 <= left < right <= header.width and 0 <= top < bottom <= header.height):
        raise InputError(
            f"the region {left}, {top}, {right}, {bottom} (left, top, right, bottom) is empty or "
            f"does not lie in the image of {header.width}x{header.height} pixels"
        )
    return Box(top, left, bottom - top, right - left)
