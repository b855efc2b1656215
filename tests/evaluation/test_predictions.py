"""predict: files and folders in, ranked classes out; and through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from convatlas.cli import main
from convatlas.data.normalise import Normalizer
from convatlas.data.sources import load_data
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.predictions import Prediction, image_files, predict, predict_files
from convatlas.evaluation.scoring import evaluate
from convatlas.preprocess import Preprocess
from convatlas.runs.folder import Run
from convatlas.weights.model import Model
from tests.trained import train

NORMALIZER = Normalizer(Preprocess((1, 4, 4), (0.0,), (1.0,), scale=1.0))
CLASSES = ("none", "one", "two", "three")


class Counts(nn.Module):
    """The logit of class i is minus the distance between i and the image's brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        assert x.is_contiguous(memory_format=torch.channels_last)
        self.batches.append(len(x))
        return -(x.mean((1, 2, 3))[:, None] - torch.arange(4)).abs()


def model(net: nn.Module, classes: tuple[str, ...] = CLASSES) -> Model:
    return Model(net, NORMALIZER, classes, "a test", "nowhere")


def picture(path: Path, brightness: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), brightness, np.uint8)).save(path)
    return path


def test_ranked_by_hand(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", 2)
    (found,) = predict_files(model(Counts()), [file], top=3)
    total = 1 + 2 * np.exp(-1) + np.exp(-2)
    assert found.file == str(file)
    assert [name for name, _ in found.ranked] == ["two", "one", "three"]  # one and three tie: the lower index first
    assert [p for _, p in found.ranked] == pytest.approx([1 / total, np.exp(-1) / total, np.exp(-1) / total], rel=1e-6)
    (every,) = predict_files(model(Counts()), [file], top=99)
    assert len(every.ranked) == 4
    assert sum(p for _, p in every.ranked) == pytest.approx(1, abs=1e-12)


def test_folders_are_searched(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "a.png", "b/deep/er/3.webp", ".hidden/4.png", "b/._5.png", "c/6.bmp"):
        picture(tmp_path / name, 1)
    (tmp_path / "notes.txt").write_text("no image")
    odd = picture(tmp_path / "odd.png", 1).rename(tmp_path / "odd.image")
    below = ["a.png", "b/1.jpg", "b/2.PNG", "b/deep/er/3.webp", "c/6.bmp"]
    assert [str(f.relative_to(tmp_path)) for f in image_files(tmp_path)] == below
    assert image_files([tmp_path / "c", odd, str(tmp_path / "c")]) == [tmp_path / "c/6.bmp", odd, tmp_path / "c/6.bmp"]
    assert [p.error for p in predict_files(model(Counts()), [odd])] == [None]  # it is its content that counts


def test_bad_files_are_reported_and_the_others_predicted(tmp_path: Path) -> None:
    good = [picture(tmp_path / f"{i}.png", i) for i in range(4)]
    text, cut, empty, gone = tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "empty", tmp_path / "gone.png"
    text.write_text("no image")
    cut.write_bytes(good[1].read_bytes()[:50])
    empty.mkdir()
    files = [good[3], text, empty, good[0], gone, cut, good[2]]
    found = list(predict_files(model(Counts()), image_files(files), batch=3))
    assert [p.file for p in found] == [str(f) for f in files]
    assert [p.ranked[0][0] if p.ranked else None for p in found] == ["three", None, None, "none", None, None, "two"]
    for p, says in zip(found, (None, "is not a", "contains no images", None, "gone.png", "is a broken image", None)):
        assert (p.error is None) == (says is None)
        if says is not None:
            assert says in str(p.error)
            assert p.file in str(p.error)


def test_batches_are_read_when_they_are_wanted(tmp_path: Path) -> None:
    """Memory is bounded by the batch, however many files there are."""
    file, asked, net = picture(tmp_path / "a.png", 1), 0, Counts()

    def endless() -> object:
        nonlocal asked
        while True:
            asked += 1
            yield file

    predictions = predict_files(model(net), endless(), batch=5)  # type: ignore[arg-type]
    for _ in range(11):
        assert next(predictions).ranked[0][0] == "one"
    assert (asked, net.batches) == (25, [5, 5, 5])


def test_a_batch_of_bad_files_does_not_reach_the_network(tmp_path: Path) -> None:
    net, good = Counts(), picture(tmp_path / "a.png", 1)
    found = list(predict_files(model(net), [tmp_path / "x", tmp_path / "y", good], batch=2))
    assert [p.error is None for p in found] == [False, False, True]
    assert net.batches == [1]


def test_colour_and_size_are_brought_to_the_networks(tmp_path: Path) -> None:
    Image.new("RGB", (40, 10), (3, 3, 3)).save(tmp_path / "colour.png")
    (found,) = predict_files(model(Counts()), [tmp_path / "colour.png"])
    assert found.ranked[0][0] == "three"


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", 1)
    with pytest.raises(UserError, match="top 0 is too small; give at least 1"):
        predict_files(model(Counts()), [file], top=0)
    with pytest.raises(UserError, match="batch 0 is too small"):
        predict_files(model(Counts()), [file], batch=0)
    with pytest.raises(UserError, match="the network has 4 outputs for 3 classes"):
        list(predict_files(model(Counts(), CLASSES[:3]), [file]))

    class Diverged(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 4), torch.nan)

    with pytest.raises(UserError, match="output is not finite"):
        list(predict_files(model(Diverged()), [file]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("runs") / "brief")


@pytest.fixture(scope="module")
def digit_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 20 held-out digits as PNG files."""
    folder, test = tmp_path_factory.mktemp("digits"), load_data("digits").test
    assert isinstance(test, MemorySplit)
    for i in range(20):
        Image.fromarray(test.images[i, 0].numpy()).save(folder / f"{i:02}.png")
    return folder


def test_files_are_ranked_as_evaluate_ranks_the_same_pixels(run: Run, digit_files: Path) -> None:
    """The way through a file and Pillow changes nothing: same geometry, same normalisation, same order."""
    scores = evaluate(run, load_data("digits"))
    found = predict(run, digit_files, top=10)
    assert len(found) == 20
    for i, p in enumerate(found):
        names = [name for name, _ in p.ranked]
        assert names[0] == run.classes[scores.predicted[i]]
        assert names.index(run.classes[scores.labels[i]]) == scores.ranks[i]
        right = dict(p.ranked)[run.classes[scores.labels[i]]]
        assert -np.log(right) == pytest.approx(float(scores.losses[i]), rel=1e-3, abs=1e-4)


def test_batch_and_company_do_not_matter(run: Run, digit_files: Path) -> None:
    together, alone = predict(run, digit_files), predict(run, digit_files, batch=1)
    for a, b in zip(together, alone, strict=True):
        assert [name for name, _ in a.ranked] == [name for name, _ in b.ranked]
        assert [p for _, p in a.ranked] == pytest.approx([p for _, p in b.ranked], rel=1e-3, abs=1e-6)


def call(capsys: pytest.CaptureFixture[str], *args: object, status: int = 0) -> tuple[str, str]:
    assert main(["predict", *map(str, args)]) == status
    return capsys.readouterr()


def test_command_line(run: Run, digit_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = predict(run, digit_files / "00.png", top=2)[0]
    out, err = call(capsys, run.folder, digit_files / "00.png", "--top", 2)
    assert out.splitlines() == [expected.file, *(f"  {p:7.2%}  {name}" for name, p in expected.ranked)]
    assert err == ""
    out, _ = call(capsys, run.folder, digit_files, "--json")
    assert json.loads(out) == {"schema": 1, "predictions": [p.to_json() for p in predict(run, digit_files)]}
    assert out.splitlines()[1].startswith('{"file": ')
    out, _ = call(capsys, run.folder, digit_files / "00.png", "--csv", "--top", 2)
    (_, *ranked) = [line.split(",") for line in out.splitlines()]
    assert [(name, float(p)) for _, _, name, p in ranked] == list(predict(run, digit_files / "00.png", 2)[0].ranked)
    assert [(file, rank) for file, rank, _, _ in ranked] == [(str(digit_files / "00.png"), str(n)) for n in (1, 2)]


def test_command_line_with_bad_files(
    run: Run, digit_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 0: all predicted; 1: some; 2: none."""
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    out, err = call(capsys, run.folder, bad, digit_files / "00.png", status=1)
    assert out.startswith(str(digit_files / "00.png"))
    assert err.startswith(f"convatlas: {bad} is not a JPEG, PNG, WebP, BMP or GIF image")
    assert err.count("\n") == 1
    out, err = call(capsys, run.folder, bad, digit_files / "00.png", "--json", status=1)
    first, second = json.loads(out)["predictions"]
    assert (first["file"], "error" in first, second["file"]) == (str(bad), True, str(digit_files / "00.png"))
    out, err = call(capsys, run.folder, bad, tmp_path / "none.png", status=2)
    assert (out, err.count("\n")) == ("", 2)


def test_command_line_refuses(run: Run, digit_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--top 0 is too small" in call(capsys, run.folder, digit_files, "--top", 0, status=2)[1]
    assert "there is no model" in call(capsys, tmp_path / "no", digit_files, status=2)[1]
    assert "has no run.json" in call(capsys, tmp_path, digit_files, status=2)[1]
    assert "IMAGE" in call(capsys, run.folder, status=2)[1]


def test_prediction_as_json() -> None:
    assert Prediction("a", (("b", 0.5),)).to_json() == {"file": "a", "ranked": [{"class": "b", "probability": 0.5}]}
    assert Prediction("a", error="is no image").to_json() == {"file": "a", "error": "is no image"}
