"""The training loop: resumable to the step, EMA, validation, CSV and TensorBoard logs."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mvmic_codec.errors import InputError
from mvmic_codec.model.device import multiplies_bfloat16
from mvmic_codec.model.encoder_file import NETWORKS
from mvmic_codec.model.export import export
from mvmic_codec.model.identity import COLOUR_MODEL, GRAY_MODEL
from mvmic_codec.model.model import Model
from mvmic_codec.model.shape import Shape
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.transforms import block_dct_matrix, colour_matrix
from mvmic_codec.rate import RATES, checked_index
from mvmic_codec.training.fit import fit_release
from mvmic_codec.training.images import CropSource, Split, load_for_model, mix_of
from mvmic_codec.training.start import start_from_statistics
from mvmic_codec.training.validation import make_samples, validate
from mvmic_codec.training.widen import check_growth, widen

log = logging.getLogger(__name__)

START_CROPS = 96
START_SIZE = 512
FIT_CROPS = 48  # of START_SIZE
CALIBRATION_CROPS = 16  # no larger than those of training: a release is written many times
RATE_BUCKETS = 8
LOG_EVERY = 100
FACTS = ("bpp", "mse", "loss", "norm", "learning_rate")  # that a step reports
WARM_STEPS = 3  # before a step is recorded as a graph
HEAD_LEARNING_RATE = 2e-3  # of a head that is trained along, at the full learning rate


@dataclass(frozen=True)
class TaskConfig:
    """A task whose loss is trained with: L = R + lambda1 D + lambda2 L_task.

    data, masks  folders of images and of their masks
    lambda2      what the task's loss weighs, against bits per pixel; see `Trainer.update`
    layout       "folders" for masks of one class, or "camvid"; see `mvmic_codec.tasks.layouts`
    batch        crops with masks in each step
    head         the file of a head, for an encoder alone: it judges, and stays as it is
    """

    data: str
    masks: str
    lambda2: float
    layout: str = "folders"
    batch: int = 2
    head: str = ""

    def __post_init__(self) -> None:
        """Raise InputError for numbers that cannot be."""
        if not 0 <= self.lambda2 < math.inf or self.batch < 1:
            raise InputError(
                "a task has a lambda2 of 0 or more and at least one crop in a batch, got lambda2 "
                f"{self.lambda2} and {self.batch} crops"
            )


class Task(Protocol):
    """A task to train with. `mvmic_codec.tasks.joint` makes them: this room knows no tasks."""

    @property
    def network(self) -> nn.Module:
        """The head. Those of its parameters that require gradients are trained along."""

    @property
    def lambda2(self) -> float:
        """What the losses weigh."""

    def crops(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches: planes [M,P,s,s] in 0..1, and the class of each pixel, int64 [M,s,s]."""

    def losses(self, s16: Tensor, rate: Tensor, mask: Tensor) -> Tensor:
        """The loss of each crop [M], of features after the body at 1/16 and rate indices [M]."""


@dataclass(frozen=True)
class Config:
    """A training run. It ends at `steps` or after `minutes` of training, whichever comes first."""

    data: str = ""
    steps: int = 40_000
    minutes: float = 1e9
    batch: int = 8
    crop: int = 256
    learning_rate: float = 5e-4  # of the convolutions
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
    rates: tuple[int, int] = (0, RATES - 1)  # the lowest and the highest rate index of crops
    task: TaskConfig | None = None
    # Whether only analysis and hyper-analysis are trained, those of the model of the task's head.
    # It learns from crops with masks alone: data, batch, start and shape have no part in it.
    encoder: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for settings that do not go together."""
        if self.steps < 1:
            raise InputError(f"a run has at least 1 step, got {self.steps}")
        low, high = (checked_index(rate) for rate in self.rates)
        if low > high:
            raise InputError(
                f"rates are the lowest and the highest rate index, got {low} and {high}"
            )
        head = "" if self.task is None else self.task.head
        if self.encoder and not head:
            raise InputError("an encoder is trained with a task, and with the file of its head")
        if head and not self.encoder:
            raise InputError(
                f"the head {head} was trained on features of a released model, and a new model has "
                "others: leave it out, and a new head is trained along"
            )
        if not self.data and not self.encoder:
            raise InputError("a folder of images is missing, data")

    @property
    def gray(self) -> bool:
        """Whether the model is for gray images; else it is for colour."""
        return self.shape.planes == 1


# What is set otherwise by default where an encoder alone is trained.
ENCODER_DEFAULTS = {"steps": 1000, "crop": 320, "learning_rate": 1e-4, "warmup": 10}


def read_config(path: Path | None, **given: Any) -> Config:
    """A JSON file with the fields of Config; relative paths are taken from the file's folder.

    Fields that are `given` count in place of those of the file, which is optional then. Those of a
    task are given as a dictionary, and may be a part of them.
    """
    values: dict[str, Any] = {} if path is None else json.loads(path.read_text())
    if not isinstance(values, dict) or not isinstance(values.get("task") or {}, dict):
        raise ValueError("settings, and those of a task, are JSON objects")
    unknown = set(values) - {f.name for f in fields(Config)}
    if unknown:
        raise ValueError(f"{path}: unknown settings {sorted(unknown)}")
    if path is not None:
        for part, keys in (
            (values, ("data", "start")),
            (values.get("task") or {}, ("data", "masks", "head")),
        ):
            for key in keys:
                if part.get(key):
                    part[key] = str((path.parent / part[key]).resolve())
    task = (values.get("task") or {}) | given.pop("task", {})
    values |= given
    if "shape" in values:
        values["shape"] = Shape(**values["shape"])
    if "rates" in values:
        low, high = values["rates"]
        values["rates"] = low, high
    if task:
        known = {f.name for f in fields(TaskConfig)}
        missing, unknown = {"data", "masks", "lambda2"} - set(task), set(task) - known
        if missing:
            raise ValueError(f"the task lacks {', '.join(sorted(missing))}")
        if unknown:
            raise ValueError(f"unknown settings of the task, {', '.join(sorted(unknown))}")
        values["task"] = TaskConfig(**task)
    if values.get("encoder"):
        values = ENCODER_DEFAULTS | values
    return Config(**values)


def parameter_groups(model: Model, learning_rate: float) -> list[dict[str, Any]]:
    """Groups of parameters with their learning rates: rate tables and post-filter move most."""
    fast, entropy, rest = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "knots" in name or "base_pass" in name or "retouch" in name:
            fast.append(parameter)
        elif name.startswith("entropy") or name == "hyper_analysis.linear.weight":
            entropy.append(parameter)
        else:
            rest.append(parameter)
    return [
        {"params": fast, "lr": learning_rate * 4, "share": 4.0},
        {"params": entropy, "lr": learning_rate, "share": 1.0},
        {"params": rest, "lr": learning_rate, "share": 1.0},
    ]


class Trainer:
    """Model, optimiser, EMA and counters: all that a checkpoint holds.

    A step leaves its report on the device, so that the device never waits for the CPU. On CUDA the
    model is compiled and a step is recorded as one graph.

    With a task, its head is trained along, where it is not frozen. The head is no part of the EMA.
    """

    def __init__(self, config: Config, device: torch.device, task: Task | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device, self.task = config, device, task
        # Where a processor only imitates bfloat16, a step in it takes ten times as long. Runs
        # without a task keep it all the same, and end as they did before there were tasks.
        self.bfloat16 = task is None or device.type != "cpu" or multiplies_bfloat16()
        self.model = Model(config.shape).to(device)
        if config.encoder:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name.startswith(NETWORKS))
        self.ema = Model(config.shape).to(device).eval().requires_grad_(False)
        groups = parameter_groups(self.model, config.learning_rate)
        if task is not None:
            task.network.to(device)
            head = [each for each in task.network.parameters() if each.requires_grad]
            share = HEAD_LEARNING_RATE / config.learning_rate
            groups += [{"params": head, "lr": HEAD_LEARNING_RATE, "share": share}] if head else []
        self.optimiser = torch.optim.AdamW(
            groups,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.step = 0
        self.seconds = 0.0
        self.best = math.inf  # lowest validation log loss so far
        # Running means: of the loss by bucket of rate indices, so that every rate weighs alike, and
        # of the gradient's norm. 0 stands for "not known yet".
        self.level = torch.zeros(RATE_BUCKETS, device=device)
        self.norm = torch.zeros((), device=device)
        # Running means of what a step reports
        self.fact_names = FACTS if task is None else (*FACTS, "task")
        self.facts = torch.zeros(len(self.fact_names), device=device)
        self.recorded: Recorded | None = None

    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return min(1.0, max(self.step / self.config.steps, self.seconds / 60 / self.config.minutes))

    def learning_rate(self) -> float:
        """The present learning rate: warm-up, a constant part, then a cosine down to the floor."""
        c, t = self.config, self.progress()
        warm = min(1.0, (self.step + 1) / c.warmup)
        decay = 0.5 * (1 + math.cos(math.pi * max(0.0, t - c.hold) / (1 - c.hold)))
        return c.learning_rate * warm * (c.floor + (1 - c.floor) * decay)

    def train_step(self, planes: Tensor, mask: Tensor | None = None) -> None:
        """One step with planes [B,P,s,s] in 0..1, at random rate indices.

        mask [M,s,s] is the truth of the last M, if there is a task.
        """
        low, high = self.config.rates
        rate = torch.randint(low, high + 1, (len(planes),))
        lr = torch.tensor(self.learning_rate())
        decay = torch.tensor(1 - min(self.config.ema, (1 + self.step) / (10 + self.step)))
        batch = (planes, rate, lr, decay) if mask is None else (planes, rate, lr, decay, mask)
        if self.device.type == "cuda":
            if self.recorded is None:
                self.recorded = Recorded(self, batch)
            self.recorded(batch)
        else:
            self.update(*batch)
        self.step += 1

    def update(
        self, planes: Tensor, rate: Tensor, lr: Tensor, decay: Tensor, mask: Tensor | None = None
    ) -> None:
        """The step itself, all on the device. A gradient that is not finite changes nothing.

        The loss of a crop is R + lambda1 D, in bits per pixel, and with a mask R + lambda1 D +
        lambda2 L_task. Either is divided by the usual R + lambda1 D at such a rate.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["share"] if lr.is_cuda else float(lr) * group["share"]
        self.optimiser.zero_grad(set_to_none=True)
        with self.bfloat16_autocast():
            out = self.model(planes, rate)
        bits = out.bits / (planes.shape[2] * planes.shape[3])
        each = bits + self.model.ladder[rate] * out.error
        whole, task = each, None
        if self.task is not None and mask is not None:
            judged = len(planes) - len(mask)
            with self.bfloat16_autocast():
                task = self.task.losses(out.s16[judged:], rate[judged:], mask)
            whole = torch.cat((each[:judged], each[judged:] + self.task.lambda2 * task))
        bucket = rate * RATE_BUCKETS // RATES
        level = self.level[bucket]
        (whole / torch.where(level > 0, level, each.detach())).mean().backward()
        with torch.no_grad():
            norm = self.clip()
            self.optimiser.step()
            self.follow(decay)
            self.follow_level(each, bucket)
            facts = torch.stack((bits.mean(), out.error.mean(), each.mean(), norm, lr))
            if task is not None:
                facts = torch.cat((facts, task.mean()[None]))
            self.facts.copy_(torch.where(self.facts > 0, self.facts.lerp(facts, 0.02), facts))

    def bfloat16_autocast(self) -> torch.autocast:
        """A context for networks, in bfloat16 but for layers that refuse."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def clip(self) -> Tensor:
        """Have the optimiser clip the gradient to twice its usual norm; returns the norm."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        usual = torch.where(self.norm > 0, self.norm, norm)
        limited = torch.minimum(norm, 2 * usual)
        usable = norm.isfinite()
        self.norm.copy_(torch.where(usable, usual.lerp(limited, 0.02), self.norm))
        # The optimiser divides gradients by grad_scale, and takes no step where found_inf is 1.
        self.optimiser.grad_scale = norm / limited  # type: ignore[attr-defined]
        self.optimiser.found_inf = 1.0 - usable.float()  # type: ignore[attr-defined]
        return norm

    def follow(self, decay: Tensor) -> None:
        """Move the EMA towards the model by the share `decay` of the way."""
        ours: list[Tensor] = list(self.ema.parameters())
        way = [p - q for p, q in zip(self.model.parameters(), ours, strict=True)]
        torch._foreach_mul_(way, decay)
        torch._foreach_add_(ours, way)

    def follow_level(self, each: Tensor, bucket: Tensor) -> None:
        """Fold the losses [B] of a batch into the running means of their rate buckets."""
        hot = bucket[:, None] == torch.arange(RATE_BUCKETS, device=bucket.device)
        count = hot.sum(0)
        total = (hot * each[:, None]).sum(0)
        known = self.level + 0.02 * (total - count * self.level)
        mean = torch.where(self.level > 0, known, total / count.clamp_min(1))
        self.level.copy_(mean)

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "norm": self.norm,
            "level": self.level,
            "random": torch.get_rng_state(),
        }
        if self.task is not None:
            state["head"] = self.task.network.state_dict()
        half = path.with_suffix(".part")
        try:
            torch.save(state, half)
            os.replace(half, path)
        finally:
            half.unlink(missing_ok=True)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises InputError for one of a run with another task."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        # Checkpoints of earlier versions know no task.
        if state["config"].get("task") != asdict(self.config)["task"]:
            raise InputError(
                f"{path} is of a run with another task, or with none: give the same task, or name "
                "another folder"
            )
        if self.task is not None:
            self.task.network.load_state_dict(state["head"])
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self.norm.copy_(state["norm"])
        self.level.copy_(state["level"])
        torch.set_rng_state(state["random"])


def compile_model(model: Model, **options: Any) -> None:
    """Compile a model whole, in place; options are those of `torch.compile`."""
    for constant in (colour_matrix, block_dct_matrix):
        torch.compiler.assume_constant_result(constant)
    model.compile(fullgraph=True, **options)


class Recorded:
    """`Trainer.update` as a CUDA graph: hundreds of small kernels that start at once."""

    def __init__(self, trainer: Trainer, batch: tuple[Tensor, ...]) -> None:
        self.trainer = trainer
        self.batch = [each.to(trainer.device, copy=True) for each in batch]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.warm = 0
        self.aside = torch.cuda.Stream()
        compile_model(trainer.model)

    def __call__(self, batch: tuple[Tensor, ...]) -> None:
        """Do `Trainer.update` for a batch of the sizes that were recorded."""
        for ours, theirs in zip(self.batch, batch, strict=True):
            ours.copy_(theirs, non_blocking=True)
        if self.graph is None:
            # The optimiser's state and the plans of libraries are made at first use, and must exist
            # before a graph is recorded. So the first steps run without one.
            self.aside.wait_stream(torch.cuda.current_stream())
            # All crops have one size, so the fastest convolutions are searched for once.
            with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
                if self.warm < WARM_STEPS:
                    with torch.cuda.stream(self.aside):
                        self.trainer.update(*self.batch)
                    torch.cuda.current_stream().wait_stream(self.aside)
                    self.warm += 1
                    return
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph, stream=self.aside):
                    self.trainer.update(*self.batch)
        self.graph.replay()


def write_row(path: Path, row: dict[str, float]) -> None:
    """Append a row to a CSV file, with a header if it is new."""
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row.keys())
        if fresh:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" for k, v in row.items()})


class Log:
    """The logs of a run: train.csv, validation.csv, and TensorBoard where it is installed."""

    def __init__(self, out: Path) -> None:
        self.out = out
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(out / "tensorboard"))

    def step(self, trainer: Trainer) -> None:
        """Write the running means of a step's facts every LOG_EVERY steps."""
        if trainer.step % LOG_EVERY == 0:
            facts = dict(zip(trainer.fact_names, trainer.facts.tolist(), strict=True))
            self.write("train.csv", trainer, facts)

    def write(self, name: str, trainer: Trainer, facts: dict[str, float]) -> None:
        """Add a row to a CSV file and to TensorBoard."""
        row = {"step": trainer.step, "seconds": trainer.seconds, **facts}
        write_row(self.out / name, row)
        if self.board is not None:
            for key, value in facts.items():
                self.board.add_scalar(f"{Path(name).stem}/{key}", value, trainer.step)
        log.info("%s %s", name, {k: round(v, 4) for k, v in row.items() if "_bpp_" not in k})


def crop_source(
    config: Config,
    split: Split,
    batch: int,
    size: int,
    seed: int,
    device: str | torch.device = "cpu",
) -> CropSource:
    """Random training crops for the model of this run."""
    mix, planes = mix_of(config.gray), config.shape.planes
    return CropSource(split.train, mix, planes, batch, size, seed, device)


def prepare(
    config: Config,
    split: Split,
    device: torch.device,
    checkpoint: Path,
    task: Task | None = None,
) -> Trainer:
    """A trainer at the checkpoint, at the weights of `config.start`, or at the first guess."""
    trainer = Trainer(config, device, task)
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


def train(config: Config, out: Path, task: Task | None = None) -> Path:
    """Run or resume a training; returns the checkpoint.

    `out` receives checkpoint.pt, train.csv, validation.csv and config.json. Whenever validation
    improves it also receives the release files NAME.safetensors and NAME.json. When the run is
    over, their tables are fitted to what an encoder writes. SIGTERM and SIGINT stop it as in `run`.

    With a task every validation writes the release files: it does not see what the task gains. The
    head is in the checkpoint alone. Features of a release have statistics of their own, and heads
    that judge it are trained on them.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    # The linear predictors carry more bits than TF32 has.
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = out / "checkpoint.pt"
    if config.start and not checkpoint.exists():
        # Check this before loading images, which takes minutes.
        check_growth(config.shape, model_of(Path(config.start)).shape)
    split = load_for_model(Path(config.data), config.gray, config.threads)
    samples = make_samples(split.validation)
    trainer = prepare(config, split, device, checkpoint, task)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    journal = Log(out)
    name = GRAY_MODEL if config.gray else COLOUR_MODEL
    weights = out / f"{name}.safetensors"
    seed = seed_of(trainer)
    source = crop_source(config, split, config.batch, config.crop, seed, device)

    def validation() -> None:
        result = validate(trainer.ema, samples)
        journal.write("validation.csv", trainer, result)
        if result["log_loss"] < trainer.best or task is not None:
            trainer.best = result["log_loss"]
            size = min(START_SIZE, config.crop)
            seen = crop_source(config, split, CALIBRATION_CROPS, size, config.seed + 2).make()
            export(trainer.ema, out, name, card(config, trainer), seen)

    batches = ((planes,) for planes in source) if task is None else joined(source, task, seed)
    run(trainer, batches, checkpoint, journal, validation)
    if trainer.progress() >= 1 and weights.exists():
        fit_release(
            weights, crop_source(config, split, FIT_CROPS, START_SIZE, config.seed + 1).make()
        )
    return checkpoint


def seed_of(trainer: Trainer) -> int:
    """The seed of crops from here on: a run that goes on sees others than at its start."""
    return trainer.config.seed + 7919 * trainer.step


def joined(source: CropSource, task: Task, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Usual crops, then crops with masks in each batch."""
    for planes, (more, mask) in zip(source, task.crops(seed), strict=False):
        yield torch.cat((planes, more.to(planes.device))), mask


def run(
    trainer: Trainer,
    batches: Iterable[tuple[Tensor, ...]],
    checkpoint: Path,
    journal: Log,
    validation: Callable[[], None],
) -> None:
    """Train until the run is over, and save.

    SIGTERM and SIGINT end it after the step that is under way. It saves, and then they do what they
    would have done: SIGINT raises KeyboardInterrupt. Signals that are ignored stay so.
    """
    came: list[int] = []
    before = {
        each: handler
        for each in (signal.SIGTERM, signal.SIGINT)
        if (handler := signal.getsignal(each)) not in (signal.SIG_IGN, None)
    }
    for each in before:
        signal.signal(each, lambda number, frame: came.append(number))
    try:
        _train_on(trainer, batches, checkpoint, journal, validation, came)
        trainer.save(checkpoint)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if came:
        signal.raise_signal(came[0])


def _train_on(
    trainer: Trainer,
    batches: Iterable[tuple[Tensor, ...]],
    checkpoint: Path,
    journal: Log,
    validation: Callable[[], None],
    came: Sequence[int],
) -> None:
    """Train until the run is over, or until a signal came. It saves every now and then."""
    config = trainer.config
    saved = began = time.monotonic()
    with tqdm(total=config.steps, initial=trainer.step, unit="step", disable=None) as bar:
        for batch in batches:
            if trainer.progress() >= 1 or came:
                break
            trainer.train_step(*batch)
            trainer.seconds += time.monotonic() - began
            journal.step(trainer)
            bar.update()
            if trainer.step % config.validate_every == 0 or trainer.progress() >= 1:
                validation()
            if time.monotonic() - saved > config.save_minutes * 60:
                trainer.save(checkpoint)
                saved = time.monotonic()
            began = time.monotonic()


def card(config: Config, trainer: Trainer) -> str:
    """A line for the model card."""
    more, lambda2 = "", ""
    if config.task is not None:
        more, lambda2 = f" and {config.task.batch} with masks", f", lambda2 {config.task.lambda2:g}"
    return (
        f"{trainer.step} steps of {config.batch} crops{more} of {config.crop}x{config.crop}"
        f"{lambda2}, "
        f"{trainer.seconds / 3600:.1f} hours; validation log loss {trainer.best:.4f}. "
        "Trained on research images, some for non-commercial use only."
    )
