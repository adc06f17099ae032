"""The joint loss: a task reaches analysis, a frozen decoder stays, and a run goes on exactly."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_model import SMALL
from task_files import picture

import mvmic_codec
from mvmic_codec.errors import InputError
from mvmic_codec.features import statistics
from mvmic_codec.model.encoder_file import NETWORKS
from mvmic_codec.model.identity import COLOUR_MODEL, model_identity
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.tuned import load_encoder
from mvmic_codec.tasks import joint, tune
from mvmic_codec.tasks.heads import Card, Head, make_network, save_head
from mvmic_codec.tasks.truth import IGNORED
from mvmic_codec.training import loop
from mvmic_codec.training.loop import Config, TaskConfig, Trainer

CPU = torch.device("cpu")
WIDTH = SMALL[3].width16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images of three groups, with masks of a disc."""
    root = tmp_path_factory.mktemp("task")
    for name in ("polyp", "polyp_mask"):
        (root / name).mkdir()
    for seed in range(12):
        pixels, disc = picture(seed, 64 + 16 * (seed % 2), 96)
        stem = f"{'abc'[seed % 3]}_{seed}.png"
        Image.fromarray(pixels).save(root / "polyp" / stem)
        Image.fromarray(np.uint8(255 * disc)).save(root / "polyp_mask" / stem)
    return root


def task_config(folder, lambda2=0.1, **more):
    return TaskConfig(str(folder / "polyp"), str(folder / "polyp_mask"), lambda2, **more)


def config_of(folder, lambda2=0.1, **more):
    return Config(
        data=str(folder), batch=2, crop=64, steps=4, threads=1, shape=SMALL[3],
        task=task_config(folder, lambda2), **more,
    )  # fmt: skip


def batch_of(task):
    """Two usual crops and two with masks."""
    crops, mask = next(task.crops(0))
    usual = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return torch.cat((usual, crops)), mask


def stepped(trainer, batch, steps=1):
    torch.manual_seed(4)
    for _ in range(steps):
        trainer.train_step(*batch)
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def same(ours, theirs):
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_crops_and_masks_are_cut_alike():
    """Mirrored or not. Where an image is smaller than a crop, nothing is judged beyond it."""
    random = np.random.default_rng(0)
    images = []
    for height in (100, 200):
        mask = random.integers(0, 2, (height, 150)).astype(np.uint8)
        images.append(joint.Masked(255 * mask[None].repeat(3, 0), mask))
    task = joint.JointTask(images, joint.NewHead(WIDTH, 1), 0.1, 12, 128)
    planes, mask = next(task.crops(3))
    assert planes.shape == (12, 3, 128, 128) and mask.shape == (12, 128, 128)
    inside = mask != IGNORED
    assert torch.equal(planes[:, 1][inside], mask[inside].float())
    assert {int(each.any(1).sum()) for each in inside} == {100, 128}
    again, others = next(task.crops(3))
    assert torch.equal(again, planes) and torch.equal(others, mask)
    assert not torch.equal(next(task.crops(4))[0], planes)
    lefts = {tuple(image.mask[0, :9].tolist()) for image in images}
    rights = {tuple(image.mask[0, :-10:-1].tolist()) for image in images}
    seen = {tuple(each[0, k : k + 9].tolist()) for each in mask for k in range(120)}
    assert lefts & seen and rights & seen


def test_it_learns_from_the_training_half_alone(folder):
    train, held_out = joint.halves_of(config_of(folder))
    task = joint.new_task(config_of(folder))
    assert len(held_out) == 4 and len(task.images) == len(train) == 8
    assert {item.group for item in held_out}.isdisjoint(item.group for item in train)


def test_the_gray_model_gets_gray_crops(folder):
    config = replace(config_of(folder), shape=SMALL[1])
    planes, _ = next(joint.new_task(config).crops(0))
    assert planes.shape == (2, 1, 64, 64)


def test_the_loss_of_the_task_reaches_analysis(folder):
    gradients = {}
    for lambda2 in (0.0, 0.1):
        config = config_of(folder, lambda2)
        trainer = Trainer(config, CPU, joint.new_task(config))
        stepped(trainer, batch_of(trainer.task))
        gradients[lambda2] = {
            name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None
        }
        names = dict(zip(trainer.fact_names, trainer.facts.tolist(), strict=True))
        assert names["task"] > 0.5
    name = "analysis.leave.weight"
    assert not torch.equal(gradients[0.0][name], gradients[0.1][name])
    # What comes after the map is out of its reach.
    name = "synthesis.retouch.leave.weight"
    torch.testing.assert_close(gradients[0.0][name], gradients[0.1][name])


def test_lambda2_of_0_is_no_task(folder):
    """For the model, to the bit. Its head does not move either."""
    config = config_of(folder, 0.0)
    task = joint.new_task(config)
    planes, mask = batch_of(task)
    before = [each.clone() for each in task.network.parameters()]
    trainer, other = Trainer(config, CPU, task), Trainer(replace(config, task=None), CPU)
    other.bfloat16 = trainer.bfloat16
    assert same(stepped(trainer, (planes, mask), 2), stepped(other, (planes,), 2))
    for ours, theirs in zip(task.network.parameters(), before, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_head_is_trained_along(folder):
    config = config_of(folder)
    task = joint.new_task(config)
    before = task.network.head.logits.weight.clone()
    stepped(Trainer(config, CPU, task), batch_of(task))
    assert not torch.equal(task.network.head.logits.weight, before)
    again = joint.new_task(config)
    assert torch.equal(again.network.head.logits.weight, before)


def test_a_run_with_a_task_goes_on_exactly(folder, tmp_path):
    config = config_of(folder)
    first = Trainer(config, CPU, joint.new_task(config))
    batch = batch_of(first.task)
    stepped(first, batch, 2)
    first.save(tmp_path / "checkpoint.pt")
    second = Trainer(config, CPU, joint.new_task(config))
    second.load(tmp_path / "checkpoint.pt")
    assert same(stepped(first, batch), stepped(second, batch))
    assert same(first.task.network.state_dict(), second.task.network.state_dict())
    for task in (None, task_config(folder, 0.2)):
        other = replace(config, task=task)
        trainer = Trainer(other, CPU, task and joint.new_task(other))
        with pytest.raises(InputError, match="another task, or with none"):
            trainer.load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"layout": "coco"}, "layout folders or camvid, and not 'coco'"),
        ({"data": "/nowhere"}, "nowhere"),
    ],
)
def test_a_task_that_cannot_be_is_one_sentence(folder, wrong, sentence):
    config = config_of(folder)
    with pytest.raises(InputError, match=sentence):
        joint.new_task(replace(config, task=replace(config.task, **wrong)))


def test_crops_that_are_too_small_for_a_head_are_refused(folder):
    config = config_of(folder)
    with pytest.raises(InputError, match="needs 2 in a batch; got 1 of 64"):
        joint.new_task(replace(config, task=task_config(folder, batch=1)))


def test_a_configuration_has_a_task(folder, tmp_path):
    path = tmp_path / "x.json"
    task = {"data": "polyp", "masks": "polyp_mask", "lambda2": 0.01}
    path.write_text(json.dumps({"data": ".", "rates": [18, 27], "task": task}))
    config = loop.read_config(path)
    assert config.task.data == str(tmp_path / "polyp") and config.rates == (18, 27)
    # The command line may name another folder, or only another lambda2.
    assert loop.read_config(path, task={"lambda2": 0.5}).task == replace(config.task, lambda2=0.5)
    encoder = loop.read_config(None, encoder=True, task={**task, "head": "h"})
    assert (encoder.crop, encoder.learning_rate) == (320, 1e-4)
    for wrong, sentence in (
        ({"rates": [9, 3]}, "lowest and the highest"),
        ({"encoder": True}, "the file of its head"),
        ({"task": {**task, "head": "h"}}, "a new model has others"),
        ({"task": {**task, "lambda2": -1}}, "lambda2 of 0 or more"),
        ({"task": {"data": "polyp"}}, "the task lacks lambda2, masks"),
        ({"task": {**task, "weight": 1}}, "of the task, weight"),
        ({"data": ""}, "folder of images is missing"),
    ):
        path.write_text(json.dumps({"data": ".", "task": task} | wrong))
        with pytest.raises((TypeError, ValueError), match=sentence):
            if "encoder" in wrong:
                path.write_text(json.dumps(wrong))
            loop.read_config(path)


@pytest.mark.slow
def test_a_new_model_is_trained_with_a_task(folder, tmp_path, monkeypatch):
    for name, value in (("START_CROPS", 4), ("FIT_CROPS", 1), ("START_SIZE", 128)):
        monkeypatch.setattr(loop, name, value)
    (tmp_path / "natural").mkdir()
    for stem in ("a", "b", "gb82_waves"):
        Image.fromarray(picture(1, 144, 160)[0]).save(tmp_path / "natural" / f"{stem}.png")
    config = replace(config_of(folder), data=str(tmp_path), validate_every=2)
    out = tmp_path / "run"
    checkpoint = loop.train(config, out, joint.new_task(config))
    assert torch.load(checkpoint, weights_only=True)["head"]
    assert (out / f"{COLOUR_MODEL}.safetensors").is_file()
    longer = replace(config, steps=5)
    loop.train(longer, out, joint.new_task(longer))
    assert torch.load(checkpoint, weights_only=True)["step"] == 5


@pytest.fixture
def head(weights, tmp_path, monkeypatch):
    """The file of a head for the small colour model, whose features have made-up statistics."""
    measured = statistics.Statistics(
        [0, 63],
        {"s16": np.zeros((2, WIDTH), np.float32)},
        {"s16": np.full((2, WIDTH), 0.1, np.float32)},
        {"s16": np.float32(2**-10)},
    )
    monkeypatch.setattr(statistics, "load", lambda fingerprint: measured)
    torch.manual_seed(0)
    fingerprint = model_identity(gray=False)[1].hex()
    card = Card("", "fpn", fingerprint, {"s16": WIDTH}, ["disc"], 12, [0, 63], "", "", {})
    path = tmp_path / "head.safetensors"
    save_head(Head(card, make_network(card).eval()), path)
    return path


def encoder_config(folder, head, lambda2=0.1, **more):
    task = task_config(folder, lambda2, head=str(head))
    settings = {**loop.ENCODER_DEFAULTS, "crop": 64, "steps": 2, "threads": 1} | more
    return Config(task=task, encoder=True, **settings)


def test_an_encoder_is_trained_and_the_decoder_reads_its_files(
    folder, head, weights, tmp_path, monkeypatch
):
    config = encoder_config(folder, head, learning_rate=1e-2)
    written, step = [], Trainer.train_step

    def watched(self, *batch):
        written.append(len(list((tmp_path / "run").glob("*.safetensors"))))
        step(self, *batch)

    monkeypatch.setattr(Trainer, "train_step", watched)
    path = tune.tune(config, tmp_path / "run")
    # An encoder without a step is the released one.
    assert written == [0, 0]
    assert path.name == f"{COLOUR_MODEL}.tuned.safetensors"
    tuned = load_encoder(path)
    before = model_of(weights / f"{COLOUR_MODEL}.safetensors").state_dict()
    assert tuned.arrays.keys() == {name for name in before if name.startswith(NETWORKS)}
    assert any(not torch.equal(value.float(), before[k]) for k, value in tuned.arrays.items())
    with (tmp_path / "run/validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["0", "2"] and rows[0]["task"] != rows[1]["task"]
    image = Image.open(folder / "polyp/a_0.png")
    data = mvmic_codec.encode(image, rate_index=20, encoder=path, device="cpu")
    assert mvmic_codec.read_header(data).fingerprint == model_identity(gray=False)[1]
    assert mvmic_codec.decode(data, device="cpu").size == image.size
    # It goes on where it stopped.
    tune.tune(replace(config, steps=3), tmp_path / "run")
    card = load_encoder(path).card
    assert card.notes.startswith("3 steps of 2 crops of 64x64") and card.lambda2 == 0.1
    with (tmp_path / "run/validation.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["0", "2", "3"]


def test_the_decoder_and_the_head_do_not_move(folder, head, weights):
    config = replace(encoder_config(folder, head, learning_rate=1e-2), shape=SMALL[3])
    network = joint.frozen_network(joint_head(head))
    frozen = {name: value.clone() for name, value in network.state_dict().items()}
    masked = joint.load_masked(joint.halves_of(config)[0], False)
    task = joint.JointTask(masked, network, 0.1, 2, 64)
    start = model_of(weights / f"{COLOUR_MODEL}.safetensors")
    trainer = tune.starting_at(start, config, CPU, task)
    before = start.state_dict()
    stepped(trainer, next(task.crops(0)), 2)
    moved = {
        name
        for model in (trainer.model, trainer.ema)
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert all(name.startswith(NETWORKS) for name in moved)
    for prefix in NETWORKS:
        assert any(name.startswith(prefix) for name in moved)
    assert same(network.state_dict(), frozen) and not network.head.training


def joint_head(path):
    from mvmic_codec.tasks.heads import load_head

    return load_head(path, "cpu")


def test_a_frozen_head_sees_features_as_files_have_them(head):
    """Mean and deviation of the rate index of each crop."""
    rows = np.repeat(np.arange(2, dtype=np.float32)[:, None], WIDTH, 1)
    unit = np.float32(2**-10)
    measured = statistics.Statistics([0, 63], {"s16": rows}, {"s16": 1 + rows}, {"s16": unit})
    loaded = joint_head(head)
    network = joint.FrozenHead(loaded, measured)
    s16 = 3 * torch.randn(2, WIDTH, 4, 4, generator=torch.Generator().manual_seed(0))
    integers = (s16 / unit).round()
    expected = []
    for each, rate in zip(integers.to(torch.int16).numpy(), (0, 50), strict=True):
        maps = torch.from_numpy(measured.normalised("s16", each.transpose(1, 2, 0), rate))
        expected.append(loaded.network({"s16": maps}, torch.tensor([rate]), (64, 64)))
    with torch.no_grad():
        found = network(integers * unit, torch.tensor([0, 50]), (64, 64))
    torch.testing.assert_close(found, torch.cat(expected))


def test_a_head_on_other_maps_cannot_judge(head):
    loaded = joint_head(head)
    other = replace(loaded.card, maps={"s16": WIDTH, "s8": 8})
    with pytest.raises(InputError, match="on s16 alone, and this one takes s16, s8"):
        joint.frozen_network(Head(other, loaded.network))


def test_a_head_of_other_classes_cannot_judge(head):
    """Labels of street scenes would be read as empty masks of one class."""
    loaded = joint_head(head)
    joint.check_classes(loaded, "folders")
    with pytest.raises(InputError, match="1 classes apart, and masks of the layout camvid hold 11"):
        joint.check_classes(loaded, "camvid")
