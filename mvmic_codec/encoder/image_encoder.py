"""Images -> files at any rate index: frames, tiles, and what the header says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.grid import BLOCK, UNIT, Box, Tiling
from mvmic_codec.bitstream.header import GRAY_RGB, MIN_IS_BLACK, RGB, Header
from mvmic_codec.decoder.image import emit_samples
from mvmic_codec.encoder.candidate import CodedCandidate
from mvmic_codec.encoder.encode import Place
from mvmic_codec.encoder.tile_encoder import CodedTile, Options, TileEncoder
from mvmic_codec.errors import InputError
from mvmic_codec.image.samples import Samples, psnr_of
from mvmic_codec.model.device import pick_device
from mvmic_codec.model.identity import GENERATION, model_identity
from mvmic_codec.model.tuned import TunedEncoder

Planes = npt.NDArray[np.float32]

# Bounds of what an error in a block may count. Beyond them a map says all or nothing.
IMPORTANCE_MIN, IMPORTANCE_MAX = 0.01, 100.0
# Analysis sees so many pixels around a tile.
AROUND = UNIT


@dataclass(frozen=True)
class EncodedFile:
    """The bytes of a file, and what it was made from.

    coded  the candidate in it, of a file of one tile
    """

    data: bytes
    frames: Sequence[Samples]
    rate: int
    only: CodedCandidate | None

    @property
    def coded(self) -> CodedCandidate:
        """The candidate in a file of one tile. Raises InputError for a file of several."""
        if self.only is None:
            raise InputError("this takes one image of one tile; give images one by one, or tile=0")
        return self.only

    def decoded_planes(self) -> Planes:
        """The planes [C,H,W] that decoding gives, of a file of one tile."""
        return self.coded.decoded_planes(self.frames[0].lo, self.frames[0].hi)

    def psnr(self) -> float:
        """In dB, of what decoding gives; the peak is the range of values."""
        if self.only is not None:
            return psnr_of(*self.frames[0].error(self.decoded_planes()))
        reader, total, count = container.Reader(self.data), 0.0, 0
        for number, frame in enumerate(self.frames):

            def add(top: int, left: int, part: npt.NDArray[Any], frame: Samples = frame) -> None:
                nonlocal total, count
                height, width, _ = part.shape
                span = np.float32(max(frame.hi - frame.lo, 1))
                planes = (part.transpose(2, 0, 1).astype(np.float32) - frame.lo) / span
                error, pixels = frame.part(top, left, height, width).error(planes)
                total, count = total + error, count + pixels

            emit_samples(reader.header, partial(reader.tile, number), add)
        return psnr_of(total, count)


class ImageEncoder:
    """Frames of one size and kind, and the metadata chunks of their file, to be coded.

    tile     side of tiles, a multiple of 64; 0 leaves the image whole
    on_tile  called after each tile with how many are done

    psnr: only flat areas that allow so many dB are used. effort and on_round are those of
    `EncodeCandidate.encode`.

    importance is what an error in each block of 16x16 pixels counts, [ceil(H/16),ceil(W/16)] from
    IMPORTANCE_MIN to IMPORTANCE_MAX, or None for 1 everywhere. It weighs errors where modes and
    symbols are chosen. Candidates are compared without it: flat areas are exact for the eye, as for
    burned-in text, and what a task needs should not decide on them. Raises InputError for another.

    tuned is an encoder for the image's model, or None for the released one. Errors as
    `TunedEncoder.model`.
    """

    def __init__(
        self,
        frames: Sequence[Samples],
        chunks: Mapping[bytes, bytes],
        *,
        tile: int = 0,
        psnr: float | None = None,
        effort: int = 1,
        on_round: Callable[[], object] | None = None,
        on_tile: Callable[[int], object] | None = None,
        importance: npt.NDArray[Any] | None = None,
        tuned: TunedEncoder | None = None,
        device: str | None = None,
    ) -> None:
        self.frames, self.chunks, self.on_tile = frames, chunks, on_tile
        first = frames[0]
        self.tiling = Tiling(first.size, tile)
        self.photometric = photometric_of(frames)
        _, self.fingerprint = model_identity(gray=not self.colour)
        self.importance = None
        if importance is not None:
            self.importance = checked_importance(importance, first.size)
        model = None if tuned is None else tuned.model(self.fingerprint, pick_device(device))
        self.options = Options(psnr, effort, on_round, model, device)
        # What is known of an image that is coded at several rates. Of many tiles it would be much.
        self.known: TileEncoder | None = None

    @property
    def colour(self) -> bool:
        """Whether three planes are coded. Equal channels cost no more than one of them."""
        return self.photometric == RGB

    @property
    def count(self) -> int:
        """How many tiles there are, in all frames."""
        return len(self.frames) * self.tiling.rows * self.tiling.columns

    @property
    def may_be_flat(self) -> bool:
        """Whether `plain_file_at` may give other files than `file_at`."""
        return self.count > 1 or next(self.tiles()).flat_candidates is not None

    def file_at(self, index: int) -> EncodedFile:
        """The file at a rate index, each tile as it costs least."""
        return self.file_of(index, lambda tile: tile.tile_at(index))

    def plain_file_at(self, index: int) -> EncodedFile:
        """The file at a rate index without flat areas."""
        return self.file_of(index, lambda tile: tile.plain_tile_at(index))

    def file_of(self, index: int, coded_of: Callable[[TileEncoder], CodedTile]) -> EncodedFile:
        """The file of coded tiles."""
        tiles, only = [], None
        for number, tile in enumerate(self.tiles()):
            coded = coded_of(tile)
            tiles.append(coded.tile)
            only = coded.coded if self.count == 1 else None
            if self.on_tile is not None:
                self.on_tile(number + 1)
        data = container.write(self.header(index), tiles, self.chunks)
        return EncodedFile(data, self.frames, index, only)

    def tiles(self) -> Iterator[TileEncoder]:
        """The tiles of all frames, in the order of the file."""
        if self.count == 1:
            if self.known is None:
                self.known = self.tile_of(self.frames[0], 0, 0)
            yield self.known
            return
        for frame in self.frames:
            for row in range(self.tiling.rows):
                for column in range(self.tiling.columns):
                    yield self.tile_of(frame, row, column)

    def tile_of(self, frame: Samples, row: int, column: int) -> TileEncoder:
        """One tile."""
        box = self.tiling.box(row, column)
        importance = self.importance
        if importance is not None:
            top, left, height, width = box.reduced(BLOCK)
            importance = importance[top : top + height, left : left + width]
        place = None if self.tiling.image == box else self.place_of(frame, row, column)
        samples = frame.part(*box)
        return TileEncoder(
            samples, self.options, colour=self.colour, place=place, importance=importance
        )

    def place_of(self, frame: Samples, row: int, column: int) -> Place:
        """Where a tile lies."""
        box = self.tiling.box(row, column)
        wide = Box(
            box.top - AROUND, box.left - AROUND, box.height + 2 * AROUND, box.width + 2 * AROUND
        ).overlap(self.tiling.image)
        around = frame.part(*wide).planes
        inner = Box(box.top - wide.top, box.left - wide.left, box.height, box.width)
        planes = around if self.colour else around[:1]
        return Place(self.tiling.sides(row, column), planes, inner)

    def header(self, index: int) -> Header:
        """The header of a file of these frames at a rate index."""
        first = self.frames[0]
        return Header(
            rate_index=index,
            alpha=first.alpha is not None,
            photometric=self.photometric,
            signed=first.signed,
            bits=first.bits,
            generation=GENERATION,
            fingerprint=self.fingerprint,
            width=first.size[1],
            height=first.size[0],
            frames=len(self.frames),
            tile=self.tiling.side if self.tiling.rows * self.tiling.columns > 1 else 0,
            lo=first.lo,
            hi=first.hi,
        )


def checked_importance(
    importance: npt.NDArray[Any], size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """The importance of an image of `size` (H,W) as float32; see `ImageEncoder`."""
    rows, columns = (-(-side // BLOCK) for side in size)
    if importance.shape != (rows, columns):
        raise InputError(
            f"an importance map for an image of {size[1]}x{size[0]} has {rows} rows and {columns} "
            f"columns, one number for each block of {BLOCK}x{BLOCK}; got an array of "
            f"{'x'.join(map(str, importance.shape)) or 'one number'}"
        )
    if importance.dtype.kind not in "iuf":
        raise InputError(f"an importance map holds numbers, got {importance.dtype}")
    # Not-a-numbers fail this, too.
    if not ((importance >= IMPORTANCE_MIN) & (importance <= IMPORTANCE_MAX)).all():
        raise InputError(
            f"numbers of an importance map lie between {IMPORTANCE_MIN:g} and {IMPORTANCE_MAX:g}, "
            "and 1 changes nothing"
        )
    return importance.astype(np.float32)


def photometric_of(frames: Sequence[Samples]) -> int:
    """The photometric value of a file of these frames; see `header`."""
    if frames[0].channels == 1:
        return MIN_IS_BLACK
    return GRAY_RGB if all(frame.equal_channels for frame in frames) else RGB
