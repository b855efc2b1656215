"""The demonstration, with one epoch in place of the recipe's."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas import demo as module
from convatlas.cli import main
from convatlas.data.sources import load_data
from convatlas.demo import SHOWN, Demo, chosen, demo, fresh_folder
from convatlas.errors import UserError
from convatlas.evaluation.predictions import predict
from convatlas.evaluation.scores import Scores
from convatlas.recipe import Recipe
from convatlas.recipes import find_recipe
from convatlas.runs.folder import open_run
from convatlas.weights.model import load


def brief(name: str) -> Recipe:
    return replace(find_recipe(name), epochs=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Demo, list[str]]]:
    texts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "find_recipe", brief)
        yield demo(tmp_path_factory.mktemp("demo") / "run", tell=texts.append), texts


def test_it_leaves_a_run_and_pictures(done: tuple[Demo, list[str]]) -> None:
    made, texts = done
    out = made.run.folder
    assert open_run(out).network == "lenet5"
    for name in ("curves.png", "predictions.png", "confusion.png"):
        with Image.open(out / name) as image:
            assert image.format == "PNG"
            assert len(set(image.convert("L").tobytes())) > 20  # there is something in it
    assert len(texts) == 3
    assert "1,442 handwritten digits" in texts[0]


def test_it_scores_the_last_weights_on_every_held_out_digit(done: tuple[Demo, list[str]]) -> None:
    made, _ = done
    last = made.run.epochs()[-1]["test"]
    assert (made.scores.n, made.scores.top1) == (355, last["top1"])


def test_its_files_are_the_digits_and_are_taken_for_what_they_are(done: tuple[Demo, list[str]]) -> None:
    made, _ = done
    files = sorted((made.run.folder / "images").iterdir())
    test = load_data("digits").test
    assert len(files) == len(made.indices) == len(made.predictions) == SHOWN
    for i, file, prediction in zip(made.indices, files, made.predictions, strict=True):
        assert file.name == f"{i:03}-is-{test.labels[i]}.png"
        with Image.open(file) as image:
            assert np.array_equal(np.asarray(image), test.images[i, 0].numpy())
        assert prediction.file == str(file)
        assert prediction.ranked[0][0] == made.scores.classes[made.scores.predicted[i]]
    again = predict(load(made.run.folder, "last"), made.run.folder / "images", top=3)
    assert again == list(made.predictions)


@pytest.mark.parametrize(("mistakes", "shown_wrong"), [(0, 0), (4, 4), (40, 6), (300, 6)])
def test_the_worst_mistakes_are_among_the_images(mistakes: int, shown_wrong: int) -> None:
    n = 300
    ranks = torch.zeros(n, dtype=torch.int64)
    ranks[torch.randperm(n, generator=torch.Generator().manual_seed(0))[:mistakes]] = 1
    losses = torch.arange(n) + 10_000.0 * ranks  # of the mistakes, the later the worse
    at = chosen(Scores(("a", "b"), ranks, ranks, ranks, losses, torch.ones(len(losses))))
    assert list(at) == sorted(set(at))
    wrong = [i for i in at if ranks[i]]
    assert wrong == ranks.nonzero()[:, 0].tolist()[-shown_wrong:] if shown_wrong else not wrong
    assert len(at) == (SHOWN if mistakes < n else 6)


def test_a_new_folder_each_time(tmp_path: Path) -> None:
    assert fresh_folder(tmp_path / "runs") == tmp_path / "runs/demo"
    (tmp_path / "runs/demo").mkdir(parents=True)
    assert fresh_folder(tmp_path / "runs") == tmp_path / "runs/demo-2"
    (tmp_path / "runs/demo-2").touch()
    assert fresh_folder(tmp_path / "runs") == tmp_path / "runs/demo-3"


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").touch()
    with pytest.raises(UserError, match="exists and is not empty; give a new folder with --out"):
        demo(tmp_path)
    with pytest.raises(UserError, match="exists and is not empty"):
        demo(tmp_path / "precious.txt")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir()] == ["precious.txt"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_recipe", brief)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    scores = open_run("runs/demo").epochs()[-1]["test"]
    for part in (
        f"{round(355 * scores['top1'])} of the 355 held-out digits are classified correctly",
        f"{scores['top1']:.2%}",
        "top-5",
        "Confusion",
        "runs/demo:",
        "predictions.png",
        "convatlas predict runs/demo runs/demo/images",
    ):
        assert part in out
    assert main(["demo", "--json"]) == 0  # a second time, in a folder of its own
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert record["run"] == "runs/demo-2"
    assert record["scores"]["images"] == 355
    assert len(record["predictions"]) == SHOWN
    assert "Training lenet5" in err
