"""An image -> files at any rate index: candidates, their costs, and the one that costs least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.encoder.candidate import CodedCandidate, EncodeCandidate
from mvmic_codec.encoder.flat_choice import flat_candidates_of
from mvmic_codec.errors import InputError
from mvmic_codec.image.samples import Samples, psnr
from mvmic_codec.model.device import pick_device
from mvmic_codec.model.identity import GENERATION, model_identity
from mvmic_codec.model.tuned import TunedEncoder
from mvmic_codec.rate import lambda_of

Planes = npt.NDArray[np.float32]

# Bounds of what an error in a block may count. Beyond them a map says all or nothing.
IMPORTANCE_MIN, IMPORTANCE_MAX = 0.01, 100.0


@dataclass(frozen=True)
class EncodedFile:
    """The bytes of a file, the candidate in it, and the samples that it was made from."""

    data: bytes
    coded: CodedCandidate
    samples: Samples

    def decoded_planes(self) -> Planes:
        """The planes [C,H,W] that decoding gives."""
        return self.coded.decoded_planes(self.samples.lo, self.samples.hi)

    def psnr(self) -> float:
        """In dB, of what decoding gives; the peak is the range of values."""
        return psnr(self.samples, self.decoded_planes())


class ImageEncoder:
    """Samples of an image and the metadata chunks of its file, to be coded at rate indices.

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
        samples: Samples,
        chunks: Mapping[bytes, bytes],
        *,
        psnr: float | None = None,
        effort: int = 1,
        on_round: Callable[[], object] | None = None,
        importance: npt.NDArray[Any] | None = None,
        tuned: TunedEncoder | None = None,
        device: str | None = None,
    ) -> None:
        self.samples, self.chunks = samples, chunks
        self.effort, self.on_round, self.device = effort, on_round, device
        self.photometric = photometric_of(samples)
        # Equal channels cost no more than one of them.
        colour = self.photometric == container.RGB
        self.planes = samples.planes if colour else samples.planes[:1]
        _, self.fingerprint = model_identity(gray=not colour)
        size = (samples.planes.shape[1], samples.planes.shape[2])
        self.importance = None if importance is None else checked_importance(importance, size)
        self.model = None if tuned is None else tuned.model(self.fingerprint, pick_device(device))
        self.flat_candidates = flat_candidates_of(self.planes, samples, psnr, self.model)

    def file_at(self, index: int) -> EncodedFile:
        """The file at a rate index: of several candidates the one that costs least."""
        if self.flat_candidates is None:
            return self.plain_file_at(index)
        candidates = self.flat_candidates.at(index, self.device)
        files = [self.file_of(candidate, index) for candidate in candidates]
        return files[0] if len(files) == 1 else min(files, key=self.cost_of)

    def plain_file_at(self, index: int) -> EncodedFile:
        """The file at a rate index without flat areas."""
        candidate = EncodeCandidate(self.planes, index, model=self.model, device=self.device)
        return self.file_of(candidate, index)

    def file_of(self, candidate: EncodeCandidate, index: int) -> EncodedFile:
        """The file of one candidate."""
        if self.importance is not None:
            candidate.weigh(self.importance)
        coded = candidate.encode(effort=self.effort, on_round=self.on_round)
        header, areas = self.header(index), candidate.flat_payload
        data = container.write(header, coded.payload, self.chunks, areas)
        return EncodedFile(data, coded, self.samples)

    def cost_of(self, file: EncodedFile) -> float:
        """Rate-distortion cost: the bits of a file, plus lambda times the squared error."""
        error = 255 * (file.decoded_planes() - self.planes)
        squared = float(np.square(error).sum(dtype=np.float64)) / len(self.planes)
        return 8 * len(file.data) + lambda_of(file.coded.rate) * squared

    def header(self, index: int) -> container.Header:
        """The header of a file of this image at a rate index."""
        samples = self.samples
        _, height, width = samples.planes.shape
        return container.Header(
            rate_index=index,
            photometric=self.photometric,
            signed=samples.signed,
            bits=samples.bits,
            generation=GENERATION,
            fingerprint=self.fingerprint,
            width=width,
            height=height,
            lo=samples.lo,
            hi=samples.hi,
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


def photometric_of(samples: Samples) -> int:
    """The photometric value of a file with these samples; see `container`."""
    planes = samples.planes
    if len(planes) == 1:
        return container.MIN_IS_BLACK
    equal = (planes[0] == planes[1]).all() and (planes[0] == planes[2]).all()
    return container.GRAY_RGB if equal else container.RGB
