"""The training loop: resumable to the step, EMA, validation, CSV and TensorBoard logs."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import signal
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..nets.identity import COLOUR_MODEL, GRAY_MODEL
from ..nets.model import Model, Shape
from ..nets.release import export, model_of
from ..nets.transforms import RATES
from .fit import fit_release
from .images import CropSource, Split, load_for_model, mix_of
from .start import start_from_statistics
from .validation import make_samples, validate
from .widen import check_growth, widen

log = logging.getLogger(__name__)

START_CROPS = 96
START_SIZE = 512
FIT_CROPS = 48  # of START_SIZE
RATE_BUCKETS = 8
LOG_EVERY = 100


@dataclass(frozen=True)
class Config:
    """A training run. The run ends at `steps` or after `minutes` of training, what comes first."""

    data: str
    steps: int = 40_000
    minutes: float = 1e9
    batch: int = 8
    crop: int = 256
    rate: float = 5e-4  # learning rate of the convolutions
    warmup: int = 200
    hold: float = 0.3  # share of the run at the full learning rate, before the cosine
    floor: float = 0.02
    ema: float = 0.998
    seed: int = 0
    validate_every: int = 1000
    save_minutes: float = 4.0
    threads: int = 2
    # A released model's .safetensors to start from in place of statistics; it may be smaller.
    start: str = ""
    shape: Shape = field(default_factory=Shape)

    @property
    def gray(self) -> bool:
        """Whether the model is for gray images; else it is for colour."""
        return self.shape.planes == 1


def read_config(path: Path) -> Config:
    """A JSON file with the fields of Config; relative paths are taken from the file's folder."""
    values: dict[str, Any] = json.loads(path.read_text())
    unknown = set(values) - {f.name for f in fields(Config)}
    if unknown:
        raise ValueError(f"{path}: unknown settings {sorted(unknown)}")
    if "shape" in values:
        values["shape"] = Shape(**values["shape"])
    for key in ("data", "start"):
        if values.get(key):
            values[key] = str((path.parent / values[key]).resolve())
    return Config(**values)


def parameter_groups(model: Model, rate: float) -> list[dict[str, Any]]:
    """Learning rates by what a parameter is: rate tables and retouching move most."""
    fast, entropy, rest = [], [], []
    for name, parameter in model.named_parameters():
        if "knots" in name or "base_pass" in name or "retouch" in name:
            fast.append(parameter)
        elif name.startswith("entropy") or name == "hyper_analysis.linear.weight":
            entropy.append(parameter)
        else:
            rest.append(parameter)
    return [
        {"params": fast, "lr": rate * 4, "share": 4.0},
        {"params": entropy, "lr": rate, "share": 1.0},
        {"params": rest, "lr": rate, "share": 1.0},
    ]


class Trainer:
    """Model, optimiser, EMA and counters: all that a checkpoint holds."""

    def __init__(self, config: Config, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.model = Model(config.shape).to(device)
        self.ema = Model(config.shape).to(device).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.model, config.rate),
            betas=(0.9, 0.99),
            weight_decay=0.0,
            fused=True,
        )
        self.step = 0
        self.seconds = 0.0
        self.norm = 0.0
        self.best = math.inf  # lowest validation log loss so far
        # Running mean of the loss by rate, so that every rate counts alike
        self.level = torch.zeros(RATE_BUCKETS)
        self.recorded: Recorded | None = None

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(1.0, max(self.step / self.config.steps, self.seconds / 60 / self.config.minutes))

    def learning_rate(self) -> float:
        """Warm-up, a level part, then a cosine down to the floor."""
        c, t = self.config, self.progress()
        warm = min(1.0, (self.step + 1) / c.warmup)
        decay = 0.5 * (1 + math.cos(math.pi * max(0.0, t - c.hold) / (1 - c.hold)))
        return c.rate * warm * (c.floor + (1 - c.floor) * decay)

    def gradients(self, planes: Tensor, rate: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Set the gradients of the mean of bits/pixel + lambda * MSE, each relative to its level.

        planes [B,P,s,s] in 0..1, rate indices [B] and running means of the loss at these [B], 0
        where nothing is known; all on the device. Returns bits/pixel and MSE, [B] each.
        """
        with torch.autocast(self.device.type, torch.bfloat16):
            out = self.model(planes, rate)
        bits = out.bits / (planes.shape[2] * planes.shape[3])
        each = bits + self.model.ladder[rate] * out.error
        (each / torch.where(level > 0, level, each.detach())).mean().backward()
        return bits.detach(), out.error.detach()

    def measure(self, planes: Tensor) -> dict[str, float]:
        """Gradients of a batch at random rates, and means of what it costs."""
        rate = torch.randint(0, RATES, (len(planes),))
        bucket = rate * RATE_BUCKETS // RATES
        batch = (planes, rate, self.level[bucket])
        if self.device.type == "cuda":
            if self.recorded is None:
                self.recorded = Recorded(self, batch)
            bits, error = self.recorded.replay(batch)
        else:
            self.optimiser.zero_grad(set_to_none=True)
            bits, error = self.gradients(*batch)
        each = bits.cpu() + self.model.ladder.cpu()[rate] * error.cpu()
        for k, value in zip(bucket.tolist(), each.tolist(), strict=True):
            old = float(self.level[k])
            self.level[k] = value if old == 0 else old + 0.02 * (value - old)
        return {"bpp": float(bits.mean()), "mse": float(error.mean()), "loss": float(each.mean())}

    def train_step(self, planes: Tensor) -> dict[str, float]:
        """One step; a step whose gradient is far out of line is skipped."""
        rate = self.learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        facts = self.measure(planes)
        limit = 2.0 * self.norm if self.norm else 1e9
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        usable = math.isfinite(norm) and (self.step < 100 or norm < 20 * self.norm)
        if usable:
            self.optimiser.step()
            self.norm = (
                norm if self.norm == 0 else self.norm + 0.02 * (min(norm, limit) - self.norm)
            )
            self.follow()
        else:
            log.warning("step %d skipped: gradient norm %.3g", self.step, norm)
        self.step += 1
        return {**facts, "norm": norm, "rate": rate}

    @torch.no_grad()
    def follow(self) -> None:
        """Move the EMA one step towards the model."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        ours: list[Tensor] = list(self.ema.parameters())
        theirs: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "norm": self.norm,
            "best": self.best,
            "level": self.level,
            "random": torch.get_rng_state(),
        }
        half = path.with_suffix(".part")
        torch.save(state, half)
        os.replace(half, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.norm, self.best, self.level = state["norm"], state["best"], state["level"]
        torch.set_rng_state(state["random"])


class Recorded:
    """`Trainer.gradients` as a CUDA graph: thousands of small kernels that start at once.

    The gradients stay where the graph puts them; nobody may set them to None.
    """

    def __init__(self, trainer: Trainer, batch: tuple[Tensor, ...]) -> None:
        self.batch = [each.to(trainer.device, copy=True) for each in batch]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        # Crops have one size: the fastest convolutions for it are looked for once.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            # What is made at first use (constants, plans of libraries) must be there before.
            with torch.cuda.stream(aside):
                for _ in range(3):
                    trainer.optimiser.zero_grad(set_to_none=True)
                    trainer.gradients(*self.batch)
            torch.cuda.current_stream().wait_stream(aside)
            trainer.optimiser.zero_grad(set_to_none=True)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=aside):
                self.out = trainer.gradients(*self.batch)

    def replay(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """As `Trainer.gradients`, for a batch of the sizes that were recorded."""
        for ours, theirs in zip(self.batch, batch, strict=True):
            ours.copy_(theirs, non_blocking=True)
        self.graph.replay()
        return self.out


def write_row(path: Path, row: dict[str, float]) -> None:
    """Append a row to a CSV file, with a header if it is new."""
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row.keys())
        if fresh:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" for k, v in row.items()})


class Log:
    """What a run says of itself: train.csv, validation.csv, TensorBoard where it is installed."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.mean: dict[str, float] = {}
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(out / "tensorboard"))

    def step(self, trainer: Trainer, facts: dict[str, float]) -> None:
        """Fold a step's facts into running means and write them every LOG_EVERY steps."""
        for key, value in facts.items():
            self.mean[key] = self.mean.get(key, value) * 0.98 + value * 0.02
        if trainer.step % LOG_EVERY == 0:
            self.write("train.csv", trainer, self.mean)

    def write(self, name: str, trainer: Trainer, facts: dict[str, float]) -> None:
        """Add a row to a CSV file and to TensorBoard."""
        row = {"step": trainer.step, "seconds": trainer.seconds, **facts}
        write_row(self.out / name, row)
        if self.board is not None:
            for key, value in facts.items():
                self.board.add_scalar(f"{Path(name).stem}/{key}", value, trainer.step)
        log.info("%s %s", name, {k: round(v, 4) for k, v in row.items() if "_bpp_" not in k})


def crop_source(config: Config, split: Split, batch: int, size: int, seed: int) -> CropSource:
    """Crops as the model of this run wants them."""
    return CropSource(split.train, mix_of(config.gray), config.shape.planes, batch, size, seed)


def prepare(config: Config, split: Split, device: torch.device, checkpoint: Path) -> Trainer:
    """A trainer at the checkpoint, at a released model's weights, or at the first guess."""
    trainer = Trainer(config, device)
    if checkpoint.exists():
        trainer.load(checkpoint)
        return trainer
    crops = crop_source(config, split, START_CROPS, START_SIZE, config.seed).make()
    if config.start:
        widen(trainer.model, model_of(Path(config.start)), crops)
    else:
        fresh = Model(config.shape)
        start_from_statistics(fresh, crops)
        trainer.model.load_state_dict(fresh.state_dict())
    trainer.ema.load_state_dict(trainer.model.state_dict())
    return trainer


def train(config: Config, out: Path) -> Path:
    """Run or resume a training; returns the checkpoint.

    OUT receives checkpoint.pt, train.csv, validation.csv, config.json and, whenever validation
    improves, the release files NAME.safetensors and NAME.json, whose tables are fitted to what an
    encoder writes when the run is over. SIGTERM and SIGINT save and stop.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    # The linear predictors carry more bits than TF32 has.
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = out / "checkpoint.pt"
    if config.start and not checkpoint.exists():
        # Before images are loaded, which takes minutes.
        check_growth(config.shape, model_of(Path(config.start)).shape)
    split = load_for_model(Path(config.data), config.gray, config.threads)
    samples = make_samples(split.validation)
    trainer = prepare(config, split, device, checkpoint)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    journal = Log(out)
    name = GRAY_MODEL if config.gray else COLOUR_MODEL
    weights = out / f"{name}.safetensors"
    seed = config.seed + 7919 * trainer.step
    source = crop_source(config, split, config.batch, config.crop, seed)
    saved = began = time.monotonic()
    with tqdm(total=config.steps, initial=trainer.step, unit="step", disable=None) as bar:
        for planes in source:
            if trainer.progress() >= 1 or stopping:
                break
            facts = trainer.train_step(planes)
            trainer.seconds += time.monotonic() - began
            journal.step(trainer, facts)
            bar.update()
            if trainer.step % config.validate_every == 0 or trainer.progress() >= 1:
                result = validate(trainer.ema, samples)
                journal.write("validation.csv", trainer, result)
                if result["log_loss"] < trainer.best:
                    trainer.best = result["log_loss"]
                    export(trainer.ema, out, name, card(config, trainer))
            if time.monotonic() - saved > config.save_minutes * 60:
                trainer.save(checkpoint)
                saved = time.monotonic()
            began = time.monotonic()
    trainer.save(checkpoint)
    if trainer.progress() >= 1 and weights.exists():
        fit_release(
            weights, crop_source(config, split, FIT_CROPS, START_SIZE, config.seed + 1).make()
        )
    return checkpoint


def card(config: Config, trainer: Trainer) -> str:
    """A line for the model card."""
    return (
        f"{trainer.step} steps of {config.batch} crops of {config.crop}x{config.crop}, "
        f"{trainer.seconds / 3600:.1f} hours; validation log loss {trainer.best:.4f}. "
        "Trained on research images, some for non-commercial use only."
    )
