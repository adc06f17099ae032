"""The training loop of networks for tasks. A run that was stopped goes on."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.model.device import multiplies_bfloat16
from mvmic_codec.tasks.crops import Batch
from mvmic_codec.tasks.truth import IGNORED
from mvmic_codec.tasks.whole import write_whole

# The norm to which gradients are clipped.
CLIP = 1.0
# What is to fall: of a network, of the kind that the loss is for, and a batch. On its device.
Loss = Callable[[Any, Batch], Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """A training run. It ends after `steps` or `seconds`, whichever comes first.

    seconds  of CPU time on a CPU, else of wall time. A run that this limit ends is not exactly
             repeatable: the learning rate follows the clock
    warmup   steps in which the learning rate rises. From there it falls along a cosine to 0
    seed     of what is random in training. Set it, by `torch.manual_seed`, before the network is
             made as well
    """

    steps: int
    seconds: float = math.inf
    learning_rate: float = 2e-3
    warmup: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.seconds > 0:
            raise InputError(
                f"training takes at least one step and more than 0 seconds, got {self.steps} steps "
                f"and {self.seconds:g} seconds"
            )


@dataclass
class Progress:
    """How far a run has come. `loss` is the mean over the last epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss: float = math.nan

    def share(self, config: TrainConfig) -> float:
        """The share of the run that is done, 0 to 1."""
        return min(1.0, max(self.step / config.steps, self.seconds / config.seconds))


def train(
    network: nn.Module,
    batches: Iterable[Batch],
    config: TrainConfig,
    device: str = "cpu",
    checkpoint: Path | None = None,
    loss: Loss | None = None,
) -> Progress:
    """Train a network in place, by AdamW. It ends on `device`, in evaluation mode.

    network     by default as those of `segmentation`
    batches     one epoch each time it is iterated, such as a DataLoader. It may draw random numbers
                from torch alone: torch is seeded at the start of each epoch
    checkpoint  written after each epoch, and read first if it is there. A run that goes on from one
                ends as it would have without a stop, up to float rounding
    loss        `segmentation_loss_of` by default, or `detection.loss_of` for a detector. It runs
                under autocast to bfloat16 where that is faster

    Raises InputError if there are no batches, and for a checkpoint that is damaged or of another
    run. Raises MvmError if the loss is no longer finite. Else errors as `loss`.
    """
    network.to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    progress = Progress()
    if checkpoint is not None and checkpoint.exists():
        progress = load_checkpoint(checkpoint, network, optimiser, config)
    with tqdm(total=config.steps, initial=progress.step, unit="step", disable=None) as bar:
        while progress.share(config) < 1:
            torch.manual_seed(epoch_seed(config.seed, progress.epoch))
            train_epoch(
                network,
                optimiser,
                batches,
                config,
                progress,
                torch.device(device),
                loss or segmentation_loss_of,
                bar,
            )
            bar.set_postfix(loss=f"{progress.loss:.3f}")
            if checkpoint is not None:
                save_checkpoint(checkpoint, network, optimiser, config, progress)
    network.eval()
    return progress


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch. Runs with neighbouring seeds have no epoch in common."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


def train_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Batch],
    config: TrainConfig,
    progress: Progress,
    device: torch.device,
    loss: Loss,
    bar: tqdm[Any],
) -> None:
    """One pass over the batches, or less if the run ends within it. Errors as `train`."""
    clock = clock_of(device)
    start = clock() - progress.seconds
    total = torch.zeros((), device=device)
    count = 0
    for batch in batches:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, progress)
        # Added on the device, which then never waits for the CPU.
        total += train_step(network, optimiser, batch, device, loss)
        count += 1
        progress.step += 1
        progress.seconds = clock() - start
        bar.update()
        if progress.share(config) >= 1:
            break
    if count == 0:
        raise InputError("there is nothing to train on: the data gives no batches")
    progress.loss = float(total) / count
    progress.epoch += 1
    if not math.isfinite(progress.loss):
        raise MvmError(
            f"training failed in epoch {progress.epoch}: the loss is {progress.loss}; "
            "use a lower learning rate"
        )


def train_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    device: torch.device,
    loss: Loss,
) -> Tensor:
    """One step of the optimiser. Returns the loss before it."""
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
        value = loss(network, batch)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimiser.step()
    return value.detach()


def learning_rate(config: TrainConfig, progress: Progress) -> float:
    """The learning rate of the next step."""
    warm = min(1.0, (progress.step + 1) / config.warmup)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress.share(config)))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16, so that it is faster than single precision."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and multiplies_bfloat16()


def clock_of(device: torch.device) -> Callable[[], float]:
    """The clock of `TrainConfig.seconds`."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def segmentation_loss_of(network: nn.Module, batch: Batch) -> Tensor:
    """The `segmentation_loss` of a network that is called as those of `segmentation`.

    One with one logit knows the classes 0, background, and 1, foreground. Raises InputError for a
    batch without masks.
    """
    if batch["mask"] is None:
        raise InputError("a network for segmentation learns from masks, and the data has none")
    device = next(network.parameters()).device
    maps = {name: each.to(device, non_blocking=True) for name, each in batch["maps"].items()}
    mask = batch["mask"].to(device, non_blocking=True)
    logits = network(maps, batch["rate_indices"].to(device), (mask.shape[-2], mask.shape[-1]))
    return segmentation_loss(logits.float(), mask)


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits [N,K,H,W] and mask [N,H,W] -> the loss of a batch.

    With one logit, binary cross-entropy and the Dice loss of each image (Milletari et al. 2016,
    "V-Net"); with several, cross-entropy. Pixels IGNORED have no part in it.
    """
    counted = mask != IGNORED
    if logits.shape[1] > 1:
        total = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="sum")
        return total / counted.sum().clamp(min=1)
    weight = counted.float()
    truth = mask.float() * weight
    logits = logits[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")
    foreground = logits.sigmoid() * weight
    # 1 is added on either side: a mask without foreground has a Dice loss, too.
    both = 2 * (foreground * truth).sum((1, 2)) + 1
    dice = 1 - both / (foreground.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return entropy / weight.sum().clamp(min=1) + dice.mean()


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
    progress: Progress,
) -> None:
    """Write a checkpoint, whole or not at all."""
    state = {
        "config": asdict(config),
        "progress": asdict(progress),
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    stream = io.BytesIO()
    torch.save(state, stream)
    write_whole(path, stream.getvalue())


def load_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, config: TrainConfig
) -> Progress:
    """Set network and optimiser as they were. Errors as `train`."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["config"] == asdict(config)
        if same:
            network.load_state_dict(state["network"])
            optimiser.load_state_dict(state["optimiser"])
            return Progress(**state["progress"])
    except (OSError, RuntimeError, UnpicklingError, EOFError, LookupError, TypeError) as error:
        raise InputError(
            f"the checkpoint {path} is damaged or of another network: delete it, or name another "
            "place for it"
        ) from error
    raise InputError(
        f"the checkpoint {path} is of a run with other settings: delete it, or name another place "
        "for it"
    )
