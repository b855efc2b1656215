"""What one may do with any network of the atlas: copy it, pickle it, give it images that are not square, run it in
bfloat16 or channels last, take its features, and have torch trace, export or compile it.

Tried on one network of each distinct structure, at a small size. What training would draw at random is off.
"""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from convatlas import tables
from convatlas.catalogue import Variant, find
from convatlas.layers import ConvNet
from tests.nets.structures import structures

HEAVY, SLOW = 20e6, 4e9  # parameters and multiply-adds above which a network belongs to the slow group
LONG, LONG_GRAPH = 300, 60  # rows above which it does, and above which its graphs do
SIDE = 107  # in pixels: every network takes it, and it is odd
CLASSES = 5


def sized(longest: int) -> list[object]:
    return [pytest.param(v.name, marks=pytest.mark.slow) if large(v, longest) else v.name for v in structures()]


def large(variant: Variant, longest: int) -> bool:
    counted = tables.load(variant.name)
    return counted.totals.params > HEAVY or counted.totals.macs > SLOW or len(counted.rows) > longest


def started(name: str) -> tuple[ConvNet, Tensor]:
    """The network for small images that are not square, and two of them."""
    variant = find(name)
    assert variant.input is not None
    channels, side, _ = variant.input
    shape = (channels, min(side, SIDE), min(side, SIDE) + 6)
    torch.manual_seed(0)
    without_aux = {"aux": False} if "aux" in variant.options else {}  # its pools do not fit into small maps
    return variant.build(input=shape, classes=CLASSES, **without_aux).eval(), torch.randn(2, *shape)


@pytest.mark.parametrize("name", sized(LONG))
def test_a_network_of_each_structure(name: str) -> None:
    net, x = started(name)
    with torch.no_grad():
        logits = net(x)
        assert logits.shape == (2, CLASSES)
        assert torch.equal(deepcopy(net)(x), logits)
        assert torch.equal(pickle.loads(pickle.dumps(net))(x), logits)
        double = deepcopy(net).double()
        exact = double(x.double())
        last = double.to(memory_format=torch.channels_last)
        assert distance(last(x.double().to(memory_format=torch.channels_last)), exact) <= 1e-4
    symbols_are_those_of(net, x, logits)
    bfloat16_comes_near(net, x, exact)
    features_are_what_the_classifier_reads(net, x)


def distance(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


def symbols_are_those_of(net: ConvNet, x: Tensor, logits: Tensor) -> None:
    """torch.fx follows the network without values, so that its graph takes other sizes where the network does."""
    graph = torch.fx.symbolic_trace(net)
    with torch.no_grad():
        assert torch.equal(graph(x), logits)
        if "input" not in find(net.variant).options:
            assert torch.equal(graph(x[..., 1:]), net(x[..., 1:]))
    torch.fx.symbolic_trace(net.train())
    net.eval()


def bfloat16_comes_near(net: ConvNet, x: Tensor, exact: Tensor) -> None:
    """At most twice as far off as in float32 with weights and the results of every layer rounded to bfloat16."""
    half, rounded, x = deepcopy(net).bfloat16(), deepcopy(net).bfloat16().float(), x.bfloat16()
    for module in rounded.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, args, y: y.bfloat16().float() if isinstance(y, Tensor) else None)
    with torch.no_grad():
        out, expected = half(x), rounded(x.float())
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()
    assert distance(out, exact) <= 2 * distance(expected, exact)
    half.train()(x).float().square().sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.bfloat16 for p in half.parameters())


def features_are_what_the_classifier_reads(net: ConvNet, x: Tensor) -> None:
    """Features (N, F) in place of logits, of as many numbers as the classifier reads; and a classifier again."""
    seen: list[Tensor] = []
    [path] = net.logits_layers
    net.get_submodule(path).register_forward_hook(lambda _, args, y: seen.append(args[0]))
    with torch.no_grad():
        net(x)
        net.reset_head(0)
        features = net(x)
        torch.testing.assert_close(features, seen[0] if seen[0].dim() == 2 else seen[0].mean((2, 3)))
        assert torch.equal(pickle.loads(pickle.dumps(net))(x), features)
        net.reset_head(CLASSES + 1)
        assert net(x).shape == (2, CLASSES + 1)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("name", sized(LONG_GRAPH))
def test_a_graph_of_each_structure(name: str) -> None:
    net, x = started(name)
    torch._dynamo.reset()  # forgets the graphs of the networks before
    exported = torch.export.export(net, (x,), strict=False).module()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    traced = torch.jit.trace(net, x, check_trace=False)
    with torch.no_grad():
        logits = net(x)
        for graph in (traced, exported, compiled):
            assert torch.equal(graph(x), logits)
