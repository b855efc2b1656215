"""Normalisation by what is measured on the training images: against numpy, and through fit, evaluate and predict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from convatlas.data.normalise import Normalizer, measure_normalizer, normalise, preprocess_for
from convatlas.data.sources.memory import memory_data
from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.predictions import predict
from convatlas.evaluation.scoring import evaluate, evaluate_split
from convatlas.preprocess import Preprocess
from convatlas.recipe import SGD, Recipe
from convatlas.runs.folder import Run, open_run
from convatlas.train.fit import fit

RECIPE = Recipe(name="tiny", source="a test", epochs=1, batch=8, optimizer=SGD(0.01), net=(("widths", (4,)),))


def noise(train: int = 700, side: int = 6) -> Data:
    """Images whose pixels depend on one another, some of one level all over; more than are measured at a time."""
    g = torch.Generator().manual_seed(0)
    rough = torch.randint(0, 120, (train + 9, 3, side, side), generator=g)
    images = (rough + rough.roll(1, 3) // 2 + 20).to(torch.uint8)
    images[::50] = 7
    labels = torch.arange(len(images)) % 3
    splits = {"train": (images[:train], labels[:train]), "val": (images[train:], labels[train:])}
    return memory_data("noise", splits, ("a", "b", "c"), {"source": "a test"}, resize_mode="crop")


@pytest.fixture(scope="module")
def data() -> Data:
    return noise()


def pixels(split) -> np.ndarray:
    assert isinstance(split, MemorySplit)
    return split.images.double().numpy()


def zca_by_numpy(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """pylearn2's make_cifar10_gcn_whitened.py, on rows of values."""

    def contrast(rows: np.ndarray) -> np.ndarray:
        rows = rows - rows.mean(1, keepdims=True)
        norms = np.sqrt((rows**2).sum(1, keepdims=True)) / 55.0
        norms[norms < 1e-8] = 1.0
        return rows / norms

    train, test = contrast(train), contrast(test)
    mean = train.mean(0)
    covariance = (train - mean).T @ (train - mean) / len(train)
    values, vectors = np.linalg.eigh(covariance + 0.1 * np.eye(len(mean)))
    return (test - mean) @ (vectors * np.sqrt(1 / values)) @ vectors.T


def test_gcn_zca_is_pylearn2s(data: Data) -> None:
    record = preprocess_for(data, (3, 6, 6), "gcn_zca")
    out = normalise(data.val.fetch(range(9), record), measure_normalizer(record, data.train))
    train, test = (pixels(s).reshape(len(s), -1) for s in (data.train, data.val))
    expected = zca_by_numpy(train, test)
    assert np.abs(out.numpy().reshape(9, -1) - expected).max() < 2e-3 * np.abs(expected).max()
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_zca_takes_the_correlation_out(data: Data) -> None:
    record = preprocess_for(data, (3, 6, 6), "gcn_zca")
    images = data.train.fetch(range(700), record)
    white = normalise(images, measure_normalizer(record, data.train)).reshape(700, -1)
    correlations = torch.corrcoef(white.T) - torch.eye(108)
    before = torch.corrcoef(images.reshape(700, -1).double().T) - torch.eye(108)
    assert before.abs().max() > 0.3
    # contrast normalisation takes one direction out of 108: what is left is 1/107 each
    assert correlations.abs().max() < 0.03


def test_the_mean_of_each_pixel_is_taken_out_in_levels(data: Data) -> None:
    record = preprocess_for(data, (3, 6, 6), "pixel")
    assert (record.scale, record.std) == (1.0, (1.0, 1.0, 1.0))
    preprocess = measure_normalizer(record, data.train)
    mean = pixels(data.train).mean(0)
    assert np.allclose(preprocess.tensors["mean"].numpy(), mean, atol=1e-4)
    out = normalise(data.val.fetch(range(9), record), preprocess)
    assert np.allclose(out.numpy(), pixels(data.val) - mean, atol=1e-4)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_the_mean_of_each_channel_is_taken_out_in_levels(data: Data) -> None:
    record = preprocess_for(data, (3, 6, 6), "mean")
    out = normalise(data.val.fetch(range(9), record), Normalizer(record))
    expected = pixels(data.val) - pixels(data.train).mean((0, 2, 3))[:, None, None]
    assert np.allclose(out.numpy(), expected, atol=1e-3)


def test_of_a_split_that_is_not_in_memory_a_part_is_measured(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        def __init__(self, split: MemorySplit):
            self.split, self.fetch = split, split.fetch

        def __len__(self) -> int:
            return len(self.split)

    assert isinstance(data.train, MemorySplit)
    record = preprocess_for(data, (3, 6, 6), "pixel")
    monkeypatch.setattr("convatlas.data.normalise.MOST_IMAGES", 70)
    mean = measure_normalizer(record, Elsewhere(data.train)).tensors["mean"]  # type: ignore[arg-type]
    at = np.linspace(0, 699, 70).round().astype(int)
    assert np.allclose(mean.numpy(), pixels(data.train)[at].mean(0), atol=1e-4)


def test_what_was_measured_does_not_get_lost() -> None:
    plain = Preprocess((3, 2, 2), (1.0,) * 3, (1.0,) * 3, whiten="pixel", scale=1.0)
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"whiten=pixel needs the tensors .*but has none; take them from the run"):
        Normalizer(plain)
    with pytest.raises(UserError, match=r"but has \{'mean': \(3, 1, 2\)\}"):
        Normalizer(plain, {"mean": torch.zeros(3, 1, 2)})
    whole = Normalizer(plain, {"mean": torch.ones(3, 2, 2)})
    assert normalise(images, whole).tolist() == (-torch.ones(1, 3, 2, 2)).tolist()
    assert Preprocess.from_json(json.loads(json.dumps(whole.preprocess.to_json()))) == plain
    with pytest.raises(UserError, match="no whiten named 'pixels'; did you mean pixel"):
        replace(plain, whiten="pixels")


def test_images_too_large_for_the_matrix_are_refused(tmp_path: Path) -> None:
    big = noise(10, side=38)
    with pytest.raises(
        UserError, match="a matrix of 4,332 x 4,332 for images of 3x38x38; give images of at most 4,096"
    ):
        train(tmp_path / "run", big, "gcn_zca", side=38)
    assert not (tmp_path / "run").exists()


# through the verbs


def train(out: Path, data: Data, whiten: str, side: int = 6, **more) -> Run:
    recipe = replace(RECIPE, whiten=whiten, augment=("flip",))
    return fit("chain_n1_m1_k0", data, recipe, out=out, input=(3, side, side), device="cpu", **more)


@pytest.mark.parametrize("whiten", ["pixel", "gcn_zca"])
def test_training_evaluation_and_prediction_normalise_alike(tmp_path: Path, data: Data, whiten: str) -> None:
    notes = []
    run = train(tmp_path / "run", data, whiten, on_event=lambda event: notes.append(event.get("text", "")))
    assert f"computing statistics of the training images for whiten={whiten}" in notes
    expected = measure_normalizer(run.preprocess, data.train)
    for name in ("preprocess", "best", "last"):
        tensors = load_file(tmp_path / "run" / f"{name}.safetensors")
        for key, value in expected.tensors.items():
            assert torch.equal(tensors[f"preprocess/{key}"], value)
    again = open_run(tmp_path / "run")
    assert again.normalizer.tensors
    scores = evaluate_split(again.load(), data.val, expected)
    assert scores.top1 == evaluate(again, data).top1 == run.epochs()[-1]["val"]["top1"]
    assert scores.loss == pytest.approx(run.epochs()[-1]["val"]["loss"])
    assert isinstance(data.val, MemorySplit)
    Image.fromarray(data.val.images[3].permute(1, 2, 0).numpy()).save(tmp_path / "3.png")
    (prediction,) = predict(again, tmp_path / "3.png", 1)
    assert prediction.ranked[0][0] == data.classes[int(scores.predicted[3])]


def test_the_tensors_come_from_a_checkpoint_where_their_own_file_is_lost(tmp_path: Path, data: Data) -> None:
    run = train(tmp_path / "run", data, "pixel")
    before = open_run(tmp_path / "run").normalizer
    (tmp_path / "run/preprocess.safetensors").unlink()
    after = open_run(tmp_path / "run").normalizer
    assert torch.equal(before.tensors["mean"], after.tensors["mean"])
    run.load()


def test_weights_beside_other_tensors_are_refused(tmp_path: Path, data: Data) -> None:
    train(tmp_path / "run", data, "pixel")
    path = tmp_path / "run/preprocess.safetensors"
    other = train(tmp_path / "other", noise(300), "pixel")
    path.write_bytes((other.folder / path.name).read_bytes())
    with pytest.raises(
        UserError,
        match=r"best\.safetensors was trained with other normalisation statistics",
    ):
        open_run(tmp_path / "run").load()


def test_a_resumed_run_does_not_measure_again(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "run", data, "pixel")
    monkeypatch.setattr("convatlas.train.setup.measure_normalizer", lambda *_: pytest.fail("measured again"))
    train(tmp_path / "run", data, "pixel", resume=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("whiten", ["channel", "pixel", "gcn_zca"])
def test_a_gpu_normalises_as_the_cpu_does(data: Data, whiten: str) -> None:
    record = preprocess_for(data, (3, 6, 6), whiten)
    preprocess = measure_normalizer(record, data.train) if whiten in ("pixel", "gcn_zca") else Normalizer(record)
    images = data.val.fetch(range(9), record)
    assert torch.allclose(normalise(images.cuda(), preprocess).cpu(), normalise(images, preprocess), atol=1e-3)


@pytest.mark.slow
def test_cifar_10_whitens_as_expected(real_data: Path) -> None:
    """The whole matrix, 3,072 x 3,072, of 50,000 images: whitened values are nearly uncorrelated, of variance < 1."""
    from convatlas.data.sources import load_data

    cifar = load_data(f"cifar10:{real_data}")
    record = preprocess_for(cifar, (3, 32, 32), "gcn_zca")
    preprocess = measure_normalizer(record, cifar.train)
    white = normalise(cifar.train.fetch(range(5000), record), preprocess).reshape(5000, -1)
    zca = preprocess.tensors["zca"].double()  # a variance v becomes v / (v + 0.1), and the matrix is of 1 / (v + 0.1)
    assert white.std().item() == pytest.approx((1 - 0.1 * (zca**2).sum().item() / 3072) ** 0.5, rel=0.01)
    correlations = torch.corrcoef(white[:, ::37].T) - torch.eye(len(white[0, ::37]))
    assert correlations.abs().max() < 0.1  # 0.8 before
