import sys
import types

import pytest

from mvmic_codec import evaluation


@pytest.fixture
def runs(monkeypatch):
    """Takes the place of the loops; lists what they were called with."""
    calls = []
    loop, joint, tune = (
        types.ModuleType(f"mvmic_codec.{name}")
        for name in ("training.loop", "tasks.joint", "tasks.tune")
    )

    def read_config(path, task, encoder=False, steps=None):
        if path is not None and "steps" not in path.read_text():
            raise ValueError("no steps")
        return types.SimpleNamespace(task=task or None, encoder=encoder, steps=steps)

    loop.read_config = read_config
    loop.train = lambda config, out, *task: calls.append((config.task, out, *task))
    joint.new_task = lambda config: "a new head"
    tune.tune = lambda config, out: calls.append((config.task, out)) or out / "x.safetensors"
    for module in (loop, joint, tune):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_a_run_starts_once_and_resumes_when_asked(mvmic, runs, tmp_path):
    config, out = tmp_path / "small.json", tmp_path / "run"
    config.write_text('{"steps": 1}')
    assert mvmic("train", "--config", config, "--out", out, "--resume").exit_code == 1
    assert mvmic("train", "--config", config, "--out", out).exit_code == 0
    out.mkdir()
    (out / "checkpoint.pt").touch()
    refused = mvmic("train", "--config", config, "--out", out)
    assert refused.exit_code == 1 and "--resume" in refused.stderr
    assert mvmic("train", "--config", config, "--out", out, "--resume").exit_code == 0
    assert runs == [(None, out)] * 2


def test_a_task_comes_from_the_command_line(mvmic, runs, tmp_path):
    config, out = tmp_path / "small.json", tmp_path / "run"
    config.write_text('{"steps": 1}')
    options = ["--out", out, "--task", tmp_path / "polyp", "--lambda2", "0.5"]
    assert mvmic("train", "--config", config, *options).exit_code == 0
    folders = {"data": str(tmp_path / "polyp"), "masks": str(tmp_path / "polyp_mask")}
    assert runs == [({**folders, "lambda2": 0.5}, out, "a new head")]
    for wrong in (("--masks", tmp_path), ("--layout", "camvid")):
        assert mvmic("train", "--config", config, *wrong).exit_code == 2


def test_an_encoder_needs_no_configuration(mvmic, runs, tmp_path):
    head = ["--head", tmp_path / "head.safetensors", "--masks", tmp_path / "m"]
    options = ["--out", tmp_path / "run", "--task", tmp_path / "polyp", "--lambda2", "0"]
    result = mvmic("train", "--encoder", *options, *head)
    assert result.exit_code == 0 and result.stdout == f"{tmp_path / 'run/x.safetensors'}\n"
    ((task, out),) = runs
    assert task["head"] == str(head[1]) and task["masks"] == str(tmp_path / "m")
    assert task["lambda2"] == 0 and out == tmp_path / "run"
    mvmic("train", "--encoder", *options, *head[:2], "--layout", "camvid")
    assert runs[1][0]["layout"] == "camvid"
    assert runs[1][0]["masks"] == str(tmp_path / "polyp_label")


def test_masks_that_are_nowhere(mvmic, runs, tmp_path):
    (tmp_path / "polyp").mkdir()
    given = ["--lambda2", "0", "--head", "x", "--out", tmp_path / "run"]
    refused = mvmic("train", "--encoder", "--task", tmp_path / "polyp", *given)
    assert refused.exit_code == 1 and not runs
    said = f"there is no folder {tmp_path}/polyp_mask: name that of the masks by --masks\n"
    assert refused.stderr == f"mvmic: {said}"


def test_an_interrupted_run_says_how_to_go_on(mvmic, runs, tmp_path, monkeypatch):
    out = tmp_path / "run"
    (tmp_path / "small.json").write_text('{"steps": 1}')

    def stopped(config, out, *task):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["mvmic_codec.training.loop"], "train", stopped)
    monkeypatch.setattr(sys.modules["mvmic_codec.tasks.tune"], "tune", stopped)
    encoder = ("--encoder", "--task", tmp_path, "--masks", tmp_path, "--lambda2", 0, "--head", "x")
    for command in (("--config", tmp_path / "small.json"), encoder):
        # Before there is a checkpoint, there is nothing to go on with.
        for said, more in (
            ("interrupted", ()),
            ("interrupted; go on with --resume", ("--resume",)),
        ):
            result = mvmic("train", *command, "--out", out, *more)
            assert (result.exit_code, result.stdout) == (130, "")
            assert result.stderr == f"mvmic: {said}\n"
            out.mkdir(exist_ok=True)
            (out / "checkpoint.pt").touch()
        (out / "checkpoint.pt").unlink()
        out.rmdir()
    assert "130 interrupted" in mvmic("train", "--help").stdout


def test_steps_for_a_trial(mvmic, runs, tmp_path, monkeypatch):
    seen = []
    loop = sys.modules["mvmic_codec.training.loop"]
    monkeypatch.setattr(loop, "train", lambda config, out: seen.append(config.steps))
    (tmp_path / "small.json").write_text('{"steps": 1}')
    config = ("--config", tmp_path / "small.json", "--out", tmp_path / "run")
    assert mvmic("train", *config, "--steps", 20).exit_code == 0 and seen == [20]
    assert mvmic("train", *config, "--steps", 0).exit_code == 2


def test_an_encoder_needs_no_bd_rates(mvmic, runs, tmp_path, monkeypatch):
    find = evaluation.find_spec
    monkeypatch.setattr(
        evaluation, "find_spec", lambda name: None if name == "bjontegaard" else find(name)
    )
    (tmp_path / "small.json").write_text('{"steps": 1}')
    task = ("--task", tmp_path, "--masks", tmp_path, "--lambda2", 0, "--out", tmp_path / "run")
    assert mvmic("train", "--encoder", *task, "--head", "x").exit_code == 0
    refused = mvmic("train", "--config", tmp_path / "small.json", *task)
    assert refused.exit_code == 1 and "'mvmic_codec[train]' brings it" in refused.stderr


def test_a_bad_configuration_is_one_sentence(mvmic, runs, tmp_path):
    config = tmp_path / "bad.json"
    config.write_text("{}")
    result = mvmic("train", "--config", config, "--out", tmp_path / "run")
    assert result.exit_code == 1 and "no configuration: no steps" in result.stderr
    missing = mvmic("train", "--config", tmp_path / "none.json")
    assert missing.exit_code == 1 and "is not a file" in missing.stderr
    assert mvmic("train").exit_code == 2
