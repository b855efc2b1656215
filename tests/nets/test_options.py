"""Every option of every network's constructor takes effect.

The options are read off the signatures. Another value of each is taken from the catalogue's other rows or made from its
type, or else named in OTHER. An effect is another set of parameters, or other values when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from inspect import signature
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

from convatlas import tables
from convatlas.catalogue import Variant, variants
from convatlas.errors import UserError
from convatlas.layers import ConvNet, Shape, on_meta
from convatlas.nets.chain import Chain
from convatlas.nets.resnet import Bottleneck
from convatlas.nets.squeezenet import fires

OTHER: dict[str, Any] = {  # "Class.option": another value, where neither another row nor the type tells one
    "Chain.widths": (16,),
    "Chain.hidden": (64,),
    "CIFARDenseNet.compression": 0.7,
    "CifarResNet.block": Bottleneck,
    "CifarResNeXt.form": "b",
    "CifarResNeXt.shortcut": "C",
    "PreActResNet.shortcut": "C",
    "ResNeXt.form": "b",
    "ResNeXt.shortcut": "C",
    "SEVGG.config": "A",
    "SqueezeNet.fires": fires(sr=0.5),
    "StochasticDepth.depth": 50,
}


SIDE = 107  # in pixels: every network takes it, and it is odd


def rows(net: type) -> list[Variant]:
    """The variants of a class, the cheapest first."""
    found = [v for v in variants().values() if v.net is net]
    totals = {v.name: tables.index()[v.name]["totals"] for v in found}
    return sorted(found, key=lambda v: totals[v.name]["weights"] + totals[v.name]["macs"])


CLASSES = {v.net.__name__: v.net for v in variants().values()}
OPTIONS = [
    (name, option)
    for name, net in CLASSES.items()
    for option in signature(net.__init__).parameters
    if option not in ("self", "input", "channels", "classes")  # test_networks.py and test_networks_run.py have these
]


def others(variant: Variant, option: str) -> Iterator[Any]:
    """Values that the option of this variant might have instead."""
    now = variant.options[option]
    if (named := f"{variant.net.__name__}.{option}") in OTHER:
        yield OTHER[named]
    hint = get_type_hints(variant.net.__init__)[option]
    if get_origin(hint) is Literal:
        yield from (value for value in get_args(hint) if value != now)
    if isinstance(now, bool):
        yield not now
    elif isinstance(now, int):
        yield from (now // 2, now + 1, now + 2, now + 3, now + 6, now + 9, now + 96)
    elif isinstance(now, float):
        yield (1 + now) / 2 if now < 1 else 2 * now
    elif isinstance(now, tuple) and all(isinstance(n, int | float) for n in now):
        yield tuple((1 + n) / 2 if isinstance(n, float) else 2 * n for n in now)
    yield from (v.options[option] for v in rows(variant.net) if v.options[option] != now)


def started(variant: Variant, option: str, value: Any) -> ConvNet:
    """The network with that value, for small images, without auxiliary classifiers, which refuse them."""
    assert variant.input is not None
    channels, side, _ = variant.input
    options: dict[str, Any] = {"aux": False} if "aux" in variant.options else {}
    if "input" in variant.options and option != "aux":
        options["input"] = (channels, min(side, SIDE), min(side, SIDE))
    torch.manual_seed(0)
    return variant.build(classes=5, **options | {option: value})


def another(variant: Variant, option: str) -> Any:
    """Another value that the network takes, or NotImplemented."""
    for value in others(variant, option):
        try:
            with on_meta():
                started(variant, option, value)
        except (UserError, ValueError):  # this one does not fit the other options
            continue
        return value
    return NotImplemented


def ran(net: ConvNet, seed: int) -> tuple[Tensor, Tensor, int]:
    """What the network gives in evaluation and in training, and how many bytes it keeps for the backward pass."""
    assert net.input is not None
    channels, side, _ = net.input
    x = torch.randn(2, channels, min(side, SIDE), min(side, SIDE), generator=torch.Generator().manual_seed(0))
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.data_ptr()] = t.untyped_storage().nbytes()
        return t.detach()  # an output that its own graph held would never be freed

    with torch.no_grad():
        evaluated = net.eval()(x)
    torch.manual_seed(seed)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        trained = net.train()(x)
    return evaluated, trained.detach(), sum(kept.values())


def same(ours: Iterable[Any], its: Iterable[Any]) -> bool:
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(ours, its, strict=True))


def shapes(net: ConvNet) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in net.state_dict().items()]


def trained(net: ConvNet) -> list[str]:
    """The parameters that are trained half-way."""
    net.set_progress(0.5)
    return [name for name, parameter in net.named_parameters() if parameter.requires_grad]


def has_effect(variant: Variant, option: str) -> bool:
    """Whether another value makes other parameters, or computes, keeps or starts from something else."""
    now, value = variant.options[option], another(variant, option)
    if value is NotImplemented:
        return False
    with on_meta():
        nets = [started(variant, option, of) for of in (now, value)]
        if any(of(nets[0]) != of(nets[1]) for of in (shapes, trained)):
            return True
    ours = started(variant, option, now)
    with on_meta():
        its = started(variant, option, value)
    its.load_state_dict(deepcopy(ours.state_dict()), assign=True)
    weights = deepcopy(ours.state_dict())
    if any(not same(ran(ours, seed), ran(its, seed)) for seed in range(3)):
        return True
    return not same(weights.values(), started(variant, option, value).state_dict().values())


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda x: x)
def test_an_option_takes_effect(name: str, option: str) -> None:
    assert any(has_effect(variant, option) for variant in rows(CLASSES[name])), (
        "in no row: is another value of it known, or to be named in OTHER?"
    )


class Deaf(Chain):
    """A network with an option that it does not heed."""

    def __init__(self, *, width: int = 8, ignored: int = 1, classes: int = 10, input: Shape = (3, 32, 32)):
        super().__init__(widths=(width,), classes=classes, input=input)


def test_an_option_without_effect_is_noticed() -> None:
    variant = Variant("deaf", net=Deaf, input=(3, 32, 32))
    assert has_effect(variant, "width")
    assert not has_effect(variant, "ignored")


def test_no_other_value_is_left_over() -> None:
    assert set(OTHER) <= {f"{name}.{option}" for name, option in OPTIONS}
