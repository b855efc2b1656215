"""Accuracy against what networks cost, for the whole catalogue: the indices of Benchmark Analysis of Representative
Deep Neural Network Architectures (Bianco et al., 2018), https://arxiv.org/abs/1810.00736, as far as they are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...choice import costs
from ...choice.facts import Fact, entering, facts
from ...errors import UserError, unknown
from ...tables import index
from ...tables.search import FLOAT32, names
from .frame import Asked, Chart, Panel, Point
from .published import printed

LINEAGES = {  # by family
    "vgg": "VGG",
    **dict.fromkeys(("googlenet", "googlenet_bn_3x3", "bn_inception", "inception_v2", "inception_v3"), "Inception"),
    **dict.fromkeys(("inception_v4", "inception_resnet"), "Inception"),
    **dict.fromkeys(("resnet", "resnet_cifar", "preact_resnet", "preact_resnet_cifar", "wide_resnet"), "ResNet"),
    **dict.fromkeys(("resnext", "stochastic_depth"), "ResNet"),
    **dict.fromkeys(("senet", "senet_cifar", "senet_others"), "SENet"),
    **dict.fromkeys(("densenet", "densenet_cifar"), "DenseNet"),
    **dict.fromkeys(("mobilenet_v1", "mobilenet_v2"), "MobileNet"),
    **dict.fromkeys(("nas_cifar", "nasnet", "efficientnet", "efficientnet_lite"), "NASNet, EfficientNet"),
}
OTHERS = "AlexNet and others"
ORDER = OTHERS, "VGG", "Inception", "ResNet", "SENet", "DenseNet", "MobileNet", "NASNet, EfficientNet"
LANDMARKS = (  # named in crowds
    *("alexnet_caffe", "vgg16", "googlenet", "inception_v3", "inception_v4", "resnet18", "resnet50", "resnet152"),
    *(
        "senet154",
        "densenet121",
        "squeezenet1_0",
        "enet_encoder",
        "mobilenet_v1_slim",
        "mobilenet_v2",
    ),
    *("nasnet_a_mobile", "nasnet_a_large", "efficientnet_b0_symmetric", "efficientnet_b4_symmetric"),
    "efficientnet_b7_symmetric",
)
CROWD = 24  # points, of which not all are named
SHOWN = 20  # bars for which there is room
PHOTOS = "one centre crop at the network's own input size"
SMALL = "the whole image, one network"


@dataclass(frozen=True)
class Known:
    """A network with its accuracy in percent and what it costs."""

    network: str
    fact: Fact
    top1: float
    macs_g: float
    params_m: float
    size_mb: float

    @property
    def lineage(self) -> str:
        return LINEAGES.get(index()[self.network]["family"], OTHERS)

    def point(self, x: float, y: float, what: str) -> Point:
        source = f"top-1: {self.fact.source}, {self.fact.where}; {what}: counted"
        return Point(self.network, x, y, source, group=self.lineage)


def known(asked: Asked) -> list[Known]:
    """The networks of which an accuracy is published, each with one: its paper's, else that of the first weights.

    Raises UserError for an unknown data set, a pattern that no network matches, and where no accuracy is known.
    """
    every = [fact for fact in facts() if fact.top1 is not None]
    dataset = asked.dataset or "imagenet"
    if dataset not in (sets := {fact.dataset for fact in every}):
        raise unknown("data set", dataset, sorted(sets))
    wanted = set(names(asked.networks))
    found: dict[str, Known] = {}
    for fact in entering(every, dataset):
        if fact.network in wanted and fact.top1 is not None:
            entry = index()[fact.network]
            macs, params = entry["totals"]["macs"], entry["totals"]["params"]
            size = FLOAT32 * (params + entry["statistics"])
            of = Known(fact.network, fact, fact.top1, macs / 1e9, params / 1e6, size / 1e6)
            found.setdefault(fact.network, of)
    if not found:
        raise UserError(
            f"no network like {asked.networks!r} has a figure on {dataset}", "`convatlas choose --facts` has all"
        )
    return list(found.values())


def note(asked: Asked, what: str) -> str:
    photos = asked.dataset in (None, "imagenet")
    data = "ImageNet's validation images" if photos else asked.dataset
    return (
        f"{data}, {PHOTOS if photos else SMALL}; one figure a network: its paper's, else that of the first "
        f"weights published. "
        f"{what}"
    )


def labelled(points: Sequence[Point]) -> tuple[Point, ...]:
    """All named, or in a crowd the landmarks; where none of these is, the most accurate of each family."""
    chosen = {point.name for point in points if len(points) <= CROWD or point.name in LANDMARKS}
    if not chosen:
        best: dict[str, Point] = {}
        for point in sorted(points, key=lambda p: p.y):
            best[index()[point.name]["family"]] = point
        chosen = {point.name for point in best.values()}
    return tuple(replace(point, label=point.name if point.name in chosen else "") for point in points)


def against(
    name: str, title: str, x: str, what: str, cost: Callable[[Known], float], asked: Asked, *, bubbles: bool = False
) -> Chart:
    of = known(asked)
    points = [it.point(cost(it), it.top1, what) for it in of]
    if bubbles:
        points = [replace(point, size=it.params_m) for point, it in zip(points, of, strict=True)]
    panel = Panel(x, "top-1 accuracy (%)", labelled(points), size="parameters (M)" if bubbles else "", log_x=True)
    told = note(asked, f"{what[0].upper()}{what[1:]} are counted.")
    return Chart(name, f"{title}: {len(of)} networks", (panel,), told, groups=ORDER)


def operations(asked: Asked) -> Chart:
    return against(
        "top1-operations",
        "Top-1 accuracy against operations",
        "multiply-adds of an image (G)",
        "multiply-adds and parameters",
        lambda it: it.macs_g,
        asked,
        bubbles=True,
    )


def parameters(asked: Asked) -> Chart:
    return against(
        "top1-parameters",
        "Top-1 accuracy against parameters",
        "parameters (M)",
        "parameters",
        lambda it: it.params_m,
        asked,
    )


def memory(asked: Asked) -> Chart:
    """The peak of inference on one image in float32, as accounting predicts it."""
    peaks = costs.memories([it.network for it in known(asked)], 1, asked.tell)
    return against(
        "top1-memory",
        "Top-1 accuracy against memory",
        "memory of inference on one image (MB)",
        "the bytes of its tensors in float32, weights included,",
        lambda it: peaks[it.network].value / 1e6,
        asked,
    )


def against_density(asked: Asked) -> Chart:
    return against(
        "top1-density",
        "Top-1 accuracy against accuracy density",
        "top-1 accuracy per million parameters (%)",
        "parameters",
        lambda it: it.top1 / it.params_m,
        asked,
    )


def density(asked: Asked) -> Chart:
    """Top-1 accuracy per million parameters: the densest network of each family."""
    best: dict[str, tuple[float, Known]] = {}
    for it in known(asked):
        family = index()[it.network]["family"]
        best[family] = max(best.get(family, (0.0, it)), (it.top1 / it.params_m, it), key=lambda pair: pair[0])
    first = sorted(best.values(), key=lambda pair: -pair[0])[:SHOWN]
    points = tuple(
        replace(it.point(0.0, value, "parameters"), x=it.network, label=f"{value:.3g}") for value, it in first
    )
    panel = Panel("", "top-1 accuracy per million parameters (%)", points, "bars")
    title = "Accuracy density: the densest network of each family"
    return Chart("density", title, (panel,), note(asked, "Parameters are counted."), groups=ORDER)


def size(asked: Asked) -> Chart:
    """Bytes of the weights against top-1, with what compression makes of them."""
    plain = [
        replace(it.point(it.size_mb, it.top1, "float32 weights"), label=it.network, group="in float32, counted")
        for it in known(asked)
        if asked.networks or it.network in LANDMARKS
    ]
    packed = [
        Point(name, row["mb"], row["top1"], row["source"], label=short, group="compressed, as published")
        for row in printed()["compressed"]
        for name, short in [(f"{row['network']}, {row['how']}", f"{row['network']}, {row['how'].split(', ')[-1]}")]
    ]
    panel = Panel("size of the weights (MB)", "top-1 accuracy (%)", (*plain, *packed), log_x=True)
    return Chart(
        "top1-size",
        "Accuracy against size, with compressed networks",
        (panel,),
        note(asked, "Iandola et al. (2016); Han et al. (2015)."),
    )
