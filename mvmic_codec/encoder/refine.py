"""Refinement of an encoder's symbols by gradients: what effort 2 and 3 do.

The encoder chooses symbols as if each changed only its own coefficient and its own bits. But
synthesis spreads a symbol to other coefficients, and the context networks predict its neighbours
from it. Here the gradient of both, at the symbols chosen so far, moves the target of every
coefficient. Symbols are chosen again by the exact integer
model, a given number of times. The result of least cost is kept, by true bits and by the error of
the pixels that will be seen, weighed as `Encoder.weigh` says. Decoders see no difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.encoder.decoded import planes_of_latent
from mvmic_codec.encoder.encode import CodingResult, Encoder
from mvmic_codec.model.definition import FRACTION, MODES
from mvmic_codec.model.entropy import EntropyModel
from mvmic_codec.model.identity import find_identity
from mvmic_codec.model.layers import pixel_shuffle, pixel_unshuffle
from mvmic_codec.model.schedule import SCHEDULE
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.transforms import dequantised, restore_colour
from mvmic_codec.rate import lambda_of

# Rounds of refinement by effort.
ROUNDS = {1: 0, 2: 2, 3: 12}
# Share of the way to the estimated minimum that the target moves: the second derivative is a guess.
STRIDE = 0.5
# Blocks choose their modes again in every so many rounds.
MODES_EVERY = 3


@lru_cache(maxsize=2)
def trainable(fingerprint: str, device: torch.device) -> EntropyModel:
    """The training form of a released entropy model, which has gradients."""
    _, path = find_identity(bytes.fromhex(fingerprint))
    with torch.random.fork_rng(devices=[]):
        model = model_of(path)
    return model.entropy.to(device).eval().requires_grad_(False)


class Refiner:
    """The cost of a run, and its gradient."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.model = encoder, encoder.model
        self.planes = restore_colour(encoder.rotated)
        rows = encoder.importance.repeat_interleave(BLOCK, 0)
        self.importance = rows.repeat_interleave(BLOCK, 1)  # by pixel, [H,W]
        # Bits for a unit of squared error.
        self.lambda_error = lambda_of(encoder.rate) / 3.0
        self.entropy = trainable(self.model.identity.fingerprint, self.model.device)

    def error(self, shown: Tensor) -> Tensor:
        """Squared error of planes [1,P,H,W] in 0..1 against the image's, where they are seen.

        On the 255 scale: three samples each, gray or not. Each block's counts by its importance.
        """
        weights = self.encoder.shown * self.importance
        error = ((shown - self.planes) * 255).square().mul(weights).sum()
        return error * (3 / self.planes.shape[1])

    def cost(self, run: CodingResult) -> float:
        """Bits, plus lambda times the squared error."""
        bits = sum(ans.estimate_bits(*each.coded(), self.model.tables) for each in run.passes)
        net = self.model.decoding.synthesis
        shown = planes_of_latent(net, run.latent, run.modes, self.encoder.rate)
        return bits + self.lambda_error * float(self.error(shown))

    def rd_gradient(self, run: CodingResult) -> Tensor:
        """The gradient of cost by y [1,C,h,w], each coefficient's own bits left out."""
        encoder, entropy = self.encoder, self.entropy
        # In training z is its symbols: it has no means.
        z = encoder.z.float() / FRACTION
        features = entropy.first_features(z, encoder.rates)
        _, features, _ = entropy.code_modes(features, only(run.modes), encoder.rates)
        y = self.model.blocks(run.target, run.modes)
        lambda_error = torch.tensor([self.lambda_error], device=y.device)
        with torch.enable_grad():
            symbols = self.training_symbols(run).requires_grad_()
            coded = entropy(y, run.modes, features, z, encoder.rates, lambda_error, symbols)
            bits = (coded.bits * encoder.inside).sum()
            (by_symbol,) = torch.autograd.grad(bits, symbols)
            decoded = dequantised(run.latent).requires_grad_()
            error = self.error(self.float_planes(decoded, run.modes))
            (by_decoded,) = torch.autograd.grad(error, decoded)
        by_bits = by_symbol / encoder.step.float()[:, None, None]
        gradient: Tensor = by_bits + self.lambda_error * by_decoded
        return gradient

    def float_planes(self, y: Tensor, modes: Tensor) -> Tensor:
        """Planes [1,P,H,W] of y [1,C,h,w] and modes, by synthesis that has gradients."""
        blocks, synthesis = self.model.blocks, self.model.synthesis
        out = synthesis(blocks.inverse(y, modes), modes, self.encoder.rates)
        return restore_colour(out).clamp(0, 1)

    def training_symbols(self, run: CodingResult) -> Tensor:
        """Symbols [1,C,h,w] that make the same latent in training, which knows no neighbours.

        They are not whole: nothing is dependent there.
        """
        entropy = self.model.entropy
        cells = pixel_unshuffle(run.coded[None], 2).clone()
        first = entropy.places(SCHEDULE[0])
        cells[:, first] += entropy.from_neighbours(cells[:, first], self.encoder.rate)[0]
        return pixel_shuffle(cells, 2).float() / FRACTION


def only(modes: Tensor) -> Tensor:
    """Costs [B,K,h,w] that leave blocks no choice but their modes [B,h,w]."""
    costs = torch.full((len(modes), MODES, *modes.shape[1:]), math.inf, device=modes.device)
    return costs.scatter_(1, modes[:, None], 0.0)


def refine(
    refiner: Refiner, run: CodingResult, rounds: int, on_round: Callable[[], object] | None = None
) -> CodingResult:
    """The run of least cost among `run` and those of so many rounds after it.

    on_round is called after each.
    """
    encoder, blocks = refiner.encoder, refiner.model.blocks
    best, least = run, refiner.cost(run)
    for done in range(1, rounds + 1):
        # The minimum, if the error of each coefficient were independent of all others.
        step = refiner.rd_gradient(run) / (2 * refiner.lambda_error) / encoder.importance
        minimum = dequantised(run.latent) - step
        target = torch.lerp(run.target, blocks.inverse(minimum, run.modes), STRIDE)
        choose_modes = done % MODES_EVERY == 0
        costs = encoder.costs_after(run, target) if choose_modes else only(run.modes)
        run = encoder.run(costs, target)
        cost = refiner.cost(run)
        if cost < least:
            best, least = run, cost
        if on_round is not None:
            on_round()
    return best
