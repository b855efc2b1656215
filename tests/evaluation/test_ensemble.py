"""Ensembles: what the models answer is kept, and averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from convatlas import build, load
from convatlas.data.normalise import Normalizer
from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation import ensemble
from convatlas.evaluation.ensemble import evaluate_several, kept_answers, together
from convatlas.evaluation.scores import paired, scores_of
from convatlas.evaluation.scoring import evaluate
from convatlas.preprocess import Preprocess
from convatlas.protocols import find_protocol
from convatlas.weights.convert import convert
from convatlas.weights.model import Model

CLASSES = tuple("abcd")


@pytest.fixture
def data() -> Data:
    images = torch.randint(0, 256, (300, 1, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    split = MemorySplit("test", images, torch.arange(300) % 4, CLASSES, {"path": "here"})
    return Data("noise", split, None, split, (1, 12, 12), (0.5,), (0.3,))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Model]:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "cache"))
    made = {}
    for seed, name in enumerate("xy"):
        torch.manual_seed(seed)
        made[name] = saved(tmp_path / name, CLASSES)
    return made


def saved(file: Path, classes: tuple[str, ...]) -> Model:
    net = build("chain_n1_m1_k0", input=(1, 12, 12), classes=len(classes), widths=[4])
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    preprocess, options = Preprocess((1, 12, 12), (0.5,), (0.3,)), {"widths": [4]}
    return load(convert(Model(net, Normalizer(preprocess), classes, "chain_n1_m1_k0", "", options=options), file))


def test_the_ensemble_averages_probabilities(data: Data, models: dict[str, Model]) -> None:
    scores, both = evaluate_several(models, data, batch=50)
    for name, model in models.items():
        alone = evaluate(model, data)
        assert torch.equal(scores[name].predicted, alone.predicted)
        torch.testing.assert_close(scores[name].losses, alone.losses)
    x = (data.train.images.float() / 255 - 0.5) / 0.3  # type: ignore[attr-defined]
    with torch.inference_mode():
        probabilities = torch.stack([model.net(x).softmax(1) for model in models.values()]).mean(0)
    assert torch.equal(both.predicted, probabilities.argmax(1))
    torch.testing.assert_close(both.confidences, probabilities.amax(1))


def test_answers_are_kept_and_read_again(data: Data, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    model, split, protocol = models["x"], data.split(), find_protocol("flip")
    first = kept_answers(model, split, protocol)
    files = sorted(ensemble.place(model, split, protocol).iterdir())
    assert len(files) == 3  # 300 images
    files[1].write_bytes(b"\x93NUMPY damaged")
    asked = []

    def answers(net: object, split: object, batches: list[Tensor], *rest: object) -> list[Tensor]:
        asked.extend(batches)
        return real(net, split, batches, *rest)  # type: ignore[arg-type]

    real = ensemble.checked_answers
    monkeypatch.setattr(ensemble, "checked_answers", answers)
    assert torch.equal(kept_answers(model, split, protocol), first)
    assert torch.cat(asked).tolist() == list(range(128, 256))
    kept_answers(model, split, find_protocol("center"))
    assert sum(map(len, asked)) == 128 + 300


def test_what_the_answers_depend_on(data: Data, models: dict[str, Model]) -> None:
    x, y = models.values()
    split, center = data.split(), find_protocol("center")
    other = MemorySplit("test", split.images.flip(0), split.labels, CLASSES)  # type: ignore[attr-defined]
    places = [ensemble.place(x, split, center), ensemble.place(y, split, center)]
    places += [ensemble.place(x, split, find_protocol("flip")), ensemble.place(x, other, center)]
    assert len(set(places)) == 4


def test_models_of_other_classes(data: Data, models: dict[str, Model], tmp_path: Path) -> None:
    other = saved(tmp_path / "z", tuple("abcde"))
    with pytest.raises(UserError, match="z has other classes than x; give models for the same classes"):
        evaluate_several({**models, "z": other}, data)


def test_one_model_is_its_own_ensemble() -> None:
    logits = torch.randn(7, 3)
    torch.testing.assert_close(together([logits]).softmax(1), logits.softmax(1))


def test_pairs_against_a_binomial_sum() -> None:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, 80))
    first, second = (scores_of(torch.from_numpy(rng.normal(size=(80, 3))).float(), labels, tuple("abc")) for _ in "ab")
    a, b = first.ranks == 0, second.ranks == 0
    found = paired(first, second)
    assert (found.first, found.second) == (int((a & ~b).sum()), int((~a & b).sum()))
    n, least = found.first + found.second, min(found.first, found.second)
    assert found.p == pytest.approx(min(1.0, 2 * sum(binom.pmf(k, n, 0.5) for k in range(least + 1))))
    assert paired(first, first) == (0, 0, 1.0)
    with pytest.raises(UserError, match="not scored on the same images"):
        paired(first, second.subset(torch.arange(79)))


def test_calibration_by_hand() -> None:
    """Two bins: of 4 images at 0.9 three are right, of 2 at 0.6 one: (4 * 0.15 + 2 * 0.1) / 6."""
    sure = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    logits = torch.stack([sure.log(), (1 - sure).log()], 1)
    scores = scores_of(logits, torch.tensor([0, 0, 0, 1, 0, 1]), ("a", "b"))
    assert scores.ece == pytest.approx((4 * 0.15 + 2 * 0.1) / 6, abs=1e-6)
    filled = [b for b in scores.bins() if b.images]
    assert [(b.images, b.accuracy) for b in filled] == [(2, 0.5), (4, 0.75)]
    assert sum(b.images for b in scores.bins()) == 6


def test_perfectly_sure_and_right_is_calibrated() -> None:
    scores = scores_of(torch.tensor([[50.0, 0.0]] * 3), torch.zeros(3, dtype=torch.int64), ("a", "b"))
    assert scores.ece == pytest.approx(0, abs=1e-9)
    low, high = scores.per_class_intervals[0] or (0, 0)
    assert (low, high) == (pytest.approx(3 / (3 + 1.959964**2), rel=1e-5), 1.0)
    assert scores.per_class_intervals[1] is None


def test_a_part_by_class() -> None:
    scores = scores_of(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 0, 0]), tuple("abc"))
    part = scores.subset(scores.images_of(["a"]))
    assert (part.n, part.hits(1)) == (3, 2)
    with pytest.raises(UserError, match="no class named 'd'"):
        scores.images_of(["d"])
    with pytest.raises(UserError, match="there are no images of these classes"):
        scores.subset(scores.images_of(["c"]))
