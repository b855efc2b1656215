"""The figures of An Analysis of Deep Neural Network Models for Practical Applications (Canziani et al., 2016),
https://arxiv.org/abs/1605.07678: its 14 networks, with its accuracies and our counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...tables import index
from .frame import Asked, Chart, Panel, Point
from .published import printed

NOTE = (
    "Accuracies of one centre crop on ImageNet's validation images, read off Figure 1 of Canziani et al. (2016) to "
    "within a point"
)
GROUPS = {"GoogLeNet": "Inception"}
ORDER = "AlexNet", "NIN", "ENet", "VGG", "Inception", "ResNet"


@dataclass(frozen=True)
class Network:
    label: str
    top1: float
    ops_g: float  # two for each multiply-add
    params_m: float
    group: str


def networks() -> list[Network]:
    found = []
    for name, (label, top1) in printed()["canziani"]["top1"].items():
        totals = index()[name]["totals"]
        family = label.removeprefix("BN-").partition("-")[0]
        found.append(Network(label, top1, 2 * totals["macs"] / 1e9, totals["params"] / 1e6, GROUPS.get(family, family)))
    return found


def operations(_: Asked) -> Chart:
    """Figure 2: top-1 against operations, with bubbles of size."""
    source = f"top-1: {printed()['canziani']['source']}; operations, parameters: counted"
    points = tuple(Point(n.label, n.ops_g, n.top1, source, n.label, n.group, size=n.params_m) for n in networks())
    panel = Panel("operations (G), two for each multiply-add", "top-1 accuracy (%)", points, size="parameters (M)")
    note = f"{NOTE}; operations and parameters are counted."
    return Chart("canziani", "Top-1 accuracy against operations and size", (panel,), note, groups=ORDER)


def top1(_: Asked) -> Chart:
    """Figure 1: top-1 by network."""
    points = tuple(
        Point(n.label, n.label, n.top1, printed()["canziani"]["source"], f"{n.top1:g}", n.group)
        for n in sorted(networks(), key=lambda n: n.top1, reverse=True)
    )
    panel = Panel("", "top-1 accuracy (%)", points, "bars")
    return Chart("canziani-top1", "Top-1 accuracy of 14 networks", (panel,), f"{NOTE}.", groups=ORDER)


def density(_: Asked) -> Chart:
    """Figure 10: top-1 accuracy per million parameters."""
    source = f"top-1: {printed()['canziani']['source']}; parameters: counted"
    points = tuple(
        Point(n.label, n.label, n.top1 / n.params_m, source, f"{n.top1 / n.params_m:.3g}", n.group)
        for n in sorted(networks(), key=lambda n: n.top1 / n.params_m, reverse=True)
    )
    panel = Panel("", "top-1 accuracy per million parameters (%)", points, "bars")
    note = f"{NOTE}; parameters are counted."
    return Chart("canziani-density", "Accuracy density: how well parameters are used", (panel,), note, groups=ORDER)
