import sys
import types

import pytest


@pytest.fixture
def runs(monkeypatch):
    """Takes the place of the training loop; lists what it was called with."""
    calls = []
    loop = types.ModuleType("mvmic_codec.training.loop")

    def read_config(path):
        if "steps" not in path.read_text():
            raise ValueError("no steps")
        return "configuration"

    loop.read_config = read_config
    loop.train = lambda config, out: calls.append((config, out))
    monkeypatch.setitem(sys.modules, loop.__name__, loop)
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
    assert runs == [("configuration", out)] * 2


def test_a_bad_configuration_is_one_sentence(mvmic, runs, tmp_path):
    config = tmp_path / "bad.json"
    config.write_text("{}")
    result = mvmic("train", "--config", config, "--out", tmp_path / "run")
    assert result.exit_code == 1 and "no configuration: no steps" in result.stderr
    missing = mvmic("train", "--config", tmp_path / "none.json")
    assert missing.exit_code == 1 and "is not a file" in missing.stderr
    assert mvmic("train").exit_code == 2
