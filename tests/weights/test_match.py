"""Weights under other names: every tensor in its place, or a refusal that names the layers.

The oracle is the other library's network: with its random weights in ours, the logits are equal, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convatlas.catalogue import find
from convatlas.layers import ConvNet, unscaled_
from convatlas.weights.identify import rows_of
from convatlas.weights.match import Fit, fit
from convatlas.weights.order import Misfit
from convatlas.weights.types import Weights
from tests import oracles


def fit_to(net: ConvNet, tensors: dict[str, Tensor], **about: object) -> Fit:
    return fit(Weights(tensors, **about), net, "FILE")  # type: ignore[arg-type]


def anonymous(net: nn.Module) -> dict[str, Tensor]:
    """Its state dict with names that say nothing, without counters: layer1.weight, layer1.bias ..."""
    layers: dict[str, str] = {}
    return {
        f"{layers.setdefault(name.rpartition('.')[0], f'layer{len(layers)}')}.{name.rpartition('.')[2]}": tensor
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def random(name: str, **options: object) -> ConvNet:
    net = find(name).build(**options)
    oracles.randomise(net)
    return net.eval()


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    theirs = b.state_dict()
    return all(
        torch.equal(t, theirs[name]) for name, t in a.state_dict().items() if not name.endswith("num_batches_tracked")
    )


@pytest.mark.oracles
@pytest.mark.parametrize(
    ("name", "make", "size"),
    [
        ("resnet34", lambda tv: tv.resnet34(), 64),
        ("resnet50_v1_5", lambda tv: tv.resnet50(), 64),
        ("densenet121", lambda tv: tv.densenet121(), 64),
        ("mobilenet_v2_symmetric", lambda tv: tv.mobilenet_v2(), 64),
        ("squeezenet1_1", lambda tv: tv.squeezenet1_1(), 64),
        ("efficientnet_b0_symmetric", lambda tv: tv.efficientnet_b0(), 64),
        ("googlenet_bn_3x3", lambda tv: tv.googlenet(aux_logits=False, init_weights=False), 224),
    ],
)
def test_torchvision_by_order(name: str, make: Callable[..., nn.Module], size: int) -> None:
    """The names at the ends of blocks stay, "0.weight": shortcuts are told by them."""
    theirs = make(oracles.torchvision_models()).eval()
    oracles.randomise(theirs)
    ours = find(name).build(**({"aux": False} if "aux" in find(name).options else {})).eval()
    found = fit_to(ours, {f"unknown.{name}": tensor for name, tensor in theirs.state_dict().items()})
    assert found.how == "by order and shape"
    found.load(ours)
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.oracles
def test_auxiliary_heads_by_name() -> None:
    """torchvision's GoogLeNet has three layers of 1000x1024, in an order that does not tell which is the last."""
    theirs = oracles.torchvision_models().googlenet(init_weights=False).eval()
    oracles.randomise(theirs)
    (row,) = rows_of(Weights(theirs.state_dict()), "FILE")
    assert (row.variant.name, row.fit.how) == ("googlenet_bn_3x3", "by the names of torchvision GoogLeNet")
    layers = dict(row.fit.layers)
    assert (layers["fc"], layers["aux1.fc2"], layers["aux2.fc2"]) == ("head.linear", "aux.4a.fc2", "aux.4d.fc2")
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(row.build().eval()(x), theirs(x))
    without = find("googlenet_bn_3x3").build(aux=False)
    found = fit_to(without, theirs.state_dict())
    assert {name.partition(".")[0] for name in found.left_out} == {"aux1", "aux2"}
    found.load(without)
    with torch.inference_mode():
        assert torch.equal(without.eval()(x), theirs(x))


def test_what_prepares_images_is_left_out() -> None:
    one, other = random("resnet20"), find("resnet20").build()
    images = {"normalization.mean": torch.rand(3), "normalization.variance": torch.rand(3)}
    found = fit_to(other, {**images, **anonymous(one)})
    assert found.left_out == ("normalization",)
    found.load(other)
    assert same_weights(one, other)


def test_own_names_need_no_order() -> None:
    one, other = random("resnet20"), find("resnet20").build()
    shuffled = dict(reversed(one.state_dict().items()))
    found = fit_to(other, {f"module.{name}": t for name, t in shuffled.items() if not name.endswith("tracked")})
    assert found.how == "by name"
    found.load(other)
    assert same_weights(one, other)


def test_parallel_layers_of_one_shape_are_refused() -> None:
    net = find("inception_v3_tv").build(aux=False)
    with pytest.raises(Misfit, match="have the same shapes and run side by side"):
        fit_to(net, anonymous(net))


def test_a_shortcut_is_told_by_its_name() -> None:
    """In ResNet-50's first stage the last convolution and the projection are both 64 -> 256, side by side."""
    net = find("resnet50").build()
    named = {f"theirs.{name.replace('shortcut', 'downsample')}": tensor for name, tensor in net.state_dict().items()}
    found = dict(fit_to(net, named).layers)
    assert found["theirs.stages.conv2.block1.downsample.conv"] == "stages.conv2.block1.shortcut.conv"
    with pytest.raises(Misfit, match="side by side"):
        fit_to(net, anonymous(net))


def test_layers_in_another_order_are_refused() -> None:
    net = find("resnet20").build()
    layers = anonymous(net)
    turned = {name: layers[name] for name in sorted(layers, key=lambda name: name.startswith("layer4."))}
    with pytest.raises(Misfit, match=r"FILE has layer\d+ before layer\d+, which run the other way round in resnet20"):
        fit_to(net, turned)


def test_names_sorted_as_text_are_taken_by_their_numbers() -> None:
    one, other = random("plain56"), find("plain56").build()
    found = fit_to(other, dict(sorted(anonymous(one).items())))
    found.load(other)
    assert same_weights(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer4.weight"), r"weights of 16x16x3x3"),
        (lambda t: t.pop("layer5.weight"), r"FILE has nothing for .*bn.weight of resnet20"),
        (lambda t: t.update({"more.weight": torch.zeros(7, 7, 3, 3)}), r"has 1 weight of 7x7x3x3, the network has 0"),
        (lambda t: t.update({"layer0.weight": torch.zeros(16, 3, 5, 5)}), r"has 1 weight of 16x3x5x5"),
        (lambda t: t.update({"layer1.running_mean": torch.zeros(17)}), r"has 1 batch norm of 17 channels"),
        (lambda t: t.update({"layer1.alpha": torch.zeros(16)}), r"FILE has layer1.alpha, and .* has no alpha"),
        (lambda t: t.pop("layer1.running_var"), r"FILE has nothing for .*running_var of resnet20"),
    ],
    ids=["missing", "no scale", "left over", "another kernel", "another norm", "another tensor", "half a norm"],
)  # fmt: skip
def test_what_does_not_agree_is_named(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    net = find("resnet20").build()
    tensors = anonymous(net)
    change(tensors)
    with pytest.raises(Misfit, match=message):
        fit_to(net, tensors)


def test_flattened_channels_last() -> None:
    """Keras flattens (height, width, channels): the first linear layer's inputs are put in torch's order."""
    one, other = random("lenet_caffe"), find("lenet_caffe").build()
    tensors = anonymous(one)
    name, weight = next((name, t) for name, t in tensors.items() if t.dim() == 2)
    keras = tensors | {name: weight.reshape(500, 50, 4, 4).permute(0, 2, 3, 1).reshape(500, 800)}
    fit_to(other, keras, channels_last=True).load(other)
    assert same_weights(one, other)


def test_linear_layers_given_as_convolutions() -> None:
    one, other = random("lenet_caffe"), find("lenet_caffe").build()
    tensors = anonymous(one)
    name, weight = next((name, t) for name, t in tensors.items() if t.dim() == 2)
    fit_to(other, tensors | {name: weight.reshape(500, 50, 4, 4)}).load(other)
    assert same_weights(one, other)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("name", ["resnet20_b", "mobilenet_v2_0_35_96"])
def test_folded_batch_norms(name: str, scaled: bool) -> None:
    """An exporter's convolutions, batch norm folded in, give the same logits."""
    one, other = random(name).double(), find(name).build().eval().double()
    if not scaled:
        unscaled_(one)
        unscaled_(other)
    convs = {n: m for n, m in one.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    folded: dict[str, Tensor] = {}
    for conv, m in convs.items():
        norm = dict(one.named_modules()).get(f"{conv.rpartition('.')[0]}.bn")
        weight, bias = m.weight.detach(), m.bias
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = (norm.running_var + norm.eps).rsqrt()
            if norm.weight is not None:
                scale = scale * norm.weight.detach()
            weight = weight * scale[:, None, None, None]
            shift = norm.bias.detach() - norm.running_mean * scale
            bias = nn.Parameter(shift + (0 if bias is None else bias.detach() * scale))
        folded[f"{conv}.weight"] = weight
        if bias is not None:
            folded[f"{conv}.bias"] = bias.detach()
    found = fit_to(other, {f"exported.{name}": tensor for name, tensor in folded.items()}, folded=True)
    assert any("folded" in note for note in found.notes)
    found.load(other)
    x = torch.randn(2, *other.input, dtype=torch.float64)  # type: ignore[misc]
    with torch.inference_mode():
        assert oracles.difference(other(x), one(x)) < 1e-9


def test_biases_before_batch_norm_go_into_its_mean() -> None:
    one, other = random("resnet20"), find("resnet20").build().eval()
    biased = random("resnet20")
    for m in [m for m in biased.modules() if isinstance(m, nn.Conv2d)]:
        m.bias = nn.Parameter(torch.randn(m.out_channels))
    for (_, a), (_, b) in zip(one.named_modules(), biased.named_modules()):
        if isinstance(a, nn.Conv2d):
            assert torch.equal(a.weight, b.weight)  # type: ignore[attr-defined]
    found = fit_to(other, anonymous(biased))
    assert found.notes == ("bias before a batch norm: taken into its mean (19 times)",)
    found.load(other)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert oracles.difference(other(x), biased(x)) < 1e-5
        assert oracles.difference(one(x), biased(x)) > 1e-2


def test_scales_that_no_layer_has_are_one() -> None:
    one, other = random("resnet20"), find("resnet20").build()
    unscaled_(one)
    found = fit_to(other, anonymous(one))
    assert found.notes == ("batch norms without a scale: 1",)
    found.load(other)
    assert {m.weight.unique().item() for m in other.modules() if isinstance(m, nn.BatchNorm2d)} == {1.0}


def test_epsilons_belong_to_the_weights() -> None:
    net = find("resnet20").build()
    tensors = anonymous(net)
    norms = [name.rpartition(".")[0] for name in tensors if name.endswith("running_mean")]
    fit_to(net, tensors, eps=dict.fromkeys(norms, 1e-3)).load(net)
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("squeezenet1_1", {}, ["squeezenet1_1"]),
        ("resnet20", {"classes": 7, "input": (1, 32, 32)}, ["plain20", "resnet20"]),
        ("resnet34", {"classes": 2}, ["resnet34", "wrn34_1"]),
        ("lenet_caffe", {"classes": 4}, ["lenet_caffe"]),
    ],
)
def test_rows_are_told_by_shape(name: str, options: dict[str, object], rows: list[str]) -> None:
    net = find(name).build(**options)
    found = rows_of(Weights(anonymous(net)), "FILE")
    assert [row.variant.name for row in found] == rows
    assert same_weights(net, found[rows.index(name)].build())


def test_rows_that_shapes_cannot_tell_apart_are_all_given() -> None:
    with_names = {f"theirs.{name}": tensor for name, tensor in find("resnet50").build().state_dict().items()}
    found = rows_of(Weights(with_names), "FILE", ["resnet50", "resnet50_v1_5"])
    assert [row.variant.name for row in found] == ["resnet50", "resnet50_v1_5"]


def test_a_file_of_no_row() -> None:
    with pytest.raises(Misfit, match="FILE fits no network of the atlas"):
        rows_of(Weights({"a.weight": torch.zeros(3, 3, 3, 3)}), "FILE")
