"""An image, or a tile of one, at any rate index: of several candidates the one that costs least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import chunks, container, overlays
from mvmic_codec.encoder import flat_fill
from mvmic_codec.encoder.candidate import CodedCandidate, EncodeCandidate
from mvmic_codec.encoder.encode import Place
from mvmic_codec.encoder.flat_choice import FlatCandidates, flat_candidates_of
from mvmic_codec.image.samples import Samples
from mvmic_codec.model.loaded import LoadedModel
from mvmic_codec.rate import lambda_of

Planes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """How tiles are coded; see `ImageEncoder`."""

    psnr: float | None = None
    effort: int = 1
    on_round: Callable[[], object] | None = None
    model: LoadedModel | None = None
    device: str | None = None


@dataclass(frozen=True)
class CodedTile:
    """The chunks of a tile, and the candidate in it."""

    tile: container.Tile
    coded: CodedCandidate


class TileEncoder:
    """Samples of an image or a tile, to be coded at rate indices.

    colour      whether three planes are coded; else one
    place       where it lies, if it is a tile
    importance  what errors in its blocks count, or None for 1 everywhere
    """

    def __init__(
        self,
        samples: Samples,
        options: Options,
        *,
        colour: bool,
        place: Place | None = None,
        importance: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.samples, self.options, self.importance = samples, options, importance
        self.place = place
        planes = samples.planes if colour else samples.planes[:1]
        self.hidden = hidden_of(samples)
        self.planes = planes if self.hidden is None else self.filled(planes, self.hidden)

    def filled(self, planes: Planes, hidden: npt.NDArray[np.bool_]) -> Planes:
        """Planes [C,H,W] with something smooth where they are hidden."""
        free = hidden if self.place is None else hidden & ~self.place.borders()
        return flat_fill.fill(planes, free)

    @cached_property
    def flat_candidates(self) -> FlatCandidates | None:
        """The flat areas that it could be coded with."""
        options = self.options
        return flat_candidates_of(
            self.planes,
            self.samples,
            options.psnr,
            hidden=self.hidden,
            place=self.place,
            model=options.model,
        )

    @cached_property
    def overlays(self) -> tuple[bytes | None, bytes | None]:
        """The payloads of ALPH and OUTL."""
        samples = self.samples
        alpha = None if samples.alpha is None else overlays.alpha_payload(samples.alpha)
        if samples.outliers is None:
            return alpha, None
        values = samples.values[:, :, 0]
        payload = overlays.outliers_payload(values, samples.outliers, samples.bits, samples.signed)
        return alpha, payload

    def tile_at(self, index: int) -> CodedTile:
        """The tile at a rate index: of several candidates the one that costs least."""
        if self.flat_candidates is None:
            return self.plain_tile_at(index)
        candidates = self.flat_candidates.at(index, self.options.device)
        tiles = [self.tile_of(candidate) for candidate in candidates]
        return tiles[0] if len(tiles) == 1 else min(tiles, key=self.cost_of)

    def plain_tile_at(self, index: int) -> CodedTile:
        """The tile at a rate index without flat areas."""
        candidate = EncodeCandidate(
            self.planes,
            index,
            hidden=self.hidden,
            place=self.place,
            model=self.options.model,
            device=self.options.device,
        )
        return self.tile_of(candidate)

    def tile_of(self, candidate: EncodeCandidate) -> CodedTile:
        """The tile of one candidate."""
        if self.importance is not None:
            candidate.weigh(self.importance)
        coded = candidate.encode(effort=self.options.effort, on_round=self.options.on_round)
        alpha, outliers = self.overlays
        tile = container.Tile(coded.payload, alpha, candidate.flat_payload, outliers)
        return CodedTile(tile, coded)

    def cost_of(self, tile: CodedTile) -> float:
        """Rate-distortion cost: the bits of a tile, plus lambda times the squared error.

        A tile is judged by itself: synthesis sees nothing of what is around it.
        """
        shown = tile.coded.decoded_planes(self.samples.lo, self.samples.hi)
        error = 255 * (shown - self.planes)
        squared = float(np.square(error).sum(dtype=np.float64)) / len(self.planes)
        size = len(tile.tile.payload)
        if tile.tile.flat is not None:
            size += len(tile.tile.flat) + chunks.OVERHEAD
        return 8 * size + lambda_of(tile.coded.rate) * squared


def hidden_of(samples: Samples) -> npt.NDArray[np.bool_] | None:
    """Pixels [H,W] that transparency or outliers hide; None if there are none."""
    hidden = None if samples.alpha is None else samples.alpha == 0
    if samples.outliers is None:
        return hidden
    return samples.outliers if hidden is None else hidden | samples.outliers
