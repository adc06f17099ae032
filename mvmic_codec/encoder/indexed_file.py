"""Images of few colours -> a file that has them exactly. No model is needed, and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mvmic_codec.bitstream import container, overlays, plane
from mvmic_codec.bitstream.container import Tile
from mvmic_codec.bitstream.grid import Tiling
from mvmic_codec.bitstream.header import MIN_IS_BLACK, RGB, Header, whole_range
from mvmic_codec.image.indexed import Indexed


def indexed_file(
    frames: Sequence[Indexed], chunks: Mapping[bytes, bytes], *, tile: int = 0
) -> bytes:
    """The bytes of a file of images that are coded exactly, of one size and with one palette."""
    first = frames[0]
    tiling = Tiling(first.size, tile)
    places = [(row, column) for row in range(tiling.rows) for column in range(tiling.columns)]
    count = len(first.colours)
    tiles = [
        Tile(plane.to_payload(frame.part(*tiling.box(*place)).indices, count, ordered=False))
        for frame in frames
        for place in places
    ]
    lo, hi = whole_range(first.bits, signed=False)
    header = Header(
        rate_index=0,
        alpha=first.alpha,
        photometric=RGB if first.channels == 3 else MIN_IS_BLACK,
        signed=False,
        bits=first.bits,
        generation=0,
        fingerprint=b"",
        width=first.size[1],
        height=first.size[0],
        frames=len(frames),
        tile=tile if len(places) > 1 else 0,
        palette=first.palette,
        lo=lo,
        hi=hi,
    )
    colours = overlays.colours_payload(first.colours, first.bits, signed=False)
    return container.write(header, tiles, chunks, colours)
