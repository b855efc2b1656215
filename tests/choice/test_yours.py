"""Finalists on the user's images: real ones where there are some, and the order that they, not ImageNet, give."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from convatlas.choice import yours
from convatlas.choice.choose import choose
from convatlas.choice.yours import Rank, Yours, is_at_hand, judged_on, ranking
from convatlas.data.sources import load_data
from convatlas.evaluation.scores import scores_of
from convatlas.report.choice import report
from convatlas.report.choice_page import html
from convatlas.weights.published import published
from tests.check_certificate import check
from tests.choice.requests import SMALL, request

NAMES = ("efficientnet_lite0@pypi", "mobilenet_v2_symmetric@torchvision/v2", "mobilenet_v2_1_0_192@slim")


class Judged:
    """Says of each MODEL what it is told, and of which it was asked."""

    def __init__(self, accuracies: Mapping[str, float]):
        self.accuracies, self.asked = accuracies, {}  # type: ignore[var-annotated]

    def __call__(self, models: Mapping[str, str], tell: object) -> Yours:
        self.asked = dict(models)
        order = sorted(models, key=lambda name: -self.accuracies[name])
        best = self.accuracies[order[0]] if order else 0.0
        ranks = (Rank(n, self.accuracies[n], 50.0, 99.0, best - self.accuracies[n], -1.0, 3.0) for n in order)
        return Yours("mine", 100, 2, tuple(ranks))


@pytest.fixture
def _all_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yours, "is_at_hand", bool)
    monkeypatch.setattr("convatlas.report.choice_words.is_at_hand", bool)


@pytest.mark.usefixtures("_all_at_hand")
def test_the_users_order_is_the_order() -> None:
    """ImageNet's last of the three is the user's first; ImageNet's limits stay, and costs decide between equals."""
    judge = Judged(dict(zip(NAMES, (90.0, 91.0, 95.0))) | dict.fromkeys(published(), 1.0))
    choice = choose(request(*SMALL, data="mine"), judge=judge)
    assert choice.certificate.pick == NAMES[2]
    assert choice.certificate.indices == ("yours", "params", "macs")
    assert set(judge.asked) >= set(NAMES)
    assert all(choice.certificate.judged[name].candidate.fact.top1 >= 70 for name in judge.asked)  # type: ignore[operator]
    check(json.loads(json.dumps(choice.to_json())))
    equal = choose(request(*SMALL, data="mine"), judge=Judged(dict.fromkeys(published(), 90.0)))
    values = {name: it.candidate.values["macs"] for name, it in equal.certificate.judged.items() if not it.breaks}
    assert equal.certificate.pick in values
    assert "not surely behind" in report(equal).text()
    assert "as good a choice" in html(equal)


def test_what_has_no_weights_reads_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yours, "is_at_hand", NAMES[:1].__contains__)
    judge = Judged({NAMES[0]: 80.0})
    choice = choose(request(*SMALL, data="mine"), judge=judge)
    assert list(judge.asked) == [NAMES[0]]
    whole = report(choice, whole=True)
    reasons = dict(next(part for part in whole.parts if getattr(part, "name", "") == "refused").rows)  # type: ignore[union-attr]
    assert reasons[NAMES[1]] == reasons["se_mobilenet_v1@paper"] == "no weights"
    assert reasons["vgg16@torchvision/v1"].startswith("params 138M"), "what limits refuse was not judged"
    assert f"convatlas weights get {NAMES[1]}" in whole.text()
    none = choose(request("params<=1k", data="mine"), judge=Judged({}))
    assert none.certificate.pick is None
    monkeypatch.setattr(yours, "is_at_hand", lambda weights: False)
    nothing = choose(request(*SMALL, data="mine"), judge=Judged({}))
    assert nothing.certificate.pick is None
    assert "their weights are not at hand" in report(nothing).text()
    assert all(reasons[name] == "no weights" for name in nothing.certificate.nearest if name != NAMES[0])


def test_the_ranking_is_paired() -> None:
    """40 images, of which the second has 8 wrong and the third 20 that the first has right."""
    labels = torch.zeros(40, dtype=torch.int64)

    def with_wrong(n: int):  # type: ignore[no-untyped-def]
        logits = torch.tensor([[1.0, 0.0]] * (40 - n) + [[0.0, 1.0]] * n)
        return scores_of(logits, labels, ("a", "b"))

    first, second, third = ranking({"c": with_wrong(20), "b": with_wrong(8), "a": with_wrong(0)})
    assert (first.name, first.top1, first.behind) == ("a", 100.0, 0.0)
    assert (second.name, second.behind, second.surely_behind) == ("b", pytest.approx(20.0), True)
    assert (third.name, third.behind, third.surely_behind) == ("c", pytest.approx(50.0), True)
    assert third.behind_low < 50 < third.behind_high
    same = ranking({"b": with_wrong(3), "a": with_wrong(3)})
    assert [it.name for it in same] == ["a", "b"]
    assert not same[1].surely_behind


def test_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    monkeypatch.delenv("CONVATLAS_MIRROR", raising=False)
    row = published()["resnet20@akamaster"]
    assert not is_at_hand("")
    assert not is_at_hand(row.name)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / row.file).write_bytes(b"x")
    assert is_at_hand(row.name)
    assert is_at_hand(str(tmp_path))


@pytest.mark.slow
def test_on_real_images(real_data: Path, real_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ResNets for CIFAR-10 on ants and bees: 32 pixels are few, and the same folds give the same answer twice."""
    monkeypatch.setenv("CONVATLAS_MIRROR", str(real_packs / "weights" / "akamaster"))
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    images = load_data(f"folder:{real_data / 'hymenoptera'}", val=0.0)
    judge = judged_on(images, "hymenoptera")
    models = {name: name for name in ("resnet20@akamaster", "resnet44@akamaster")}
    found = judge(models, lambda done, what: None)
    assert {it.name for it in found.ranks} == set(models)
    assert found.images == 245
    assert all(it.low < it.top1 < it.high for it in found.ranks)
    assert found.ranks[0].top1 > 60, "of a probe that learnt nothing it would be 50"
    assert found == judge(models, lambda done, what: None), "the same again"
