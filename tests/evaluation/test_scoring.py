"""evaluate: against scikit-learn, by hand, and through the command line."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn import metrics
from torch import Tensor, nn

from convatlas.cli import main
from convatlas.data.normalise import Normalizer
from convatlas.data.sources import load_data
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.scores import Scores, rank_of, ranking, usual_topk
from convatlas.evaluation.scoring import evaluate, evaluate_split
from convatlas.preprocess import Preprocess
from convatlas.report.scores import report
from convatlas.runs.folder import Run
from tests.trained import digits, train

NORMALIZER = Normalizer(Preprocess((1, 2, 2), (0.0,), (1.0,), scale=1.0))


class Prescribed(nn.Module):
    """Gives image i, whose pixels are all i, the i-th row of `logits`."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = logits
        self.drop = nn.Dropout(1.0)  # in training mode all logits would be zero
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert not torch.is_grad_enabled()
        self.calls.append(len(x))
        return self.drop(self.logits[x[:, 0, 0, 0].long()])


def split_of(labels: Sequence[int], classes: int) -> MemorySplit:
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return MemorySplit("test", images, torch.tensor(labels, dtype=torch.int64), tuple(f"c{i}" for i in range(classes)))


def scores_of(logits: Sequence[Sequence[float]] | Tensor, labels: Sequence[int], batch: int = 256) -> Scores:
    table = torch.as_tensor(logits, dtype=torch.float32)
    return evaluate_split(Prescribed(table), split_of(labels, table.shape[1]), NORMALIZER, batch=batch)


@pytest.mark.parametrize("batch", [1, 7, 50, 256])
def test_scores_equal_scikit_learns(batch: int) -> None:
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 6, generator=random), torch.randint(6, (50,), generator=random)
    scores = scores_of(logits, labels.tolist(), batch)
    for k in range(1, 6):
        expected = metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(6))
        assert scores.top(k) == pytest.approx(expected, abs=1e-12)
    assert scores.top1 == pytest.approx(metrics.accuracy_score(labels, logits.argmax(1)), abs=1e-12)
    assert scores.loss == pytest.approx(metrics.log_loss(labels, logits.double().softmax(1), labels=range(6)), abs=1e-6)
    assert scores.confusion.tolist() == metrics.confusion_matrix(labels, logits.argmax(1), labels=range(6)).tolist()
    recalls = metrics.recall_score(labels, logits.argmax(1), average=None, labels=range(6))
    assert scores.per_class == pytest.approx(recalls.tolist(), abs=1e-12)


def test_by_hand() -> None:
    scores = scores_of([[3, 2, 1], [1, 3, 2], [1, 3, 2], [2, 3, 1]], [0, 0, 2, 0])
    assert (scores.n, scores.ranks.tolist(), scores.predicted.tolist()) == (4, [0, 2, 1, 1], [0, 1, 1, 1])
    assert (scores.top(1), scores.top(2), scores.top(3)) == (0.25, 0.75, 1.0)
    assert scores.confusion.tolist() == [[1, 2, 0], [0, 0, 0], [0, 1, 0]]
    assert scores.per_class == (1 / 3, None, 0.0)
    assert scores.confused() == [("c0", "c1", 2), ("c2", "c1", 1)]
    assert scores.confused(limit=1) == [("c0", "c1", 2)]


@pytest.mark.parametrize(("n", "batch", "batches"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (5, 1, [1] * 5)])
def test_every_image_counts_once(n: int, batch: int, batches: list[int]) -> None:
    fetched: list[int] = []

    class Spied(MemorySplit):
        def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, crops: Any = None) -> Tensor:
            fetched.extend(torch.as_tensor(indices).tolist())
            return super().fetch(indices, preprocess)

    net, split = Prescribed(torch.eye(n)), split_of(range(n), n)
    scores = evaluate_split(
        net, Spied(**{k: getattr(split, k) for k in ("name", "images", "labels", "classes")}), NORMALIZER, batch=batch
    )
    assert fetched == list(range(n))
    assert net.calls == batches
    assert (scores.n, scores.top1) == (n, 1.0)


def test_of_equal_logits_the_lower_index_comes_first() -> None:
    """A network that says nothing is right as often as chance, and `predicted` agrees with the ranks."""
    scores = scores_of(torch.zeros(8, 4), [0, 1, 2, 3] * 2)
    assert scores.ranks.tolist() == [0, 1, 2, 3] * 2
    assert scores.predicted.tolist() == [0] * 8
    assert [scores.top(k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    boundary = scores_of([[1, 5, 5, 0]] * 4, [0, 1, 2, 3])
    assert boundary.ranks.tolist() == [2, 0, 1, 3]
    assert boundary.hits(1) == boundary.confusion.diagonal().sum() == 1


def test_ranks_are_places_in_the_ranking() -> None:
    logits = torch.randint(4, (300, 7), generator=torch.Generator().manual_seed(1)).float()  # ties everywhere
    labels = torch.arange(300) % 7
    order = ranking(logits, 7)
    assert order.sort(1).values.equal(torch.arange(7).expand(300, 7))
    assert rank_of(logits, labels).equal((order == labels[:, None]).int().argmax(1))


def test_top_k_of_all_classes_is_always_right() -> None:
    """The lectures' question: with k = classes nothing can be wrong."""
    scores = scores_of(torch.randn(20, 5), [4] * 20)
    assert scores.top(5) == 1.0
    for k in (0, -1, 6):
        with pytest.raises(UserError, match=rf"top-{k} is undefined for 5 classes; give 1 to 5"):
            scores.top(k)
    assert [usual_topk(n) for n in (2, 5, 6, 1000)] == [(1,), (1,), (1, 5), (1, 5)]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits = torch.zeros(9, 3)
    logits[6, 1] = bad
    with pytest.raises(UserError, match=r"output for image 6 is not finite.*smaller lr"):
        scores_of(logits, [0] * 9, batch=4)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UserError, match="the test split has no images; give another split"):
        evaluate_split(Prescribed(torch.zeros(1, 3)), split_of([], 3), NORMALIZER)
    with pytest.raises(UserError, match="the network has 3 classes and the data has 4"):
        evaluate_split(Prescribed(torch.zeros(2, 3)), split_of([0, 1], 4), NORMALIZER)
    with pytest.raises(UserError, match="batch 0 is too small; give at least 1"):
        evaluate_split(Prescribed(torch.zeros(2, 3)), split_of([0, 1], 3), NORMALIZER, batch=0)


def test_each_module_is_left_in_its_mode() -> None:
    net = Prescribed(torch.eye(3))
    frozen = nn.BatchNorm2d(1).eval()
    net.add_module("frozen", frozen)
    net.train()
    frozen.eval()
    assert evaluate_split(net, split_of([0, 1, 2], 3), NORMALIZER).top1 == 1.0  # the dropout was off
    assert (net.training, net.drop.training, frozen.training) == (True, True, False)
    with pytest.raises(RuntimeError, match="boom"):
        evaluate_split(net, split_of([0, 1, 2], 3), NORMALIZER, progress=boom)
    assert (net.training, frozen.training) == (True, False)


def boom(batches: Sequence[int]) -> Iterable[int]:
    raise RuntimeError("boom")


def test_wilsons_interval() -> None:
    """Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29, by the score method."""
    for right, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        ranks = (torch.arange(n) >= right).long()
        scores = Scores(("a", "b"), torch.zeros(n).long(), ranks, ranks, torch.zeros(n), torch.ones(n))
        assert scores.interval() == pytest.approx((low, high), abs=5e-5)


def test_a_notebook_shows_accuracies_and_confusion() -> None:
    scores = replace(scores_of([[3, 2, 1], [1, 3, 2], [1, 3, 2], [2, 3, 1]], [0, 0, 2, 0]), classes=("<a>", "b", "c"))
    page = scores._repr_html_()
    assert "<caption>4 images, mean loss " in page
    assert "<tr><th>top-1</th><td>1</td><td>25.00%</td><td>4.56% to 69.94%</td></tr>" in page
    assert "<tr><th>&lt;a&gt;</th><td>1</td><td>2</td><td></td></tr>" in page
    assert "<a>" not in page
    many = scores_of(torch.randn(5, 21), range(5))
    assert (many._repr_html_().count("<table>"), page.count("<table>")) == (1, 2)
    assert "<th>top-5</th>" in many._repr_html_()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("runs") / "brief")


def test_a_run_scores_what_its_training_logged(run: Run) -> None:
    scores = evaluate(run, digits())
    logged = run.epochs()[-1]["val"]
    assert (scores.n, scores.top1) == (64, logged["top1"])
    assert scores.loss == pytest.approx(logged["loss"], rel=1e-5)
    other = evaluate(run, digits(), batch=5)
    assert other.predicted.equal(scores.predicted)
    assert other.losses.numpy() == pytest.approx(scores.losses.numpy(), rel=1e-3, abs=1e-4)
    assert evaluate(run, digits(), split="train").n == 256
    assert evaluate(run, load_data("digits")).n == 355
    with pytest.raises(UserError, match="digits has no tset split; give train or val"):
        evaluate(run, digits(), split="tset")


def call(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["evaluate", *args]) == 0
    return capsys.readouterr().out


def test_command_line(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scores = evaluate(run, load_data("digits"))
    out = call(capsys, str(run.folder), "--data", "digits")
    for part in (
        "resnet20",
        "355 images",
        f"{scores.top1:.2%}",
        f"{scores.top(5):.2%}",
        f"loss (cross-entropy) {scores.loss:.4f}",
    ):
        assert part in out
    rows = [line.split() for line in out.splitlines() if line.startswith("7 ")]
    assert rows[0][1:-1] == [str(n or ".") for n in scores.confusion[7].tolist()]
    right, taken, n = scores.confused(1)[0]
    assert [right, taken, str(n)] in [line.split() for line in out.splitlines()]

    line = list(csv.DictReader(io.StringIO(call(capsys, str(run.folder), "--data", "digits", "--csv"))))[1]
    assert (line["metric"], int(line["right"]), int(line["of"])) == ("top-5", scores.hits(5), 355)
    assert (float(line["low"]), float(line["high"])) == scores.interval(5)
    assert "| --- | ---: |" in call(capsys, str(run.folder), "--data", "digits", "--md")

    record = json.loads(
        call(capsys, str(run.folder), "--data", "digits", "--json", "--top", "3,1,3", "--which", "last")
    )
    assert record["images"] == 355
    assert {k for k in record if k.startswith("top")} == {"top1", "top3"}
    assert record["top3"] == scores.top(3)
    assert record["confusion"] == scores.confusion.tolist()
    assert sum(map(sum, record["confusion"])) == 355


def test_command_line_with_longer_names(run: Run) -> None:
    scores = replace(evaluate(run, load_data("digits")), classes=tuple(f"digit number {i}" for i in range(10)))
    out = report(scores, (1,)).text()
    assert "\n7 digit number 7 " in out
    assert max(len(line) for line in out.splitlines() if "7 digit" in line) < 90


def test_the_confusion_is_drawn(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = call(capsys, str(run.folder), "--data", "digits", "--confusion", str(tmp_path / "c.png"))
    assert f"The confusion matrix is in {tmp_path / 'c.png'}" in out
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--top", "1,11"), "top-11 is undefined for 10 classes"),
        (("--top", "1,five"), "--top '1,five' is not a list of whole numbers of at least 1"),
        (("--top", "0"), "--top '0' is not a list of whole numbers of at least 1"),
        (("--split", "tset"), "no --split named 'tset'"),
        (("--device", "gpu"), "no device named 'gpu'"),
        (("--batch", "0"), "--batch 0 is too small; give at least 1"),
        (
            ("--confusion", "c.jpg"),
            "--confusion c.jpg is not a picture file; give a name that ends in .png, .svg, .pdf",
        ),
        (("--confusion", "nowhere/c.png"), "there is no folder nowhere"),
    ],
)
def test_command_line_refuses(run: Run, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], says: str) -> None:
    assert main(["evaluate", str(run.folder), "--data", "digits", *args]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_command_line_refuses_other_classes(run: Run, capsys: pytest.CaptureFixture[str], real_data: Path) -> None:
    assert main(["evaluate", str(run.folder), "--data", f"cifar10:{real_data / 'cifar-10-batches-py'}"]) == 2
    assert (
        "differ from the model's: 'airplane', 'automobile', 'bird' and 7 more are not among '0', '1', '2' and 7 more"
        in capsys.readouterr().err
    )
