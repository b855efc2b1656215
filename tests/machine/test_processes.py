"""Two processes under torchrun on the CPU: the same training as one, every image counted once, and what stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.machine.processes import World
from convatlas.runs import checkpoint
from convatlas.runs.folder import open_run
from convatlas.train.job import steps_in_epoch

NET = ["chain_n1_m1_k0", "--data", "digits", "--recipe", "digits", "--set", "net.widths=[4]", "--set", "lr=0.05"]
NET += ["--set", "batch=128", "--set", "schedule=cosine", "--input", "1x8x8", "--device", "cpu"]


def torchrun(*args: str, processes: int = 2, restarts: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={restarts}", "-m", "convatlas", *args]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def weights(folder: Path) -> dict[str, Tensor]:
    return checkpoint.load(folder / checkpoint.LAST)[0]


def test_two_processes_train_as_one_and_count_each_image_once(tmp_path: Path) -> None:
    """A network without batch norm: its gradients are those of the whole batch, however it is shared out."""
    one, two = tmp_path / "one", tmp_path / "two"
    out = done(torchrun("train", *NET, "--epochs", "2", "--out", str(two)))
    assert out.count("into") == out.count("after 2 epochs") == 1, "one process speaks"
    assert main(["train", *NET, "--epochs", "2", "--out", str(one)]) == 0
    expected, got = weights(one), weights(two)
    for name in open_run(one).load("last").state_dict():
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-6)
    theirs, ours = open_run(one).epochs(), open_run(two).epochs()
    for a, b in zip(theirs, ours, strict=True):
        assert b["test"]["top1"] == a["test"]["top1"]  # a share of 355: each counted once
        assert b["train"]["top1"] == pytest.approx(a["train"]["top1"], abs=2 / 1442)
        assert b["test"]["loss"] == pytest.approx(a["test"]["loss"], rel=1e-4)
    record = json.loads((two / "run.json").read_text())
    assert record["machine"]["processes"] == 2
    assert record["recipe"]["batch"] == 128  # that of all processes together
    assert record["execution"]["micro_batch"] == 64
    assert {"random/cpu", "random/cpu/1"} <= got.keys()
    assert not torch.equal(got["random/cpu"], got["random/cpu/1"])


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_to_the_last_bit(tmp_path: Path, signum: signal.Signals) -> None:
    """With batch norm, dropout and averaged weights; torchrun passes the signal on to both."""
    args = ["train", "wrn16_4_dropout", *NET[1:5], "--set", "net.depth=10", "--set", "net.width=1", "--input", "1x8x8"]
    args += ["--set", "batch=64", "--set", "ema.decay=0.9", "--epochs", "3", "--device", "cpu"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done(torchrun(*args, "--out", str(whole)))
    process = torchrun(*args, "--out", str(cut))
    while not (cut / "log.jsonl").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert (cut / checkpoint.LAST).exists()
    done(torchrun(*args, "--out", str(cut), "--resume"))
    expected, got = weights(whole), weights(cut)
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.slow
def test_one_killed_process_is_begun_again_with_the_others(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    args = ["train", *NET, "--epochs", "12", "--save-every", "0.1s"]
    done(torchrun(*args, "--out", str(whole)))
    process = torchrun(*args, "--out", str(cut), restarts=1)
    while not (cut / checkpoint.LAST).exists():
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    done(process)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(cut)[name], tensor), name


def test_a_batch_too_small_to_share_is_refused_once(tmp_path: Path) -> None:
    process = torchrun("train", *NET, "--set", "batch=3", "--out", str(tmp_path / "run"))
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "a batch of 3 leaves 2 processes with fewer than 2 images each; give a larger batch" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("images", "batch", "processes", "steps"), [(72, 16, 1, 5), (65, 16, 1, 4), (67, 16, 2, 4), (68, 16, 2, 5)]
)
def test_steps_in_an_epoch(images: int, batch: int, processes: int, steps: int) -> None:
    assert steps_in_epoch(images, batch, processes) == steps


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_the_batch_and_differ_by_one_image(size: int) -> None:
    batch = torch.arange(23)
    shares = [World(rank, size).share(batch) for rank in range(size)]
    assert torch.equal(torch.cat(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("name", ["resnet20", "stochastic_depth_resnet110", "fractalnet_20", "densenet_40_12"])
def test_networks_that_leave_parts_out_say_so(name: str) -> None:
    """Else the processes wait for gradients that never come."""
    net = find(name).build(classes=3).train()
    missing = 0
    for seed in range(3):
        torch.manual_seed(seed)
        net.zero_grad(set_to_none=True)
        net(torch.randn(2, 3, 32, 32)).sum().backward()
        missing += sum(p.grad is None for p in net.parameters())
    assert net.has_unused_parameters == (missing > 0)
