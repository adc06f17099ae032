"""The tiles of a file -> the samples of a window of its image, part by part."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy.typing as npt

from mvmic_codec.bitstream.grid import Box, block_size
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder.decode import levels_of, model_of_file
from mvmic_codec.decoder.reconstruct import (
    EmitMapPart,
    EmitPart,
    blocks_needed,
    synthesise_parts,
)
from mvmic_codec.decoder.stripes import PLANES, reach_of
from mvmic_codec.decoder.tiles import EmitOverlays, TileOf, tile_slabs, tiling_of
from mvmic_codec.errors import needs_torch
from mvmic_codec.model.team import Team

# Bands of columns that advance together take memory. A wider image in rows of tiles is decoded in
# strips of so many pixels, and tiles at their sides twice.
WIDEST = 2**15


def decode_parts(
    header: Header,
    tile_of: TileOf,
    emit: EmitPart,
    *,
    window: Box | None = None,
    emit_overlays: EmitOverlays = lambda box, areas: None,
    device: str | None = None,
    emit_map: EmitMapPart | None = None,
    until: str = PLANES,
) -> None:
    """Decode the samples of a window of an image, and pass them to `emit` part by part.

    A whole image at once may take too much memory. A part has 3 channels if the header's
    photometric is RGB, else 1. Flat areas are not painted yet.

    window  in pixels; None is the whole image. Only tiles that its samples depend on are decoded
    device  "cpu", where C does everything, or a device of torch; None is "cpu". Samples are the
            same on all

    emit_map and until are those of `reconstruct.synthesise_parts`.

    Raises ModelError for a model that is not installed. Raises FormatError or one of its kinds for
    a damaged tile, and if the model is for the other kind of image, gray or colour; parts of other
    tiles may have been given out by then. Raises InputError for a device that this machine does not
    have, and MvmError for one of torch if torch is not installed.
    """
    window = tiling_of(header).image if window is None else window
    if device not in (None, "cpu"):
        assert device is not None
        with needs_torch(f"decoding on {device!r}"):
            from mvmic_codec.decoder import on_device
        on_device.decode_parts(
            header,
            tile_of,
            emit,
            device,
            window=window,
            emit_overlays=emit_overlays,
            emit_map=emit_map,
            until=until,
        )
        return
    model = model_of_file(header)
    net, tiling = model.synthesis, tiling_of(header)
    with Team() as team:
        for strip in strips_of(window, WIDEST if tiling.rows > 1 else window.width):
            blocks = blocks_needed(strip, block_size(tiling.size), reach_of(net))
            synthesise_parts(
                net,
                team,
                tile_slabs(model, header, tile_of, blocks, team, emit_overlays),
                blocks,
                header.rate_index,
                strip,
                levels_of(header),
                partial(shifted, emit, strip.left - window.left),
                emit_map=emit_map,
                until=until,
            )


def strips_of(window: Box, width: int) -> list[Box]:
    """A window cut into strips that are at most so wide, from left to right."""
    lefts = range(window.left // width * width, window.right, width)
    return [Box(window.top, left, window.height, width).overlap(window) for left in lefts]


def shifted(emit: EmitPart, columns: int, top: int, left: int, part: npt.NDArray[Any]) -> None:
    """Pass a part on, so many columns further to the right."""
    emit(top, left + columns, part)
