"""Files of one image in one tile, as most tests want them."""

from dataclasses import dataclass, field

from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.header import Header


@dataclass(frozen=True)
class Whole:
    header: Header
    payload: bytes
    metadata: dict = field(default_factory=dict)
    flat: bytes | None = None
    alpha: bytes | None = None
    outliers: bytes | None = None


def read(data):
    """A whole file, with everything checked."""
    reader = container.Reader(data)
    tile = reader.tile()
    return Whole(reader.header, tile.payload, reader.metadata, tile.flat, tile.alpha, tile.outliers)


def write(header, payload, metadata=None, flat=None):
    return container.write(header, [container.Tile(payload, flat=flat)], metadata or {})
