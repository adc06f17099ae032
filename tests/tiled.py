"""Images in tiles as tests want them: each tile is coded as an image of its own."""

from dataclasses import replace

import numpy as np

from mvmic_codec.bitstream import flat
from mvmic_codec.bitstream.container import Tile
from mvmic_codec.bitstream.flat import Flat, beside
from mvmic_codec.bitstream.grid import Tiling
from mvmic_codec.bitstream.header import Header
from mvmic_codec.encoder.candidate import EncodeCandidate
from mvmic_codec.model.identity import model_identity


class TiledImage:
    """A header and tiles. asked are the places of those that were asked for, in their order."""

    def __init__(self, header, tiles):
        self.header, self.tiles, self.asked = header, tiles, []

    def __call__(self, row, column):
        self.asked.append((row, column))
        return self.tiles[row][column]

    def damaged(self, row, column, payload):
        """The same with another payload of a tile."""
        tiles = [list(each) for each in self.tiles]
        tiles[row][column] = Tile(payload=payload, flat=tiles[row][column].flat)
        return TiledImage(self.header, tiles)


def tiled(planes, side, rate=40, *, map=None, colours=None, seed=0, **fields):
    """Planes [C,H,W] as a `TiledImage`; side 0 makes one tile.

    map [H,W] says where it is flat, colours [K,C] with what. fields are of the header. There are
    random blends.
    """
    channels, height, width = planes.shape
    header = Header(
        rate_index=rate,
        photometric=2 if channels == 3 else 0,
        signed=False,
        bits=8,
        generation=1,
        fingerprint=model_identity(gray=channels == 1)[1],
        width=width,
        height=height,
        lo=0,
        hi=255,
        tile=side,
    )
    header = replace(header, **fields)
    tiling, rng = Tiling((height, width), side), np.random.default_rng(seed)
    tiles = [
        [
            coded_tile(planes, header, tiling, row, column, map, colours, rng)
            for column in range(tiling.columns)
        ]
        for row in range(tiling.rows)
    ]
    return TiledImage(header, tiles)


def coded_tile(planes, header, tiling, row, column, map, colours, rng):
    box = tiling.box(row, column)
    at = slice(box.top, box.bottom), slice(box.left, box.right)
    mine = np.ascontiguousarray(planes[:, at[0], at[1]])
    if map is None or not map[at].any():
        coded = EncodeCandidate(mine, header.rate_index, device="cpu").encode()
        return Tile(payload=coded.payload, flat=None)
    map = np.ascontiguousarray(map[at])
    blends = (rng.integers(0, 4, map.shape) * (beside(map) > 0)).astype(np.uint8)
    areas = Flat(np.array(colours, np.int32), map, blends)
    # To an encoder of whole images a visible pixel does what a side beside another tile does.
    seen, sides = map.copy(), tiling.sides(row, column)
    for edge, is_tile in zip((np.s_[0], np.s_[:, 0], np.s_[-1], np.s_[:, -1]), sides, strict=True):
        if is_tile:
            seen[edge] = 0
    candidate = EncodeCandidate(
        mine, header.rate_index, flat=replace(areas, map=seen), device="cpu"
    )
    return Tile(
        payload=candidate.encode().payload,
        flat=flat.to_payload(areas, header.bits, header.signed),
    )
