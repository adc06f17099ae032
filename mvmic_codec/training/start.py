"""The first guess: a model that is already a transform codec before any training.

The filter across block borders starts at the orthonormal one of highest coding gain, the block
transforms at the KLT of what it leaves (luma and chroma apart), quantiser steps at
the high-rate optimum, the linear predictors at least squares on training crops, and the table
indices at the mean magnitude of what is left. See docs/training.md for what each is worth.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nets.entropy import LOG_RATIO, PASSES, SCALE_MIN, TABLES
from ..nets.model import Model
from ..nets.transforms import BLOCK, RATES, RateTable, filter_borders, rotate_colour
from ..rate import lambda_of

RIDGE_RATE = 30  # the index whose quantisation noise the predictors are fitted for
HYPER_COARSER = 8.0


def knot_rates(table: RateTable) -> list[float]:
    """The (fractional) rate index of each knot."""
    knots = table.knots.shape[0]
    return [k * (RATES - 1) / (knots - 1) for k in range(knots)]


def theory_step(rate: float) -> float:
    """Step of an orthonormal luma coefficient (RGB luma, three times the gray energy)."""
    lam = lambda_of(0) * (lambda_of(RATES - 1) / lambda_of(0)) ** (rate / (RATES - 1))
    return 1.25 * math.sqrt(18.0 / (lam * math.log(2.0)))


def leading(moment: Tensor, count: int) -> Tensor:
    """The `count` leading eigenvectors of a symmetric matrix, as rows."""
    _, vectors = torch.linalg.eigh(moment)
    rows: Tensor = vectors.flip(1)[:, :count].t()
    return rows


def line_covariance(planes: Tensor, length: int = 64) -> Tensor:
    """[length,length] covariance of rows and columns of [N,1,S,S], stationary, unit variance."""
    lags = torch.zeros(length, dtype=torch.float64)
    for image in (planes, planes.transpose(2, 3)):
        lines = image.unflatten(3, (-1, length)).flatten(0, 3).double()
        moment = lines.t() @ lines
        lags += torch.stack([moment.diagonal(k).mean() for k in range(length)]).cpu()
    at = torch.arange(length)
    return (lags / lags[0])[(at[:, None] - at[None]).abs()]


def best_borders(covariances: list[Tensor]) -> Tensor:
    """The orthonormal 16x16 border filter of highest mean coding gain before a DCT.

    Of the form W diag(I, V) W with V a rotation (Tran, Liang and Tu 2003), so that even signals
    pass unchanged; V is found by LBFGS.
    """
    half = BLOCK // 2
    unit = torch.eye(half, dtype=torch.float64)
    flip = unit.flip(0)
    fold = torch.cat([torch.cat([unit, flip], 1), torch.cat([flip, -unit], 1)]) / math.sqrt(2)
    k = torch.arange(BLOCK, dtype=torch.float64)
    dct = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    dct[0] /= math.sqrt(2)
    blocks = torch.block_diag(dct, dct, dct, dct)
    draw = torch.Generator().manual_seed(0)
    seed = (torch.randn(half, half, dtype=torch.float64, generator=draw) * 0.01).requires_grad_()

    def borders() -> Tensor:
        rotation = torch.linalg.matrix_exp(seed - seed.t())
        out: Tensor = fold @ torch.block_diag(unit, rotation) @ fold
        return out

    def cost() -> Tensor:
        search.zero_grad()
        matrix = borders()
        whole = blocks @ torch.block_diag(unit, matrix, matrix, matrix, unit)
        total = torch.zeros((), dtype=torch.float64)
        for covariance in covariances:
            variance = (whole @ covariance @ whole.t()).diagonal()[BLOCK : 2 * BLOCK]
            total = total + variance.log().mean()
        total.backward()
        return total

    search = torch.optim.LBFGS([seed], max_iter=300, line_search_fn="strong_wolfe")
    search.step(cost)
    return borders().detach()


def table_index(scale: Tensor) -> Tensor:
    """The (fractional) table index of a logistic scale in steps."""
    return 1.0 + torch.log(scale.clamp_min(1e-4) / SCALE_MIN) / LOG_RATIO


def start_from_statistics(model: Model, planes: Tensor, gray: Tensor) -> None:
    """Set a fresh model's parameters from crops [N,3,S,S] in 0..1 (S a multiple of 64)."""
    rotated = rotate_colour(planes)
    luma = rotated[:, :1]
    parts = [luma[part] for part in (gray, ~gray) if bool(part.any())]
    borders = best_borders([line_covariance(part) for part in parts]).float()
    with torch.no_grad():
        model.analysis.borders.copy_(borders)
        model.synthesis.borders.copy_(borders.t())
        start_linear(model, filter_borders(rotated, model.analysis.borders), gray)


def start_linear(model: Model, lapped: Tensor, gray: Tensor) -> None:
    """Block transforms, steps, predictors and tables from planes filtered at the borders."""
    shape = model.shape
    patches = F.pixel_unshuffle(lapped, BLOCK).double()
    block = BLOCK * BLOCK
    luma = patches[:, :block].permute(1, 0, 2, 3).flatten(1)
    chroma = patches[~gray, block:].permute(1, 0, 2, 3).flatten(1)
    basis = torch.zeros(shape.latent, 3 * block, dtype=torch.float64)
    basis[: shape.luma, :block] = leading(luma @ luma.t(), shape.luma)
    basis[shape.luma :, block:] = leading(chroma @ chroma.t(), shape.chroma)
    model.analysis.linear.weight.copy_(basis.float()[:, :, None, None])
    model.synthesis.linear.weight.copy_(basis.t().float()[:, :, None, None])

    live = model.live(gray)[:, :, None, None]
    y = model.analysis.linear(F.pixel_unshuffle(lapped, BLOCK)) * live
    spread = (y.square().sum((0, 2, 3)) / live.expand_as(y).sum((0, 2, 3))).sqrt() + 4.0
    for net in (model.analysis, model.synthesis):
        net.spread.copy_(spread)

    entropy = model.entropy
    for knot, rate in enumerate(knot_rates(entropy.log_step)):
        entropy.log_step.knots[knot] = math.log(theory_step(rate))
        entropy.hyper_log_step.knots[knot] = math.log(HYPER_COARSER * theory_step(rate))

    low = shape.linear
    cells4 = F.pixel_unshuffle(y[:, :low], 4)
    flat = cells4.permute(1, 0, 2, 3).flatten(1).double()
    hyper_basis = leading(flat @ flat.t(), shape.hyper).float()
    model.hyper_analysis.linear.weight.copy_(hyper_basis[:, :, None, None])
    z = model.hyper_analysis.linear(cells4)
    noise = theory_step(RIDGE_RATE)
    z_noisy = z + (torch.rand_like(z) - 0.5) * noise * HYPER_COARSER
    for knot in range(len(entropy.hyper_index.knots)):
        scale = z.abs().mean((0, 2, 3)) / (math.exp(entropy.hyper_log_step.knots[knot, 0])) * 0.72
        entropy.hyper_index.knots[knot] = table_index(scale).clamp(1, TABLES - 1)

    # Least squares, pass by pass: hyper-latent and decoded neighbours -> what comes next.
    cells = F.pixel_unshuffle(y, 2)
    noisy = cells + (torch.rand_like(cells) - 0.5) * noise
    hyper_wide = F.unfold(F.pad(z_noisy, (1,) * 4, mode="replicate"), 3)
    residual_scale = []
    known: list[Tensor] = []
    # The prediction from z alone serves all passes; later passes fit what it leaves.
    height, width = cells.shape[2:]
    for p in range(PASSES):
        target = cells[:, entropy.sites[p]]
        near = target[:, :low]
        if p == 0:
            aim = F.pixel_unshuffle(near, 2).flatten(2)
            solution = solve(hyper_wide, aim, noise)
            weight = solution.t().reshape(low * 4, shape.hyper, 3, 3)
            entropy.hyper_linear.weight[: low * 4].copy_(weight)
            guess = F.conv2d(F.pad(z_noisy, (1,) * 4, mode="replicate"), weight)
            guess = F.pixel_shuffle(guess, 2)
        else:
            wide = F.unfold(F.pad(torch.cat(known, 1), (1,) * 4, mode="replicate"), 3)
            solution = solve(wide, near.flatten(2), noise)
            weight = solution.t().reshape(low, p * low, 3, 3)
            predictor = entropy.predict[p - 1]
            assert isinstance(predictor, torch.nn.Conv2d)
            predictor.weight.copy_(weight)
            guess = F.conv2d(F.pad(torch.cat(known, 1), (1,) * 4, mode="replicate"), weight)
        left = target.clone()
        left[:, :low] -= guess.reshape(near.shape[0], low, height, width)
        weight_live = model.live(gray)[:, :, None, None].expand_as(left)
        residual_scale.append(
            (left.abs() * weight_live).sum((0, 2, 3)) / weight_live.sum((0, 2, 3)) * 0.72
        )
        known.append(noisy[:, entropy.sites[p]][:, :low])
    scale = torch.stack(residual_scale)
    middle = scale.log().mean(0).exp()
    for knot, rate in enumerate(knot_rates(entropy.base)):
        entropy.base.knots[knot] = table_index(middle / theory_step(rate)).clamp(-4, TABLES - 2)
    entropy.base_pass.copy_(table_index(scale) - table_index(middle))


def solve(inputs: Tensor, targets: Tensor, noise: float) -> Tensor:
    """Ridge regression of targets [N,T,L] on inputs [N,K,L] -> [K,T]."""
    x = inputs.permute(1, 0, 2).flatten(1).double()
    t = targets.permute(1, 0, 2).flatten(1).double()
    gram = x @ x.t()
    ridge = x.shape[1] * noise**2 / 12.0
    gram += torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device) * ridge
    solution: Tensor = torch.linalg.solve(gram, x @ t.t())
    return solution.float()
