"""Choosing the flat areas that an image is coded with at a rate, if any.

`flat_search` finds areas that look flat. Along their edges lie pixels of intermediate colours. They
cost a transform more bits than the area itself. At low rates such a pixel becomes flat where that
costs less than coding it. Or it becomes a blend of the flat colour and a residual image that
continues its surroundings smoothly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import chunks, flat
from mvmic_codec.encoder import flat_fill, flat_search
from mvmic_codec.encoder.candidate import EncodeCandidate
from mvmic_codec.encoder.encode import Place
from mvmic_codec.image.samples import Samples
from mvmic_codec.model.loaded import LoadedModel
from mvmic_codec.rate import RATES, lambda_of

Planes = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# A pixel this near to a flat area becomes flat if its error then costs no more than so many bits.
GROWTH = 2
GROWTH_BITS = 3.0
# The estimate is too low for hard edges, and so for an image without areas, most at low rates. True
# files with areas cost so much more than estimated, as a share of the cost without: a line over
# rate indices down to 0, fitted to training images.
UNSEEN = 0.044
UNSEEN_PER_INDEX = -0.0012
# Where costs differ by less than this share, both ways are coded, and the true costs decide.
DOUBT = 0.02
# In tiles areas have edges along the borders, which the estimate does not see either.
DOUBT_OF_TILES = 0.08
# From this index on areas that seem to cost up to a quarter more may pay: the error that the image
# without them has there is looked at.
EXCESS_FROM = 27
EXCESS_UP_TO = 1.25
# Fewer areas seem better too often: they must be better by this factor.
BY_FAR = 1.15
# An error that the residual image cannot correct weighs more than one that makes it less smooth.
CUT_WEIGHT = 300.0
# Where areas have grown, other pixels of their edges are blends from this index on: below, a map of
# blends costs more than it saves.
BLENDS_FROM = 14


class ScoredCandidate(NamedTuple):
    """A candidate, its estimated cost and that of its learned part."""

    candidate: EncodeCandidate
    cost: float
    learned_cost: float


class Areas:
    """Flat areas of planes [C, H, W] of an image of these samples.

    map [H, W] and colours [K, C] in 0 to 1 are those that `flat_search.find` found.
    """

    def __init__(
        self,
        planes: Planes,
        samples: Samples,
        flat_map: npt.NDArray[np.uint8],
        colours: npt.NDArray[np.float64],
    ) -> None:
        self.planes, self.map = planes, flat_map
        span = samples.hi - samples.lo
        values = np.rint(samples.lo + colours * span).clip(samples.lo, samples.hi)
        self.values = values.astype(np.int32)
        self.colours = ((values - samples.lo) / span).astype(np.float32)

    def psnr(self) -> float:
        """What the best quality would be in dB if all that is not flat were exact."""
        mean = self.error(self.grown(RATES - 1, GROWTH)) / self.map.size
        return 10 * math.log10(255**2 / mean) if mean else math.inf

    def error(self, flat_map: npt.NDArray[np.uint8]) -> float:
        """Squared error of flat pixels, mean over channels, on the scale of 255."""
        at = np.nonzero(flat_map)
        painted = self.colours[flat_map[at] - 1].T
        total = np.square(painted - self.planes[:, at[0], at[1]]).sum(dtype=np.float64)
        return 255.0**2 * float(total) / len(self.planes)

    def grown(self, index: int, steps: int) -> npt.NDArray[np.uint8]:
        """The map, with pixels near it added where that costs less at a rate index."""
        flat_map = self.map.copy()
        limit = GROWTH_BITS / lambda_of(index) / 255.0**2 * len(self.planes)
        for _ in range(steps):
            at = np.nonzero(flat.beside(flat_map))
            pixels = self.planes[:, at[0], at[1]]
            errors = np.square(pixels[None] - self.colours[:, :, None]).sum(1)
            flat_map[at] = np.where(errors.min(0) < limit, errors.argmin(0) + 1, 0)
        return flat_map

    def blended(self, flat_map: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], Planes]:
        """Blends for a map, and planes that give the image's pixels back when they are blended.

        Each pixel takes the blend of its neighbour's colour with what goes on smoothly from beyond
        the edge that comes nearest to it.
        """
        numbers = flat.beside(flat_map)
        at = np.nonzero(numbers)
        beyond = flat_fill.fill(self.planes, (flat_map > 0) | (numbers > 0))[:, at[0], at[1]]
        pixels = self.planes[:, at[0], at[1]]
        colour = self.colours[numbers[at] - 1].T
        shares = np.arange(flat.BLENDS + 1, dtype=np.float32)[:, None, None] / (flat.BLENDS + 1)
        mixed = beyond + shares * (colour - beyond)
        # What would have to lie outside of 0 to 1 to give the pixel back is cut, and cannot.
        wanted = (pixels - shares * colour) / (1 - shares)
        given = wanted.clip(0, 1)
        lost = np.square((wanted - given) * (1 - shares)).sum(1)
        best = (np.square(pixels - mixed).sum(1) + CUT_WEIGHT * lost).argmin(0)
        blends = np.zeros_like(flat_map)
        blends[at] = best
        residual_image = self.planes.copy()
        residual_image[:, at[0], at[1]] = np.take_along_axis(given, best[None, None], 0)[0]
        return blends, residual_image


@dataclass(frozen=True)
class FlatCandidates:
    """The flat areas that planes [C, H, W] of an image of these samples could be coded with.

    hidden, place and model are those of `EncodeCandidate`.
    """

    planes: Planes
    samples: Samples
    areas: list[Areas]
    hidden: Mask | None = None
    place: Place | None = None
    model: LoadedModel | None = None

    def at(self, index: int, device: str | None) -> list[EncodeCandidate]:
        """The candidates that may cost least at a rate index: one, or two to be coded both.

        An image that is flat throughout comes back exactly: that takes few bytes at any rate.
        """
        for areas in self.areas:
            if areas.map.all() and areas.error(areas.map) == 0:
                exact = self.candidate(areas, areas.map, index, device, blended=False)
                exact.flat_payload = self.payload_of(exact)
                return [exact]
        plain = EncodeCandidate(
            self.planes,
            index,
            hidden=self.hidden,
            place=self.place,
            model=self.model,
            device=device,
        )
        unseen = max(UNSEEN + UNSEEN_PER_INDEX * index, 0.0)
        plain_cost = plain.estimate_rd_cost() * (1 - unseen)
        doubt = DOUBT if self.place is None else DOUBT_OF_TILES
        most = plain_cost * (EXCESS_UP_TO if index >= EXCESS_FROM else 1 + doubt)
        widest, *others = self.areas
        best = self.best_with(widest, plain, index, device, most)
        # The learned part of fewer areas costs no less than that of the widest, so mostly it is
        # clear that they are not better.
        limit = best.cost / BY_FAR if best else most
        if best is None or best.learned_cost < limit:
            for areas in others:
                scored = self.best_with(areas, plain, index, device, limit)
                if scored:
                    best, limit = scored, scored.cost
        if best is None:
            return [plain]
        if best.cost >= plain_cost * (1 + doubt):
            assert best.candidate.flat is not None
            excess = plain.excess_error(self.planes, best.candidate.flat.map > 0)
            plain_cost += lambda_of(index) * excess
        if best.cost >= plain_cost * (1 + doubt):
            return [plain]
        if best.cost < plain_cost * (1 - doubt):
            return [best.candidate]
        return [best.candidate, plain]

    def best_with(
        self,
        areas: Areas,
        plain: EncodeCandidate,
        index: int,
        device: str | None,
        limit: float,
    ) -> ScoredCandidate | None:
        """The candidate of least estimated cost with these areas, if it costs less than a limit."""
        best = None
        for steps, blended in ((0, True), (GROWTH, index >= BLENDS_FROM)):
            flat_map = areas.grown(index, steps)
            cost = lambda_of(index) * areas.error(flat_map)
            # The learned part only adds to this.
            if cost >= limit:
                continue
            candidate = self.candidate(areas, flat_map, index, device, blended=blended, like=plain)
            learned = candidate.estimate_rd_cost()
            if cost + learned >= limit:
                continue
            candidate.flat_payload = self.payload_of(candidate)
            cost += 8 * (len(candidate.flat_payload) + chunks.OVERHEAD) + learned
            if cost < limit:
                best, limit = ScoredCandidate(candidate, cost, learned), cost
        return best

    def candidate(
        self,
        areas: Areas,
        flat_map: npt.NDArray[np.uint8],
        index: int,
        device: str | None,
        *,
        blended: bool,
        like: EncodeCandidate | None = None,
    ) -> EncodeCandidate:
        """A candidate with these areas. The map may have grown; blends are optional.

        Its payload of flat areas is not known yet.
        """
        if blended:
            blends, residual_image = areas.blended(flat_map)
        else:
            blends, residual_image = np.zeros_like(flat_map), self.planes
        free = flat_map > 0
        if self.place is not None:
            borders = self.place.borders()
            blends[borders] = 0
            residual_image = np.where(borders, self.planes, residual_image)
            free &= ~borders
        coded = flat.Flat(areas.values, flat_map, blends)
        return EncodeCandidate(
            flat_fill.fill(residual_image, free),
            index,
            flat=coded,
            hidden=self.hidden,
            place=self.place,
            like=like,
            model=self.model,
            device=device,
        )

    def payload_of(self, candidate: EncodeCandidate) -> bytes:
        """The payload of a candidate's flat areas."""
        assert candidate.flat is not None
        return flat.to_payload(candidate.flat, self.samples.bits, self.samples.signed)


def flat_candidates_of(
    planes: Planes,
    samples: Samples,
    psnr: float | None = None,
    *,
    hidden: Mask | None = None,
    place: Place | None = None,
    model: LoadedModel | None = None,
) -> FlatCandidates | None:
    """The flat areas of planes [C, H, W] to be coded of an image, if it has any.

    If psnr is given, only those that allow so many dB. The rest is as for `FlatCandidates`.
    """
    # Where all samples are one value anyway, no map is needed.
    found = [] if samples.lo == samples.hi else flat_search.find(planes)
    areas = [Areas(planes, samples, *each) for each in found]
    areas = [each for each in areas if psnr is None or each.psnr() >= psnr]
    return FlatCandidates(planes, samples, areas, hidden, place, model) if areas else None
