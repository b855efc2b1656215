"""Keras' NASNet, written down from its source with torch's operators, and ours with the same weights: equal logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.layers import on_meta
from convatlas.nets._nasnet_cells import Pool, PoolKeras
from convatlas.weights.match import fit
from convatlas.weights.names import TABLES
from convatlas.weights.types import Weights

EPS = 1e-3


def correct_pad(x: Tensor, kernel: int) -> Tensor:
    half = kernel // 2
    even = [1 - n % 2 for n in x.shape[2:]]
    return F.pad(x, (half - even[1], half, half - even[0], half))


class Keras:
    """Of tensors by layer and role, as torch lays them out."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = tensors

    def norm(self, x: Tensor, name: str) -> Tensor:
        t = [self.tensors[f"{name}.{role}"] for role in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *t, eps=EPS)

    def conv(self, x: Tensor, name: str, **how: int) -> Tensor:
        return F.conv2d(x, self.tensors[f"{name}.weight"], **how)

    def separable(self, x: Tensor, kernel: int, name: str, stride: int = 1) -> Tensor:
        for n in (1, 2):
            x = x.relu()
            halving = stride == 2 and n == 1
            x = correct_pad(x, kernel) if halving else F.pad(x, [kernel // 2] * 4)
            depthwise = f"separable_conv_{n}_{name}.depthwise"
            x = self.conv(x, depthwise, stride=2 if halving else 1, groups=x.shape[1])
            x = self.norm(self.conv(x, f"separable_conv_{n}_{name}.pointwise"), f"separable_conv_{n}_bn_{name}")
        return x

    def adjust(self, p: Tensor | None, ip: Tensor, filters: int, block: str) -> Tensor:
        if p is None:
            return ip
        if p.shape[3] != ip.shape[3]:
            p = p.relu()
            shifted = F.pad(p, (0, 1, 0, 1))[:, :, 1:, 1:]
            halves = [self.conv(x[:, :, ::2, ::2], f"adjust_conv_{n}_{block}") for n, x in ((1, p), (2, shifted))]
            return self.norm(torch.cat(halves, 1), f"adjust_bn_{block}")
        if p.shape[1] != filters:
            return self.norm(self.conv(p.relu(), f"adjust_conv_projection_{block}"), f"adjust_bn_{block}")
        return p

    def mean3(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def normal(self, ip: Tensor, p: Tensor | None, filters: int, block: str) -> tuple[Tensor, Tensor]:
        p = self.adjust(p, ip, filters, block)
        h = self.norm(self.conv(ip.relu(), f"normal_conv_1_{block}"), f"normal_bn_1_{block}")
        x1 = self.separable(h, 5, f"normal_left1_{block}") + self.separable(p, 3, f"normal_right1_{block}")
        x2 = self.separable(p, 5, f"normal_left2_{block}") + self.separable(p, 3, f"normal_right2_{block}")
        x5 = self.separable(h, 3, f"normal_left5_{block}") + h
        return torch.cat([p, x1, x2, self.mean3(h) + p, self.mean3(p) * 2, x5], 1), ip

    def reduction(self, ip: Tensor, p: Tensor | None, filters: int, block: str) -> tuple[Tensor, Tensor]:
        p = self.adjust(p, ip, filters, block)
        h = self.norm(self.conv(ip.relu(), f"reduction_conv_1_{block}"), f"reduction_bn_1_{block}")
        h3 = correct_pad(h, 3)
        x1 = self.separable(h, 5, f"reduction_left1_{block}", 2) + self.separable(p, 7, f"reduction_right1_{block}", 2)
        x2 = F.max_pool2d(h3, 3, 2) + self.separable(p, 7, f"reduction_right2_{block}", 2)
        x3 = F.avg_pool2d(h3, 3, 2) + self.separable(p, 5, f"reduction_right3_{block}", 2)
        x5 = self.separable(x1, 3, f"reduction_left4_{block}") + F.max_pool2d(h3, 3, 2)
        return torch.cat([x2, x3, x2 + self.mean3(x1), x5], 1), ip

    def logits(self, x: Tensor, penultimate: int, cells: int, skip_reduction: bool) -> Tensor:
        filters, p = penultimate // 24, None
        x = self.norm(self.conv(x, "stem_conv1", stride=2), "stem_bn1")
        for n in (1, 2):
            x, p = self.reduction(x, p, filters * n // 4, f"stem_{n}")
        for stage in range(3):
            if stage:
                x, p0 = self.reduction(x, p, filters << stage, f"reduce_{stage * cells}")
                p = p if skip_reduction else p0
            for i in range(cells):
                x, p = self.normal(x, p, filters << stage, f"{stage * cells + i + (stage > 0)}")
        x = x.relu().mean((2, 3))
        return F.linear(x, self.tensors["predictions.weight"], self.tensors["predictions.bias"])


@pytest.mark.parametrize(
    ("name", "settings", "size"),
    [
        ("mobile", (1056, 4, False), (43, 54)),
        pytest.param("large", (4032, 6, True), (43, 54), marks=pytest.mark.slow),
    ],
)
def test_keras_nasnet(name: str, settings: tuple[int, int, bool], size: tuple[int, int]) -> None:
    """And the paper's pools, which ignore what is beyond the map, make other logits of them."""
    torch.manual_seed(0)
    with on_meta():
        ours = find(f"nasnet_a_{name}_keras").build(aux=False).double().eval()
    ours.to_empty(device="cpu")
    theirs = {our: their for their, our in TABLES[f"Keras NASNet-A {name}"]}
    tensors = {}
    for key, tensor in ours.state_dict().items():
        layer, _, role = key.rpartition(".")
        if role != "num_batches_tracked":
            drawn = torch.randn(tensor.shape, dtype=torch.float64)
            spread = max(1, tensor[0].numel()) ** -0.5 if tensor.dim() > 1 else 0.3
            about = 1 if role == "running_var" or (tensor.dim() == 1 and role == "weight") else 0
            tensors[f"{theirs[layer]}.{role}"] = (about + spread * drawn).abs() if about else spread * drawn
    fit(Weights(tensors, format="keras"), ours, "w.h5").load(ours)
    x = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        expected = Keras(tensors).logits(x, *settings)
        scale = expected.abs().max()
        assert (ours(x) - expected).abs().max() < 1e-9 * scale
        for module in ours.modules():
            if isinstance(module, PoolKeras):
                module.__class__ = Pool
        assert (ours(x) - expected).abs().max() > 1e-4 * scale
