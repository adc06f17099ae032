"""The first guess: a model that is already a transform codec before any training.

Each part starts at the best value that statistics of training crops give:

- the filter across block borders: the orthonormal one of highest coding gain
- the rotations of the modes: sparse orthonormal transforms of the filtered blocks
- chroma: its KLT
- quantiser steps: the high-rate optimum
- linear predictors: least squares
- table indices: the mean magnitude of the prediction residual

docs/lab/0.1.0.md says what each is worth.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.definition import AREA, FLAG_TABLES, MODES, NODES, TABLES
from mvmic_codec.model.entropy import FLAG_LOGIT, LOG_RATIO, SCALE_MIN, mode_path
from mvmic_codec.model.layers import RateTable, pixel_shuffle, pixel_unshuffle
from mvmic_codec.model.model import Model
from mvmic_codec.model.schedule import SPATIAL_STEPS
from mvmic_codec.model.transforms import (
    ZERO_BELOW,
    block_dct,
    dct_matrix,
    filter_borders,
    mode_costs,
    rotate_colour,
    rows_of,
)
from mvmic_codec.rate import RATES, lambda_of

RIDGE_RATE = 30  # the predictors are fitted for the quantisation noise of this rate index
HYPER_COARSER = 8.0
MODE_BLOCKS = 60_000  # the rotations of the modes are learned from so many blocks


def knot_rates(table: RateTable) -> list[float]:
    """The (fractional) rate index of each knot."""
    knots = table.knots.shape[0]
    return [k * (RATES - 1) / (knots - 1) for k in range(knots)]


def theory_step(rate: float) -> float:
    """The quantiser step of an orthonormal luma coefficient; luma has three times gray's energy."""
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


def best_borders(covariance: Tensor) -> Tensor:
    """The orthonormal 16x16 border filter of highest coding gain before a DCT.

    Of the form W diag(I, V) W with V a rotation (Tran, Liang and Tu 2003), so that even signals
    pass unchanged; V is found by LBFGS.
    """
    half = BLOCK // 2
    unit = torch.eye(half, dtype=torch.float64)
    flip = unit.flip(0)
    fold = torch.cat([torch.cat([unit, flip], 1), torch.cat([flip, -unit], 1)]) / math.sqrt(2)
    dct = dct_matrix(BLOCK)
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
        total: Tensor = (whole @ covariance @ whole.t()).diagonal()[BLOCK : 2 * BLOCK].log().mean()
        total.backward()
        return total

    search = torch.optim.LBFGS([seed], max_iter=300, line_search_fn="strong_wolfe")
    search.step(cost)
    return borders().detach()


def table_index(scale: Tensor) -> Tensor:
    """The (fractional) table index of a logistic scale in steps."""
    return 1.0 + torch.log(scale.clamp_min(1e-4) / SCALE_MIN) / LOG_RATIO


def axis_transform(size: int) -> Tensor:
    """[16,16] orthonormal: DCTs of `size` samples side by side, then a DCT of their means."""
    count = BLOCK // size
    parts = torch.block_diag(*[dct_matrix(size)] * count)
    means = torch.arange(count) * size
    rest = torch.tensor([i for i in range(BLOCK) if i % size])
    return torch.cat((dct_matrix(count) @ parts[means], parts[rest]))


def first_rotations(klt: Tensor) -> Tensor:
    """[MODES,256,256] rotations of DCT coefficients to start from; all keep the first coefficient.

    The KLT, square and oblong blocks inside the 16x16 one, and the DCT itself.
    """
    whole = torch.kron(dct_matrix(BLOCK), dct_matrix(BLOCK)).t()
    sizes = ((8, 8), (4, 4), (16, 16), (16, 8), (8, 16), (4, 16), (16, 4))
    blocks = [torch.kron(axis_transform(a), axis_transform(b)) @ whole for a, b in sizes]
    rotations = torch.stack([klt, *blocks])
    assert len(rotations) == MODES
    return rotations.float()


def learn_rotations(luma: Tensor, klt: Tensor, turns: int = 16) -> Tensor:
    """Sparse orthonormal transforms of blocks [N,256] of DCT coefficients, one for each mode.

    In turns, each block takes the mode of least cost at a random rate, and each mode the
    rotation that brings its blocks closest to what is left of them after quantisation (Sezer,
    Guleryuz and Altunbasak 2015).
    """
    rotations = first_rotations(klt)
    draw = torch.Generator().manual_seed(0)
    every = torch.arange(RATES)
    theory = torch.tensor([theory_step(int(r)) for r in every])
    weights = torch.tensor([lambda_of(int(r)) / 3 for r in every])
    for _ in range(turns):
        rate = torch.randint(0, RATES, (len(luma),), generator=draw)
        step = theory[rate][:, None]
        modes = mode_costs(luma, rotations, step.expand(-1, AREA), weights[rate]).argmin(1)
        for k in range(MODES):
            group = modes == k
            if int(group.sum()) < AREA:
                continue
            inputs = luma[group, 1:]
            for _ in range(2):
                out = inputs @ rotations[k, 1:, 1:].t()
                kept = out * (out.abs() > ZERO_BELOW * step[group]) / step[group]
                moment = (kept.t() @ (inputs / step[group])).double()
                moment += 1e-3 * moment.norm() / BLOCK * rotations[k, 1:, 1:].double()
                left, _, right = torch.linalg.svd(moment)
                rotations[k, 1:, 1:] = (left @ right).float()
    for k in range(MODES):
        energy = (luma[modes == k] @ rotations[k].t()).abs().sum(0)
        energy[0] = math.inf
        rotations[k] = rotations[k, energy.argsort(descending=True)]
    return rotations


def start_from_statistics(model: Model, planes: Tensor) -> None:
    """Set a fresh model's parameters from crops [N,P,S,S] in 0..1 (S a multiple of 64), on CPU."""
    rotated = rotate_colour(planes)
    borders = best_borders(line_covariance(rotated[:, :1])).float()
    with torch.no_grad():
        model.analysis.borders.copy_(borders)
        model.synthesis.borders.copy_(borders.t())
        start_linear(model, block_dct(filter_borders(rotated, borders)))


def start_blocks(model: Model, coefficients: Tensor) -> None:
    """Rotations of luma and any chroma from DCT coefficients [N,256P,h,w]."""
    blocks = model.blocks
    luma = rows_of(coefficients[:, :AREA])
    chroma = rows_of(coefficients[:, AREA:]).double()
    klt = torch.eye(AREA, dtype=torch.float64)
    inner = luma[:, 1:].double()
    klt[1:, 1:] = leading(inner.t() @ inner, AREA - 1)
    draw = torch.Generator().manual_seed(0)
    some = torch.randperm(len(luma), generator=draw)[:MODE_BLOCKS]
    rotations = learn_rotations(luma[some], klt)
    blocks.luma.copy_(rotations)
    basis = leading(chroma.t() @ chroma, model.shape.chroma).float()
    blocks.chroma.copy_(basis)


def start_mode_tables(model: Model, coefficients: Tensor) -> None:
    """Log odds of the bits of a mode, from how often each is chosen at each rate."""
    table = model.entropy.mode_base
    for knot, rate in enumerate(knot_rates(table)):
        step = torch.full((len(coefficients), model.shape.latent, 1, 1), theory_step(rate))
        weight = torch.full((len(coefficients),), lambda_of(rate) / 3)
        modes = model.blocks.costs(coefficients, step, weight).argmin(1)
        nodes, bits = mode_path(modes.flatten())
        passed = torch.bincount(nodes.flatten(), minlength=NODES).float()
        ones = torch.bincount(nodes.flatten(), bits.flatten().double(), minlength=NODES).float()
        odds = torch.log((ones + 1) / (passed - ones + 1))
        table.knots[knot] = (odds / FLAG_LOGIT + (FLAG_TABLES - 1) / 2).clamp(0, FLAG_TABLES - 1)


def start_linear(model: Model, coefficients: Tensor) -> None:
    """Rotations, steps, predictors and tables from DCT coefficients of lapped planes."""
    shape = model.shape
    start_blocks(model, coefficients)
    start_mode_tables(model, coefficients)
    noise = theory_step(RIDGE_RATE)
    steps = torch.full((len(coefficients), shape.latent, 1, 1), noise)
    weight = torch.full((len(coefficients),), lambda_of(RIDGE_RATE) / 3)
    modes = model.blocks.costs(coefficients, steps, weight).argmin(1)
    y = model.blocks(coefficients, modes)
    spread = coefficients.square().mean((0, 2, 3)).sqrt() + 4.0
    for net in (model.analysis, model.synthesis):
        net.spread.copy_(spread)

    entropy = model.entropy
    for knot, rate in enumerate(knot_rates(entropy.log_step)):
        entropy.log_step.knots[knot] = math.log(theory_step(rate))
        entropy.hyper_log_step.knots[knot] = math.log(HYPER_COARSER * theory_step(rate))

    low = shape.near
    cells4 = pixel_unshuffle(coefficients[:, model.hyper_analysis.low], 4)
    flat = cells4.permute(1, 0, 2, 3).flatten(1).double()
    hyper_basis = leading(flat @ flat.t(), shape.hyper).float()
    model.hyper_analysis.linear.weight.copy_(hyper_basis[:, :, None, None])
    z = model.hyper_analysis.linear(cells4)
    z_noisy = z + (torch.rand_like(z) - 0.5) * noise * HYPER_COARSER
    for knot in range(len(entropy.hyper_index.knots)):
        scale = z.abs().mean((0, 2, 3)) / (math.exp(entropy.hyper_log_step.knots[knot, 0])) * 0.72
        entropy.hyper_index.knots[knot] = table_index(scale).clamp(1, TABLES - 1)

    # Least squares, pass by pass: hyper-latent and decoded neighbours -> what comes next.
    cells = pixel_unshuffle(y, 2)
    aligned = entropy.spread_modes(entropy.aligned, modes)
    noisy = cells + (torch.rand_like(cells) - 0.5) * noise
    hyper_wide = F.unfold(F.pad(z_noisy, (1,) * 4, mode="replicate"), 3)
    residual_scale = []
    known: list[Tensor] = []
    leftover = torch.zeros_like(cells)
    # Where modes differ nothing is predicted; the fit is to what mode 0 would make of every block.
    aims = pixel_unshuffle(model.blocks(coefficients, torch.zeros_like(modes)), 2)
    height, width = cells.shape[2:]
    for p in range(SPATIAL_STEPS):
        target = cells[:, entropy.sites[p]]
        same = aligned[:, entropy.sites[p, :low]]
        near = aims[:, entropy.sites[p, :low]]
        if p == 0:
            # The prediction from z alone serves all passes; later passes fit what it leaves.
            aim = pixel_unshuffle(near, 2).flatten(2)
            solution = solve(hyper_wide, aim, noise)
            weight = solution.t().reshape(low * 4, shape.hyper, 3, 3)
            entropy.hyper_linear.weight[: low * 4].copy_(weight)
            guess = F.conv2d(F.pad(z_noisy, (1,) * 4, mode="replicate"), weight)
            guess = pixel_shuffle(guess, 2)
        else:
            wide = F.unfold(F.pad(torch.cat(known, 1), (1,) * 4, mode="replicate"), 3)
            solution = solve(wide, near.flatten(2), noise)
            weight = solution.t().reshape(low, p * low, 3, 3)
            predictor = entropy.predict[p - 1]
            assert isinstance(predictor, torch.nn.Conv2d)
            predictor.weight.copy_(weight)
            guess = F.conv2d(F.pad(torch.cat(known, 1), (1,) * 4, mode="replicate"), weight)
        left = target.clone()
        left[:, :low] -= guess.reshape(near.shape[0], low, height, width) * same
        residual_scale.append(left.abs().mean((0, 2, 3)) * 0.72)
        known.append(noisy[:, entropy.sites[p]][:, :low] * same)
        leftover[:, entropy.sites[p]] = left.abs()
    scale = torch.stack(residual_scale)
    middle = scale.log().mean(0).exp()
    for knot, rate in enumerate(knot_rates(entropy.base)):
        entropy.base.knots[knot] = table_index(middle / theory_step(rate)).clamp(-4, TABLES - 2)
    entropy.base_pass.copy_(table_index(scale) - table_index(middle))
    size = rows_of(pixel_shuffle(leftover, 2)) * 0.72
    whole = table_index(size.mean(0))
    for k in range(MODES):
        group = size[modes.flatten() == k]
        if len(group) > AREA:
            entropy.base_mode[k] = (table_index(group.mean(0)) - whole).clamp(-20, 20)


def solve(inputs: Tensor, targets: Tensor, noise: float) -> Tensor:
    """Ridge regression of targets [N,T,L] on inputs [N,K,L] -> [K,T]."""
    x = inputs.permute(1, 0, 2).flatten(1).double()
    t = targets.permute(1, 0, 2).flatten(1).double()
    gram = x @ x.t()
    ridge = x.shape[1] * noise**2 / 12.0
    gram += torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device) * ridge
    solution: Tensor = torch.linalg.solve(gram, x @ t.t())
    return solution.float()
