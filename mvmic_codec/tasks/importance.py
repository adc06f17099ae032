"""What an error in each block of an image means to a head: a map by which an encoder weighs errors.

Coding moves the coefficients of a block by some error e, and the head's logits by J e, J being
their Jacobian. How far the predicted probabilities move, as Kullback-Leibler divergence, is
e^T J^T F J e / 2 to second order. F is the Fisher information of the logits: p (1 - p) of one
class, diag(p) - p p^T of several. A gradient g of <v, logits> by the coefficients, with random v of
covariance F, has g g^T = J^T F J on average. So the mean of |g|^2 over a block says what errors
there cost the task. No ground truth is needed: the head's own doubt stands for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.bitstream.grid import BLOCK, coded_sites
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.encoder.candidate import CodedCandidate
from mvmic_codec.errors import InputError
from mvmic_codec.features import statistics
from mvmic_codec.features.extract import last_of
from mvmic_codec.features.maps import Features
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.synthesis import Synthesis
from mvmic_codec.model.transforms import dequantised
from mvmic_codec.tasks.heads import Head, other_model

# Costs differ by orders of magnitude between blocks. At power 1 all bits would go to a few.
POWER = 0.25
# Nothing counts less or more than this, whatever the power.
LEAST, MOST = 1 / 8, 8.0
# How many v the mean is taken over: fewer make a noisier map, and each takes a backward pass.
DRAWS = 4


def importance_map(
    coded: CodedCandidate, head: Head, power: float = POWER
) -> npt.NDArray[np.float32]:
    """What an error in each block counts, float32 [ceil(H/16),ceil(W/16)] from LEAST to MOST.

    coded  the image as it was coded without a map. The head looks at its features
    power  of the cost of errors, relative to its geometric mean over blocks that are coded

    Values have a geometric mean of 1 over these blocks, but for the bounds. They are 1 everywhere
    if the head is sure of everything. The same input gives the same map, up to rounding. Takes
    memory for all activations of synthesis and of the head at once.

    Raises InputError and warns as `Head.check`.
    """
    with full_precision(coded.model.device):
        errors = task_errors(coded, head)
        rows, columns = (-(-side // BLOCK) for side in coded.size)
        around = F.avg_pool2d(
            errors[None, :rows, :columns], 3, stride=1, padding=1, count_include_pad=False
        )[0]
        logs = around.double().clamp_min(torch.finfo(torch.float32).tiny).log()
        hidden = None if coded.flat is None else coded.flat.hidden
        sites = torch.from_numpy(coded_sites(coded.size, hidden)[:rows, :columns]).to(logs.device)
        # Nothing is coded of an image that is flat throughout.
        mean = logs[sites].mean() if sites.any() else logs.mean()
        weights = ((logs - mean) * power).exp().clamp(LEAST, MOST)
    out: npt.NDArray[np.float32] = weights.float().cpu().numpy()
    return out


def check_model(head: Head, fingerprint: bytes) -> None:
    """Raise InputError unless a head segments features of the model with this fingerprint."""
    head.check_task(detects=False)
    head.feature_maps()
    if fingerprint.hex() != head.card.fingerprint:
        raise InputError(other_model(head.card.fingerprint, fingerprint.hex()))


def task_errors(coded: CodedCandidate, head: Head) -> Tensor:
    """|g|^2 of each block of the padded image [h,w]; see the top of this file."""
    model = coded.model
    device = next(head.network.parameters()).device
    errors = torch.zeros(coded.modes.shape[1:], device=model.device)
    random = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        y = dequantised(coded.latent)
        coefficients = model.blocks.inverse(y, coded.modes).requires_grad_()
        features = features_of(coded, coefficients, head.feature_maps())
        head.check(features)
        maps = {name: each.to(device) for name, each in features.maps.items()}
        logits = head.network(maps, torch.tensor([coded.rate], device=device), coded.size)
        for _ in range(DRAWS):
            v = draw(logits.detach(), random)
            (g,) = torch.autograd.grad(logits, coefficients, v, retain_graph=True)
            errors += g.square().sum(1)[0] / DRAWS
    return errors


def features_of(coded: CodedCandidate, coefficients: Tensor, names: tuple[str, ...]) -> Features:
    """Features of an image, with gradients by its coefficients [1,256P,h,w]."""
    model, (height, width) = coded.model, coded.size
    fingerprint = bytes.fromhex(model.identity.fingerprint)
    measured, last = statistics.load(fingerprint), last_of(names)
    maps: OrderedDict[str, Tensor] = OrderedDict()
    modes, rates = coded.modes.long(), torch.tensor([coded.rate], device=model.device)
    for name, whole in stages(model.synthesis, coefficients, modes, rates):
        if name in names:
            stride = STRIDES[name]
            # A copy: it is normalised in place.
            maps[name] = whole[..., : -(-height // stride), : -(-width // stride)].clone()
            measured.normalise(name, maps[name], coded.rate)
        if name == last:
            break
    flat = np.zeros(coded.size, np.bool_) if coded.flat is None else coded.flat.map > 0
    return Features(maps, coded.size, (coded.rate,), fingerprint, flat[None])


def stages(
    net: Synthesis, coefficients: Tensor, modes: Tensor, rates: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """The feature maps of synthesis in floating point, in their order."""
    yield "coefficients", coefficients
    s16 = net.body16(net.enter16(coefficients, modes, rates))
    yield "s16", s16
    yield "s8", net.body8(net.enter8(s16, net.linear_planes(coefficients), rates))


def draw(logits: Tensor, random: torch.Generator) -> Tensor:
    """Random numbers, like logits [1,K,H,W], whose covariance is the Fisher information of each."""
    normal = torch.randn(logits.shape, generator=random).to(logits)
    if logits.shape[1] == 1:
        p = logits.sigmoid()
        return (p * (1 - p)).sqrt() * normal
    p = logits.softmax(1)
    along = p.sqrt() * normal
    return along - p * along.sum(1, keepdim=True)
