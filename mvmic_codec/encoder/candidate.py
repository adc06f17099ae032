"""One way to code an image at a rate index, and the result of coding it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mvmic_codec.bitstream.flat import Flat
from mvmic_codec.bitstream.symbols import pack
from mvmic_codec.decoder.paint import paint
from mvmic_codec.decoder.reconstruct import Levels, reconstruct
from mvmic_codec.encoder.decoded import as_modes, planes_of_latent
from mvmic_codec.encoder.encode import CodingResult, Encoder, Place
from mvmic_codec.encoder.refine import ROUNDS, Refiner, refine
from mvmic_codec.model.device import full_precision, pick_device
from mvmic_codec.model.identity import model_identity
from mvmic_codec.model.loaded import LoadedModel, load

Planes = npt.NDArray[np.float32]


class EncodeCandidate:
    """Planes [C,H,W] in 0..1, C 1 or 3, to be coded at a rate index.

    flat holds the flat areas that will be painted over them, if any, and flat_payload how a file
    has these. What planes hold there does not matter. like is a candidate of another version of the
    same image at the same rate: the cost of what is the same is not estimated again.
    hidden [H,W] are further pixels that are painted over. place is as for `Encoder`. model is what
    encodes; None is the released one.
    """

    encoder: Encoder

    def __init__(
        self,
        planes: Planes,
        rate_index: int,
        *,
        flat: Flat | None = None,
        flat_payload: bytes | None = None,
        hidden: npt.NDArray[np.bool_] | None = None,
        place: Place | None = None,
        like: EncodeCandidate | None = None,
        model: LoadedModel | None = None,
        device: str | None = None,
    ) -> None:
        self.flat, self.flat_payload = flat, flat_payload
        self.size: tuple[int, int] = planes.shape[1], planes.shape[2]
        self.model = encoding_model(planes, device) if model is None else model
        with full_precision(self.model.device):
            if flat is not None and flat.hidden is not None:
                hidden = flat.hidden if hidden is None else hidden | flat.hidden
            known = None if like is None else like.encoder
            self.encoder = Encoder(self.model, planes, rate_index, hidden, known, place)

    def estimate_rd_cost(self) -> float:
        """Estimated bits, plus lambda times the squared error on the scale of 255.

        The estimate is the rule of thumb that compares block transforms, on the linear path alone,
        with a constant for each block. `flat_choice` says how good it is.
        """
        with full_precision(self.model.device):
            return self.encoder.estimate_rd_cost()

    def excess_error(self, planes: Planes, where: npt.NDArray[np.bool_]) -> float:
        """Squared error where `where` [H,W], above what as many pixels elsewhere have.

        Mean over channels, on the scale of 255, after the first of two runs; planes are those of
        the candidate. Last rows or columns may come out wrong at any rate, since what lies beyond
        the image is not coded.
        """
        encoder = self.encoder
        with full_precision(self.model.device):
            run = encoder.first_run
            shown = planes_of_latent(
                self.model.decoding.synthesis, run.latent, run.modes, encoder.rate
            )
        height, width = where.shape
        error = np.square(255 * (shown[0, :, :height, :width].cpu().numpy() - planes)).mean(0)
        inside = float(error[where].mean(dtype=np.float64))
        outside = 0.0 if where.all() else float(error[~where].mean(dtype=np.float64))
        return max(inside - outside, 0.0) * int(where.sum())

    def weigh(self, importance: npt.NDArray[np.float32]) -> None:
        """Make errors dearer in some blocks than in others; see `Encoder.weigh`.

        Candidates are compared without it, so this comes after `estimate_rd_cost`.
        """
        with full_precision(self.model.device):
            self.encoder.weigh(importance)

    def encode(
        self, *, effort: int = 1, on_round: Callable[[], object] | None = None
    ) -> CodedCandidate:
        """Code it. effort is one of `refine.ROUNDS`; on_round is called after each round of it."""
        result = self.code_symbols(effort, on_round)
        payload = pack(result.passes, self.model.tables)
        return CodedCandidate(
            self.model,
            self.encoder.rate,
            self.size,
            self.flat,
            payload,
            result.latent,
            result.modes,
        )

    def code_symbols(
        self, effort: int = 1, on_round: Callable[[], object] | None = None
    ) -> CodingResult:
        """Its symbols, and what the encoder knows about them. Options as `encode`."""
        with full_precision(self.model.device):
            result = self.encoder.encode_two_pass()
            if ROUNDS[effort]:
                result = refine(Refiner(self.encoder), result, ROUNDS[effort], on_round)
        return result


@dataclass(frozen=True)
class CodedCandidate:
    """A candidate as a decoder will see it.

    payload is that of the DATA chunk; latent [1,h,w,C] and modes [1,h,w] are what it decodes to, as
    `decode_symbols` gives them.
    """

    model: LoadedModel
    rate: int
    size: tuple[int, int]
    flat: Flat | None
    payload: bytes
    latent: Tensor
    modes: Tensor

    def decoded_planes(self, lo: int, hi: int) -> Planes:
        """The planes [C,H,W] that decoding gives; lo and hi are the samples of 0.0 and 1.0.

        They come from the latent itself: nothing is parsed, and no entropy network runs again.
        """
        samples = reconstruct(
            self.model.decoding.synthesis,
            self.latent[0].cpu().numpy(),
            as_modes(self.modes),
            self.rate,
            self.size,
            Levels(lo, hi, np.dtype(np.int32)),
        )
        if self.flat is not None:
            paint(samples, self.flat)
        planes = (samples - lo).transpose(2, 0, 1).astype(np.float32, order="C")
        return planes / np.float32(max(hi - lo, 1))


def encoding_model(planes: Planes, device: str | None) -> LoadedModel:
    """The model that codes planes [C,H,W]: gray images have one of their own."""
    _, fingerprint = model_identity(gray=len(planes) == 1)
    return load(fingerprint, pick_device(device))
