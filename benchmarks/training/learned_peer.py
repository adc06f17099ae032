"""Train a learned peer, a model of CompressAI, on our colour images for `mvmic eval --learned`.

    python benchmarks/training/learned_peer.py mbt2018-mean OUT --price 0.013 --minutes 60
    python benchmarks/training/learned_peer.py mbt2018-mean OUT --price 0.05 --minutes 30 \\
        --start OUT/mbt2018-mean-0.0130.pt

Same images, shares of their kinds and crops as our model for colour, and as there transforms in
bfloat16 and a learning rate that warms up, stays and falls along a cosine; loss and optimisers as
CompressAI's own example has them (bits per pixel and the price times the mean squared error at 255;
Adam, at 1e-3 for the quantiles; gradients cut to norm 1). Minutes are of the processor, so that
other work on the machine takes nothing away.
OUT/NAME-PRICE.pt is a checkpoint from which the same command goes on.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from tqdm import tqdm

from mvmic_codec.evaluation.codec import LEARNED
from mvmic_codec.evaluation.learned import make, weights_path
from mvmic_codec.training.images import CropSource, load_for_model, mix_of

QUANTILE_RATE = 1e-3
# Shares of the training time: until the learning rate is reached, and until it falls.
WARM, HOLD = 0.02, 0.4
# Of CompressAI's models, in bfloat16. What means and scales come from needs single precision.
NETWORKS = ("g_a", "g_s", "h_a")
GRADIENT_NORM = 1.0
SAVE_SECONDS = 240


def in_bfloat16(network: nn.Module) -> None:
    """Has a network compute in bfloat16 and give single precision."""
    forward = network.forward

    def wrapped(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            out: torch.Tensor = forward(x)
        return out.float()

    network.forward = wrapped  # type: ignore[method-assign]


def learning_rate(rate: float, progress: float) -> float:
    """At `progress`, 0 to 1, of a run with the given peak."""
    falling = max(0.0, progress - HOLD) / (1 - HOLD)
    return rate * min(1.0, (progress + 1e-3) / WARM) * 0.5 * (1 + math.cos(math.pi * falling))


class Trainer:
    """Model, optimisers and counters: all that a checkpoint holds."""

    def __init__(self, name: str, price: float) -> None:
        self.price = price
        self.model = make(name).train()
        for network in NETWORKS:
            in_bfloat16(getattr(self.model, network))
        parameters = dict(self.model.named_parameters())
        quantiles = [p for n, p in parameters.items() if n.endswith(".quantiles")]
        rest = [p for n, p in parameters.items() if not n.endswith(".quantiles")]
        self.optimiser = torch.optim.Adam(rest)
        self.quantile_optimiser = torch.optim.Adam(quantiles, lr=QUANTILE_RATE)
        self.step, self.seconds, self.loss = 0, 0.0, math.nan

    def train_step(self, planes: torch.Tensor, rate: float) -> None:
        self.optimiser.param_groups[0]["lr"] = rate
        out = self.model(planes)
        pixels = planes.shape[0] * planes.shape[2] * planes.shape[3]
        nats = sum(-likelihoods.log().sum() for likelihoods in out["likelihoods"].values())
        error = nn.functional.mse_loss(out["x_hat"], planes)
        loss = nats / (math.log(2) * pixels) + self.price * 255**2 * error
        self.optimiser.zero_grad()
        self.quantile_optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimiser.step()
        self.model.aux_loss().backward()
        self.quantile_optimiser.step()
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self.step += 1

    def save(self, path: Path) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "quantile_optimiser": self.quantile_optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.quantile_optimiser.load_state_dict(state["quantile_optimiser"])
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]


@click.command()
@click.argument("name", type=click.Choice(LEARNED))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--data", default="../shared/data/train", type=click.Path(path_type=Path))
@click.option("--price", default=0.013, help="Of an error: lambda.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    help="Of processor time in steps.",
)
@click.option("--rate", default=3e-4, help="The largest learning rate.")
@click.option("--start", type=click.Path(path_type=Path), help="Another checkpoint to start from.")
@click.option("--batch", default=4)
@click.option("--crop", default=256)
@click.option("--threads", default=1)
@click.option("--seed", default=0)
def main(
    name: str,
    out: Path,
    data: Path,
    price: float,
    minutes: float,
    rate: float,
    start: Path | None,
    batch: int,
    crop: int,
    threads: int,
    seed: int,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    path = weights_path(out, name, price)
    trainer = Trainer(name, price)
    if path.exists():
        trainer.load(path)
    elif start is not None:
        trainer.model.load_state_dict(torch.load(start, weights_only=True)["model"])
    images = load_for_model(data, gray=False, threads=threads).train
    source = CropSource(images, mix_of(gray=False), 3, batch, crop, seed + trainer.step)
    saved = trainer.seconds
    with tqdm(initial=trainer.step, unit="step", disable=None) as bar:
        for planes in source:
            progress = trainer.seconds / (60 * minutes)
            if progress >= 1:
                break
            began = time.process_time()
            trainer.train_step(planes, learning_rate(rate, progress))
            trainer.seconds += time.process_time() - began
            bar.update()
            bar.set_postfix(loss=f"{trainer.loss:.4f}")
            if trainer.seconds - saved > SAVE_SECONDS:
                trainer.save(path)
                saved = trainer.seconds
    trainer.save(path)
    click.echo(f"{path}: {trainer.step} steps in {trainer.seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
