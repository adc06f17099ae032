"""The training loop of tasks: it learns, stops and goes on, and says what is wrong."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.tasks import train as training
from mvmic_codec.tasks.segmentation import HeadConfig, SegmentationHead
from mvmic_codec.tasks.train import IGNORED, TrainConfig, segmentation_loss, train

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
CONFIG = TrainConfig(steps=12, warmup=2, learning_rate=1e-2)


class Squares:
    """Epochs of batches with a square each; the first channel knows where it is."""

    def __init__(self, batches=4, classes=1):
        self.batches, self.classes = batches, classes
        self.seen = []

    def __iter__(self):
        for _ in range(self.batches):
            maps = torch.randn(2, 6, 8, 8)
            mask = torch.zeros(2, 128, 128, dtype=torch.int64)
            for k in range(2):
                top, left = torch.randint(0, 5, (2,)).tolist()
                number = int(torch.randint(1, max(2, self.classes), ()))
                mask[k, 16 * top : 16 * top + 48, 16 * left : 16 * left + 48] = number
                maps[k, number - 1, top : top + 3, left : left + 3] += 4
            mask[:, :, :16] = IGNORED
            self.seen.append(mask)
            yield {"maps": {"s16": maps}, "rate_indices": torch.tensor([9, 50]), "mask": mask}


def make(classes=1):
    torch.manual_seed(3)
    return SegmentationHead(HeadConfig({"s16": 6}, classes, width=12))


def weights(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("classes", [1, 3])
def test_it_learns(classes, device):
    data = Squares(10, classes)
    network = make(classes)
    done = train(network, data, replace(CONFIG, steps=100), device)
    assert (done.step, done.epoch) == (100, 10)
    assert not network.training
    torch.manual_seed(1)
    # How well it does on two squares depends on whether the device multiplies in bfloat16.
    squares, others = [], []
    for batch in data:
        with torch.no_grad():
            maps = {name: each.to(device) for name, each in batch["maps"].items()}
            logits = network(maps, batch["rate_indices"].to(device), (128, 128)).cpu()
        predicted = (logits[:, 0] > 0).long() if classes == 1 else logits.argmax(1)
        mask = batch["mask"]
        right = (predicted == mask).float()
        squares.append(right[(mask > 0) & (mask != IGNORED)].mean())
        others.append(right[mask == 0].mean())
    assert torch.stack(squares).mean() > 0.85
    assert torch.stack(others).mean() > 0.9


def test_a_seed_gives_one_result_and_another_seed_another():
    results = []
    for seed in (0, 0, 1):
        network = make()
        train(network, Squares(), replace(CONFIG, seed=seed))
        results.append(weights(network))
    torch.testing.assert_close(results[0], results[1])
    assert not torch.allclose(results[0], results[2], atol=1e-3)


def test_no_epoch_repeats_another_of_this_seed_or_the_next():
    seeds = {training.epoch_seed(seed, epoch) for seed in range(8) for epoch in range(100)}
    assert len(seeds) == 800


def test_a_stopped_run_goes_on(tmp_path):
    """Stopped within the second epoch of three, it ends as the run that was not stopped."""
    whole, data = make(), Squares()
    train(whole, data, CONFIG)
    assert not any(torch.equal(data.seen[0], each) for each in data.seen[1:])

    class Stopped(Squares):
        epochs = 0

        def __iter__(self):
            self.epochs += 1
            for k, batch in enumerate(super().__iter__()):
                if self.epochs == 2 and k == 2:
                    raise KeyboardInterrupt
                yield batch

    checkpoint = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(make(), Stopped(), CONFIG, checkpoint=checkpoint)
    network, rest = make(), Squares()
    done = train(network, rest, CONFIG, checkpoint=checkpoint)
    assert (done.step, done.epoch, len(rest.seen)) == (12, 3, 8)
    torch.testing.assert_close(weights(network), weights(whole), rtol=1e-4, atol=1e-5)
    # A run that is over trains no more, and hands out what it had.
    again = make()
    assert train(again, Squares(0), CONFIG, checkpoint=checkpoint) == done
    assert torch.equal(weights(again), weights(network))
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_time_ends_a_run(monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(training, "clock_of", lambda device: lambda: next(now))
    done = train(make(), Squares(2), replace(CONFIG, steps=1000, seconds=5))
    assert (done.step, done.seconds) == (5, 5)


def test_the_learning_rate_rises_then_falls_to_0():
    config = TrainConfig(steps=100, warmup=10)
    rates = [training.learning_rate(config, training.Progress(step=step)) for step in range(101)]
    assert rates[0] == pytest.approx(2e-4, rel=0.01)
    assert max(rates) == rates[9] == pytest.approx(2e-3, rel=0.03)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_in_bfloat16(monkeypatch):
    """On processors that don't multiply in it, torch does so slowly."""
    monkeypatch.setattr(training, "has_bfloat16", lambda device: True)
    network, seen = make(), []
    network.smooth.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    train(network, Squares(), replace(CONFIG, steps=2))
    assert seen == [torch.bfloat16] * 2
    assert weights(network).isfinite().all()


def test_any_loss_is_trained():
    """It is given the network and each batch, and is what progress tells of."""
    network, data, seen = make(), Squares(2), []
    before = weights(network)

    def loss(given, batch):
        assert given is network and batch["mask"] is data.seen[-1]
        seen.append(batch)
        return given.logits.bias.square().sum() + 7

    done = train(network, data, replace(CONFIG, steps=4), loss=loss)
    assert len(seen) == 4 and done.loss == pytest.approx(7, abs=0.1)
    assert (weights(network) != before).sum() > 0


def test_no_masks():
    batch = {**next(iter(Squares())), "mask": None}
    with pytest.raises(InputError, match="learns from masks, and the data has none"):
        train(make(), [batch], CONFIG)


def test_gradients_are_clipped(monkeypatch):
    norms = []
    original = nn.utils.clip_grad_norm_

    def clip(parameters, limit):
        parameters = list(parameters)
        original(parameters, limit)
        norms.append(nn.utils.get_total_norm([p.grad for p in parameters]).item())

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clip)
    network = make()
    with torch.no_grad():
        network.logits.weight.mul_(1000)
    train(network, Squares(), replace(CONFIG, steps=2))
    assert norms == pytest.approx([1, 1], rel=1e-3)


@pytest.mark.parametrize("classes", [1, 4])
def test_pixels_not_counted_have_no_part_in_the_loss(classes):
    torch.manual_seed(0)
    logits = torch.randn(2, classes, 20, 20, requires_grad=True)
    mask = torch.randint(0, max(2, classes), (2, 20, 20))
    mask[:, 5:9] = IGNORED
    loss = segmentation_loss(logits, mask)
    loss.backward()
    assert (logits.grad[:, :, 5:9] == 0).all()
    assert (logits.grad[:, :, 9:] != 0).all()
    rows = [*range(5), *range(9, 20)]
    torch.testing.assert_close(segmentation_loss(logits[:, :, rows], mask[:, rows]), loss)


def test_the_loss_of_one_class_is_cross_entropy_and_dice():
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 16, 16), torch.randint(0, 2, (3, 16, 16))
    p, t = logits[:, 0].sigmoid(), mask.float()
    dice = [(2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, t, strict=True)]
    expected = F.binary_cross_entropy(p, t) + 1 - sum(dice) / 3
    torch.testing.assert_close(segmentation_loss(logits, mask), expected)


def test_the_loss_of_several_classes_is_cross_entropy():
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 5, 16, 16), torch.randint(0, 5, (3, 16, 16))
    torch.testing.assert_close(segmentation_loss(logits, mask), F.cross_entropy(logits, mask))


@pytest.mark.parametrize("classes", [1, 4])
def test_a_batch_without_counted_pixels_moves_nothing(classes):
    logits = torch.randn(1, classes, 8, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 8, 8), IGNORED))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_no_batches():
    with pytest.raises(InputError, match="the data gives no batches"):
        train(make(), [], CONFIG)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seconds": 0}, {"seconds": float("nan")}])
def test_no_time(wrong):
    with pytest.raises(InputError, match="at least one step and more than 0 seconds"):
        replace(CONFIG, **wrong)


def test_a_loss_that_is_not_finite():
    network = make()
    with torch.no_grad():
        network.logits.bias.fill_(float("nan"))
    with pytest.raises(MvmError, match="in epoch 1: the loss is nan; use a lower learning rate"):
        train(network, Squares(), CONFIG)


def test_a_checkpoint_of_other_settings(tmp_path):
    train(make(), Squares(), CONFIG, checkpoint=tmp_path / "run.pt")
    with pytest.raises(InputError, match="of a run with other settings"):
        train(make(), Squares(), replace(CONFIG, seed=1), checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_of_another_network_or_damaged(tmp_path):
    path = tmp_path / "run.pt"
    train(make(), Squares(), CONFIG, checkpoint=path)
    with pytest.raises(InputError, match="damaged or of another network"):
        train(make(classes=3), Squares(), CONFIG, checkpoint=path)
    whole = path.read_bytes()
    for damaged in (b"", b"no checkpoint", whole[:1000], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or of another network"):
            train(make(), Squares(), CONFIG, checkpoint=path)
