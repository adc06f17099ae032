"""Train an encoder for a task through a released decoder: the loss of `joint`, analysis alone.

The decoder, its entropy model and the head stay as they are. Bits are those of the entropy model's
training form, which has gradients; see `model.trainable`. All that a run makes lies in one folder:

    checkpoint.pt             to go on from
    train.csv                 running means of what steps report
    validation.csv            what held-out crops cost, at the start and later
    NAME.tuned.safetensors    the encoder, once a step was taken; see `model.tuned`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.identity import find_identity
from mvmic_codec.model.model import Model
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.tuned import EncoderCard, save_encoder
from mvmic_codec.tasks.heads import digest_of, load_head
from mvmic_codec.tasks.joint import (
    JointTask,
    Masked,
    as_batch,
    check_classes,
    cut,
    frozen_network,
    halves_of,
    load_masked,
    padded,
)
from mvmic_codec.training.loop import Config, Log, Trainer, run, seed_of

# Held-out images that are validated with, and at how many rates of the band.
VALIDATION_IMAGES = 16
VALIDATION_RATES = 3


def tune(config: Config, out: Path) -> Path:
    """Train the encoder of the model that the task's head is for, or go on. Returns its file.

    The file is written anew whenever held-out crops were validated with, but not before the first
    step: then it is the released encoder. Signals stop a run as in `loop.run`. A run that was
    stopped goes on from its checkpoint.

    Raises InputError for a head that takes other maps than s16 or has other classes, ModelError if
    its model is not installed, and errors as `load_head` and `joint.halves_of`.
    """
    settings = config.task
    assert settings is not None
    torch.set_num_threads(config.threads)
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    head = load_head(settings.head, str(device))
    network = frozen_network(head)
    identity, weights = find_identity(bytes.fromhex(head.card.fingerprint))
    start = model_of(weights)
    config = replace(config, shape=start.shape)
    train, held_out = halves_of(config)
    check_classes(head, settings.layout)
    masked = load_masked(train, config.gray)
    task = JointTask(masked, network, settings.lambda2, settings.batch, config.crop)
    chosen = held_out[:: -(-len(held_out) // VALIDATION_IMAGES)]
    crops = [centre(each, config.crop) for each in load_masked(chosen, config.gray)]
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, path = out / "checkpoint.pt", out / f"{identity.name}.tuned.safetensors"
    trainer = starting_at(start, config, device, task)
    if checkpoint.exists():
        trainer.load(checkpoint)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    journal = Log(out)

    def validation() -> None:
        found = measure(trainer, task, crops)
        journal.write("validation.csv", trainer, found)
        if trainer.step == 0:
            return
        card = EncoderCard(
            fingerprint=identity.fingerprint,
            lambda2=settings.lambda2,
            rates=list(config.rates),
            data=f"{len(train)} images of {Path(settings.data).name}",
            licence="not stated",
            notes=(
                f"{trainer.step} steps of {settings.batch} crops of {config.crop}x{config.crop}, "
                f"the head {Path(settings.head).name}"
            ),
            head=digest_of(head),
        )
        save_encoder(trainer.ema, card, path)

    if trainer.step == 0:
        validation()
    run(trainer, task.crops(seed_of(trainer)), checkpoint, journal, validation)
    return path


def starting_at(
    start: Model, config: Config, device: torch.device, task: JointTask | None
) -> Trainer:
    """A trainer of an encoder at the weights of a released model."""
    trainer = Trainer(config, device, task)
    for model in (trainer.model, trainer.ema):
        model.load_state_dict(start.state_dict())
    return trainer


def centre(each: Masked, size: int) -> Masked:
    """The square in the middle of an image, or of the image padded."""
    each = padded(each, size)
    top, left = ((side - size) // 2 // BLOCK * BLOCK for side in each.mask.shape)
    return cut(each, top, left, size)


@torch.no_grad()
def measure(trainer: Trainer, task: JointTask, crops: Sequence[Masked]) -> dict[str, float]:
    """Means over crops at rates of the band: bits per pixel, error, loss of the task, and of all.

    The error is that of `model.Output`.
    """
    model, (low, high) = trainer.ema, trainer.config.rates
    rate = torch.linspace(low, high, VALIDATION_RATES, device=trainer.device).round().long()
    found: list[Tensor] = []
    for each in crops:
        planes, mask = (x.to(trainer.device) for x in as_batch([each] * VALIDATION_RATES))
        with trainer.bfloat16_autocast():
            out = model(planes, rate)
            losses = task.losses(out.s16, rate, mask)
        bpp = out.bits / planes[0, 0].numel()
        loss = bpp + model.ladder[rate] * out.error + task.lambda2 * losses
        found.append(torch.stack((bpp, out.error, losses, loss)).mean(1))
    means = torch.stack(found).mean(0).tolist()
    return dict(zip(("bpp", "mse", "task", "loss"), means, strict=True))
