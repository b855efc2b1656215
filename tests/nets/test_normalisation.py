"""Every batch norm has the epsilon and the momentum of its source.

NORMS has, for each class of networks, both and where they come from; a class that is not in it has torch's, which are
Torch7's as well. TensorFlow gives the decay of the moving averages, which is 1 - momentum. The rows of other libraries
have what these libraries build.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from convatlas.catalogue import Variant, find, variants
from convatlas.layers import on_meta
from tests import oracles

TORCH = (1e-5, 0.1)
Norm = tuple[float, float]  # epsilon, momentum

NORMS: dict[str, tuple[str, Norm | Callable[[str], Norm]]] = {
    "Airbench": ("airbench94.py: momentum 0.6 in its convention", (1e-12, 0.4)),
    "BNAlexNet": ("imagenet-multiGPU.torch, alexnetowtbn.lua", (1e-3, 0.1)),
    "BNNiN": ("imagenet-multiGPU.torch, ninbn.lua", (1e-3, 0.1)),
    "NiN": ("as BNNiN", (1e-3, 0.1)),
    "ENetEncoder": ("ENet-training, encoder.lua", (1e-3, 0.1)),
    "GoogLeNetBN3x3": ("torchvision", (1e-3, 0.1)),
    "BNInception": ("tf-slim: decay 0.9997", lambda name: (1e-3, 0.0003) if name.endswith("_slim") else TORCH),
    "InceptionV2": ("InceptionV3's", (1e-3, 0.0003)),
    "InceptionV3": ("tf-slim: decay 0.9997", lambda name: (1e-3, 0.1 if name.endswith("_tv") else 0.0003)),
    "InceptionV4": ("tf-slim: decay 0.9997", (1e-3, 0.0003)),
    "InceptionResNet": ("tf-slim: decay 0.9997", lambda name: (1e-3, 0.1 if name.endswith("_timm") else 0.0003)),
    "SEInceptionResNet": ("InceptionResNet's", (1e-3, 0.0003)),
    "MobileNetV1": ("tf-slim: decay 0.9997", lambda name: TORCH if name.endswith("_timm") else (1e-3, 0.0003)),
    "SEMobileNetV1": ("MobileNet's", (1e-3, 0.0003)),
    "MobileNetV2": ("tf-slim: decay 0.997", lambda name: TORCH if name.endswith("_symmetric") else (1e-3, 0.003)),
    "NASNet": ("tf-slim: decay 0.9997 on ImageNet, 0.9 on CIFAR", lambda name: (
        (1e-3, 0.1) if name.endswith("_timm") else TORCH if find(name).input == (3, 32, 32) else (1e-3, 0.0003))),
    "EfficientNet": ("section 5.2: 0.99; tensorflow/tpu", lambda name: (
        TORCH if name.endswith("_symmetric") and name < "efficientnet_b5" else (1e-3, 0.01))),
    "EfficientNetLite": ("its release: 0.99", lambda name: TORCH if name.endswith("_symmetric") else (1e-3, 0.01)),
}  # fmt: skip


def has(net: nn.Module) -> set[Norm]:
    """The epsilons and momenta of its batch norms."""
    found = set()
    for m in net.modules():
        if isinstance(m, _BatchNorm):
            assert m.momentum is not None
            found.add((m.eps, m.momentum))
    return found


@pytest.mark.parametrize("variant", variants().values(), ids=variants())
def test_epsilon_and_momentum(variant: Variant) -> None:
    source, norm = NORMS.get(variant.net.__name__, ("torch's", TORCH))
    with on_meta():
        found = has(variant.build())
    assert found <= {norm(variant.name) if callable(norm) else norm}, source


def test_each_source_is_of_networks_with_batch_norm() -> None:
    for name in NORMS:
        with on_meta():
            assert any(has(v.build()) for v in variants().values() if v.net.__name__ == name), name


def test_moving_averages_decay_as_tensorflows() -> None:
    for name, decay in (("mobilenet_v1", 0.9997), ("mobilenet_v2", 0.997), ("efficientnet_b0", 0.99)):
        norm = next(m for m in find(name).build(width=0.25).modules() if isinstance(m, nn.BatchNorm2d)).double()
        for _ in range(5):
            norm(torch.ones(2, norm.num_features, 1, 1, dtype=torch.float64))
        assert norm.running_mean is not None
        expected = torch.full_like(norm.running_mean, 1 - decay**5)  # of the mean, 1; it started from 0
        torch.testing.assert_close(norm.running_mean, expected)


LIBRARIES = {  # library, name there: our row, and what the library needs to be told
    ("timm", "mobilenetv1_100"): ("mobilenet_v1_timm", {}),
    ("timm", "mobilenetv2_100"): ("mobilenet_v2_symmetric", {}),
    ("timm", "nasnetalarge"): ("nasnet_a_large_timm", {}),
    ("timm", "inception_resnet_v2"): ("inception_resnet_v2_timm", {}),
    ("timm", "efficientnet_b0"): ("efficientnet_b0_symmetric", {}),
    ("timm", "efficientnet_lite0"): ("efficientnet_lite0_symmetric", {}),
    ("timm", "seresnet50"): ("se_resnet50_v1_5", {}),
    ("torchvision", "mobilenet_v2"): ("mobilenet_v2_symmetric", {}),
    ("torchvision", "efficientnet_b0"): ("efficientnet_b0_symmetric", {}),
    ("torchvision", "efficientnet_b5"): ("efficientnet_b5_symmetric", {}),
    ("torchvision", "inception_v3"): ("inception_v3_tv", dict(init_weights=False)),
    ("torchvision", "googlenet"): ("googlenet_bn_3x3", dict(init_weights=False)),
    ("torchvision", "wide_resnet101_2"): ("wrn101_2", {}),
    ("torchvision", "vgg11_bn"): ("vgg11_bn", {}),
}


@pytest.mark.parametrize(("library", "name"), LIBRARIES)
def test_rows_of_other_libraries_have_theirs(library: str, name: str) -> None:
    ours, options = LIBRARIES[library, name]
    models = oracles.torchvision_models()
    make = oracles.timm().create_model if library == "timm" else lambda name, **to: getattr(models, name)(**to)
    with on_meta():
        assert has(find(ours).build()) == has(make(name, **options))
