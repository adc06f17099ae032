"""Heads and checkpoints are written whole or not at all."""

import os

import pytest
import torch
from torch import nn

from mvmic_codec.tasks.heads import Card, Head, make_network, save_head
from mvmic_codec.tasks.train import Progress, TrainConfig, save_checkpoint
from mvmic_codec.tasks.whole import write_whole

CARD = Card(
    task="blobs",
    network="fpn",
    fingerprint="0" * 16,
    maps={"s16": 224},
    classes=["blob"],
    width=6,
    rates=[0, 63],
    data="drawn",
    licence="none",
    scores={},
)


def head(path):
    save_head(Head(CARD, make_network(CARD)), path)


def checkpoint(path):
    network = nn.Linear(2, 1)
    optimiser = torch.optim.AdamW(network.parameters())
    save_checkpoint(path, network, optimiser, TrainConfig(1), Progress())


@pytest.mark.parametrize("write", [head, checkpoint, lambda path: write_whole(path, b"new")])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there_and_nothing_else(monkeypatch, tmp_path, write, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*names):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(error):
        write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
