"""Grad-CAM, against class activation maps, which it equals where a linear layer reads averaged maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas import build, load
from convatlas.data.normalise import Normalizer, normalise
from convatlas.errors import UserError
from convatlas.evaluation.grad_cam import grad_cam
from convatlas.preprocess import Preprocess
from convatlas.weights.model import Model


def model_of(name: str, **options: object) -> Model:
    torch.manual_seed(0)
    net = build(name, classes=5, **options).eval()  # type: ignore[arg-type]
    normalizer = Normalizer(Preprocess(net.input, (0.5,) * net.input[0], (0.25,) * net.input[0]))  # type: ignore[arg-type,index]
    return Model(net, normalizer, tuple("abcde"), name, "")


def pictures(model: Model, n: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, *model.preprocess.input), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )


@pytest.mark.parametrize("classes", [None, [4, 0, 2]])
def test_class_activation_maps(classes: list[int] | None) -> None:
    """Zhou et al. (2016): the maps weighed by the class's row of the linear layer."""
    model = model_of("resnet20")
    images = pictures(model)
    net, x = model.net, normalise(images, model.normalizer)
    with torch.inference_mode():
        maps, chosen = net.trunk()(x), net(x).argmax(1) if classes is None else torch.tensor(classes)
        (linear,) = (m for m in net.head.modules() if isinstance(m, nn.Linear))
        cam = torch.einsum("nc,nchw->nhw", linear.weight[chosen], maps).relu()
        cam = F.interpolate(cam[:, None], images.shape[2:], mode="bilinear")[:, 0]
    most = cam.amax((1, 2), keepdim=True)
    assert most.any()
    expected = torch.where(most > 0, cam / most, 0.0)
    torch.testing.assert_close(grad_cam(model, images, classes), expected, atol=1e-5, rtol=1e-4)


def test_an_earlier_stage() -> None:
    """By its own definition, with gradients of the rest of the network."""
    model = model_of("resnet20")
    images = pictures(model)
    stem, first, *rest = model.net.stem, *model.net.stages.children()  # type: ignore[misc]
    maps = first(stem(normalise(images, model.normalizer))).detach().requires_grad_()
    logits = model.net.head(nn.Sequential(*rest)(maps))
    logits.amax(1).sum().backward()
    assert maps.grad is not None
    heat = (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach()
    torch.testing.assert_close(
        grad_cam(model, images, stage="conv2"), heat / heat.amax((1, 2), keepdim=True), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["densenet_40_12", "fractalnet20"])
def test_other_families(name: str) -> None:
    model = model_of(name, input=(3, 32, 32))
    assert grad_cam(model, pictures(model, 2)).shape == (2, 32, 32)


def test_nothing_is_left_behind() -> None:
    model = model_of("resnet20")
    for p in model.net.parameters():
        p.requires_grad_(False)
    grad_cam(model, pictures(model))
    assert not any(m._forward_hooks for m in model.net.modules())
    assert all(p.grad is None for p in model.net.parameters())
    assert load(model) is model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "conv9"}, "no stage named 'conv9'; did you mean"),
        ({"classes": [1]}, "the classes are not 3 numbers below 5"),
        ({"classes": [1, 2, 5]}, "the classes are not 3 numbers below 5; give the class of each image"),
    ],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    model = model_of("resnet20")
    with pytest.raises(UserError, match=message):
        grad_cam(model, pictures(model), **options)  # type: ignore[arg-type]
