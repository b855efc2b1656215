"""The log's other forms: a table of the epochs, TensorBoard's events, gradients by stage."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas.errors import UserError
from convatlas.layers import stack
from convatlas.recipe import SGD, Recipe
from convatlas.runs.folder import Run
from convatlas.train.divergence import gradient_norms
from convatlas.train.execution import Execution
from convatlas.train.fit import fit
from tests.trained import digits

RECIPE = Recipe(name="brief", source="a test", epochs=2, batch=4, optimizer=SGD(0.01), net=(("widths", (4,)),))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("log") / "run"
    return fit("chain_n1_m1_k0", digits(), RECIPE, out=out, device="cpu", execution=Execution(tensorboard=True))


def test_log_csv_is_the_epochs(run: Run) -> None:
    with (run.folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row, line in zip(rows, run.epochs(), strict=True):
        assert int(row["epoch"]) == line["epoch"]
        assert float(row["val_top1"]) == line["val"]["top1"]
        assert float(row["train_loss"]) == line["train"]["loss"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_the_log_says(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    told = events.Scalars("epoch/val_top1")
    assert [e.step for e in told] == [line["step"] for line in run.epochs()]
    assert [e.value for e in told] == pytest.approx([line["val"]["top1"] for line in run.epochs()])
    assert len(events.Scalars("step/gradient_head")) == sum(line["kind"] == "step" for line in run.log())


def test_the_gradient_of_each_stage(run: Run) -> None:
    net = nn.Module()
    net.stem, net.stages = (
        nn.Linear(2, 2),
        stack(conv1=stack(a=nn.Linear(2, 1), b=nn.Linear(1, 1)), conv2=nn.Linear(1, 2)),
    )
    net.head = nn.Linear(2, 1)
    for n, p in enumerate(net.parameters(), start=1):
        p.grad = torch.full_like(p, n)
    weights = {
        k: [(n, p.numel()) for n, (name, p) in enumerate(net.named_parameters(), 1) if name.startswith(k)]
        for k in ("stem", "stages.conv1", "stages.conv2", "head")
    }
    expected = {k: sum(n * n * size for n, size in those) ** 0.5 for k, those in weights.items()}
    assert gradient_norms(net) == pytest.approx(expected)
    logged = next(line for line in run.log() if line["kind"] == "step")["gradient"]
    assert logged.keys() == {"stem", "head"}
    assert all(v > 0 for v in logged.values())


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"TensorBoard is not installed; pip install 'convatlas\[log\]'"):
        fit(
            "chain_n1_m1_k0",
            digits(),
            RECIPE,
            out=tmp_path / "run",
            device="cpu",
            execution=Execution(tensorboard=True),
        )
