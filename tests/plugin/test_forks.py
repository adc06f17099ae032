"""Encoding and decoding in a forked child, after the parent has done both on two threads.

Threads do not survive a fork, and a child that waited for them would wait for ever.
"""

import multiprocessing
import os

import numpy as np
import pytest
import torch

import mvmic_codec
from mvmic_codec import forks
from mvmic_codec.model import device

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
# A hang would last for ever; this only bounds how long a failure takes.
SECONDS = 120


def picture(planes):
    rows, columns = np.mgrid[:64, :64]
    noise = np.random.default_rng(1).integers(0, 40, (64, 64, planes))
    return (rows[..., None] + columns[..., None] + noise).astype(np.uint8)


def encode(planes, effort):
    return mvmic_codec.encode(picture(planes), effort=effort, device="cpu")


def decode(data):
    return np.asarray(mvmic_codec.decode(data))


def default_device(_):
    return device.pick_device(None)


def threads_after(call, *arguments):
    call(*arguments)
    return torch.get_num_threads()


def refusal(call, argument):
    with pytest.raises(mvmic_codec.MvmError) as caught:
        call(argument)
    return str(caught.value)


@pytest.fixture
def in_child():
    """Call a function in a forked child of a parent with two threads, and return what it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    # Work on two threads: the parent now has threads that a child will miss.
    torch.ones(1 << 20).exp()

    def call(function, *arguments):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply_async(function, arguments).get(SECONDS)

    yield call
    torch.set_num_threads(before)


@pytest.mark.parametrize("planes", [1, 3])
def test_child_writes_and_reads_what_the_parent_does(in_child, planes):
    data = encode(planes, effort=1)
    pixels = decode(data)
    assert in_child(encode, planes, 1) == data
    np.testing.assert_array_equal(in_child(decode, data), pixels)


def test_child_makes_gradients(in_child):
    """Effort 2 needs them, and torch has threads of its own for them."""
    assert in_child(encode, 1, 2) == encode(1, effort=2)


def test_one_thread_in_the_child_and_as_many_as_before_in_the_parent(in_child):
    data = encode(1, effort=1)
    assert in_child(threads_after, encode, 1, 1) == 1
    assert in_child(threads_after, decode, data) == 2, "decoding leaves torch alone"
    assert in_child(torch.get_num_threads) == 2, "a child that does not use us keeps its threads"
    assert torch.get_num_threads() == 2
    assert not forks.was_forked() and in_child(forks.was_forked)


def test_child_of_a_parent_that_used_cuda_takes_the_cpu(in_child, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "device_error", lambda device: RuntimeError("in forked subprocess"))
    assert device.pick_device(None) == "cuda"
    assert in_child(default_device, None) == "cpu"
    assert "spawn" in in_child(refusal, device.pick_device, "cuda")


def test_gradients_that_torch_refuses_are_one_sentence(monkeypatch):
    """Where CUDA was used, torch makes none in a forked child."""

    def refuse(*_):
        raise RuntimeError("Unable to handle autograd's threading in combination with fork-based")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    with pytest.raises(mvmic_codec.MvmError, match="give effort=1, or start .* 'spawn'"):
        encode(1, effort=2)
