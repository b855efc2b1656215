"""Random chains of the blocks that the networks of the atlas are made of, as ONNX graphs that engines can time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .graph import Graph

MOST_MACS = (5e8, 1e9)  # of a chain, for one image: one of these
MOST_WEIGHTS = 2e7
LARGE = 64  # a side

# Where chains begin: a side, and the channels that networks have there, 3 for an image. Every chain takes an image, and
# a convolution comes first, as in networks: it makes the layout that engines keep from there on.
PLACES = [
    (224, [3]),
    (227, [3]),
    (299, [3]),
    (32, [3]),
    (224, [64]),
    (112, [16, 24, 32, 64, 128]),
    (111, [32]),
    (28, [44, 88]),
    (56, [16, 24, 32, 48, 64, 96, 128, 144, 256]),
    (55, [64, 96]),
    (35, [192, 256, 288, 384]),
    (32, [16, 32, 64, 96, 160]),
    (28, [24, 32, 40, 64, 96, 128, 192, 240, 256, 512]),
    (17, [512, 768, 1024]),
    (16, [32, 64, 128, 320]),
    (14, [40, 64, 80, 96, 112, 160, 256, 384, 480, 512, 768, 1024]),
    (13, [192, 256, 384]),
    (8, [64, 128, 256, 640, 1280]),
    (7, [96, 160, 192, 320, 512, 832, 1024, 2048]),
]


def chain(rng: np.random.Generator, int8: str = "") -> Graph:
    """Three to eight random blocks and a classifier, the same for the same state of `rng`; `int8`: see Graph.

    Large sides have the blocks that networks have there, and are pooled before the classifier.
    """
    side, widths = PLACES[rng.integers(len(PLACES))]
    width = int(rng.choice(widths))
    g = Graph(3, side, rng, int8)
    budget = Budget(rng.choice(MOST_MACS))
    if width == 3:
        stem(g, rng)
    else:
        g.conv(width)
        g.relu()
    for _ in range(int(rng.integers(3, 9))):
        blocks = BLOCKS if g.side <= LARGE else AT_LARGE_SIDES
        blocks[rng.integers(len(blocks))](g, rng, budget)
    while g.side > 16:
        g.pool()
    classifier(g, rng)
    return g


def reference(int8: str = "") -> Graph:
    """One that takes a few milliseconds, always the same."""
    g = Graph(128, 28, np.random.default_rng(0), int8)
    g.conv(128, 3)
    g.relu()
    classifier(g, np.random.default_rng(0))
    return g


class Budget:
    """Keeps chains small: what is left of the multiply-adds and weights."""

    def __init__(self, macs: float) -> None:
        self.macs, self.weights = macs, MOST_WEIGHTS

    def affords(self, weights: float, positions: float) -> bool:
        """Whether so many weights, each used at so many positions, are within the budget; they are taken from it."""
        if weights > self.weights or weights * positions > self.macs:
            return False
        self.weights -= weights
        self.macs -= weights * positions
        return True


def stem(g: Graph, rng: np.random.Generator) -> None:
    """The first layer of AlexNet, ResNet, Inception, MobileNet, VGG, or of a network for 32 x 32 pixels."""
    if g.side < 64:
        g.conv(int(rng.choice([16, 32, 64])), int(rng.choice([3, 5])))
    else:
        kernel, stride, widths = [(11, 4, [64, 96]), (7, 2, [64, 96]), (3, 2, [16, 24, 32, 64]), (3, 1, [32, 64])][
            rng.integers(4)
        ]
        g.conv(int(rng.choice(widths)), kernel, stride)
    g.relu()
    if g.side > 64 and rng.random() < 0.6:
        g.pool(kernel=3, stride=2)


def wider(g: Graph, rng: np.random.Generator, factors: tuple[float, ...] = (0.5, 1, 1, 2)) -> int:
    """A number of channels not far from the present one."""
    return int(min(2048, max(8, 8 * round(g.channels * rng.choice(factors) / 8))))


def stride_of(g: Graph, rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2] if g.side > LARGE else [1, 1, 2])) if g.side > 7 else 1


def plain(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """Convolutions with their ReLU, of 1x1 to 5x5 (VGG, AlexNet, NIN)."""
    for _ in range(int(rng.integers(1, 3))):
        kernel, cout = int(rng.choice([1, 3, 3, 5])), wider(g, rng)
        stride = stride_of(g, rng) if kernel > 1 else 1
        if not budget.affords(cout * g.channels * kernel**2, g.side**2 / stride**2):
            kernel, stride = 1, 1
            if not budget.affords(cout * g.channels, g.side**2):
                return
        groups = 2 if kernel == 5 and g.channels % 2 == 0 and rng.random() < 0.3 else 1
        g.conv(cout, kernel, stride, groups)
        g.relu()


def basic(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """Two 3x3 convolutions beside an identity, with the norm after or before them (ResNet, pre-activation, WRN)."""
    if not budget.affords(2 * 9 * g.channels**2, g.side**2):
        return
    skip, before = g.at, rng.random() < 0.3
    if before:
        g.batch_norm()
        g.relu()
    g.conv(g.channels, 3)
    g.relu()
    g.conv(g.channels, 3)
    g.add(skip)
    if not before:
        g.relu()


def bottleneck(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """1x1, 3x3 (grouped in ResNeXt), 1x1 beside an identity or a projection (ResNet-50), with a gate in SENet."""
    cout = wider(g, rng, (1, 1, 2)) if rng.random() < 0.5 else g.channels
    mid, stride = max(16, cout // 4), stride_of(g, rng) if cout != g.channels else 1
    groups = 1
    if rng.random() < 0.3 and cout % 64 == 0:
        mid, groups = cout // 2, 32
    weights = mid * (g.channels + 9 * mid / groups + cout / stride**2) + (cout != g.channels) * cout * g.channels
    if not budget.affords(weights, g.side**2):
        return
    begin, cin, side = g.at, g.channels, g.side
    g.conv(mid)
    g.relu()
    g.conv(mid, 3, stride, groups)
    g.relu()
    g.conv(cout)
    if rng.random() < 0.25:
        gate(g, 16)
    branch, skip = g.at, begin
    if cout != cin or stride != 1:
        g.at, g.channels, g.side = begin, cin, side
        g.conv(cout, 1, stride)
        skip = g.at
    g.at = branch
    g.add(skip)
    g.relu()


def gate(g: Graph, reduction: int) -> None:
    """Squeeze and excitation."""
    x, channels, side = g.at, g.channels, g.side
    g.mean()
    g.conv(max(4, channels // reduction))
    g.relu()
    g.conv(channels)
    g.sigmoid()
    g.multiply(x)
    g.channels, g.side = channels, side


def inverted(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """Wide depthwise middle, narrow linear ends (MobileNetV2, EfficientNet)."""
    if g.channels > 400:
        return
    expand, kernel, stride = int(rng.choice([1, 3, 6, 6])), int(rng.choice([3, 3, 5])), stride_of(g, rng)
    mid, cout, smooth = g.channels * expand, wider(g, rng, (1, 1, 1.5)), rng.random() < 0.4
    if not budget.affords(mid * (g.channels + kernel**2 / stride**2 + cout / stride**2), g.side**2):
        return
    act, skip, cin = (g.silu if smooth else g.relu6), g.at, g.channels
    if expand > 1:
        g.conv(mid)
        act()
    g.conv(mid, kernel, stride, mid)
    act()
    if smooth:
        gate(g, 4 * expand)
    g.conv(cout)
    if stride == 1 and cout == cin:
        g.add(skip)


def separable(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """Depthwise and pointwise (MobileNet), in NASNet twice, with the ReLU first and kernels up to 7x7."""
    nasnet = rng.random() < 0.5
    for _ in range(2 if nasnet else 1):
        kernel, cout, stride = int(rng.choice([3, 5, 7])) if nasnet else 3, wider(g, rng, (1, 1, 2)), 1
        if nasnet:
            cout = g.channels
            g.relu()
        else:
            stride = stride_of(g, rng)
        if not budget.affords(g.channels * (cout + kernel**2) / stride**2, g.side**2):
            return
        g.conv(g.channels, kernel, stride, g.channels)
        if not nasnet:
            g.relu()
        g.conv(cout)
        if not nasnet:
            g.relu()


def fire(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """A 1x1 squeeze, then 1x1 and 3x3 side by side (SqueezeNet)."""
    squeeze, half = max(8, g.channels // 8), max(8, g.channels // 2)
    if not budget.affords(squeeze * (g.channels + 10 * half), g.side**2):
        return
    g.conv(squeeze)
    g.relu()
    begin = g.at
    g.conv(half)
    g.relu()
    one, g.at, g.channels = g.at, begin, squeeze
    g.conv(half, 3)
    g.relu()
    g.concatenate([one, g.at], 2 * half)


def dense(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """Layers that each read all before them, concatenated, norm and ReLU first, mostly with a bottleneck (DenseNet)."""
    growth, parts, squeezed = int(rng.choice([12, 24, 32, 32, 48])), [g.at], rng.random() < 0.7
    for _ in range(int(rng.choice([1, 2, 4, 8, 12]))):
        squeeze, channels = 4 * growth, g.channels
        weights = squeeze * (channels + 9 * growth) if squeezed else 9 * channels * growth
        if not budget.affords(weights, g.side**2):
            return
        g.batch_norm()
        g.relu()
        if squeezed:
            g.conv(squeeze)
            g.relu()
        g.conv(growth, 3)
        parts.append(g.at)
        g.concatenate(parts, channels + growth)


def inception(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """Three or four branches of all kernels, concatenated (GoogLeNet, Inception)."""
    quarter, channels, begin = 16 * max(1, g.channels // 64), g.channels, g.at
    if not budget.affords(quarter * (3 * channels + (9 + 25) * quarter / 2), g.side**2):
        return
    wide = int(rng.choice([3, 5, 7]))
    parts, total = [], 0
    for kernels in ((1,), (1, 3), (1, wide), (0, 1)):
        g.at, g.channels = begin, channels
        for i, kernel in enumerate(kernels):
            if kernel == 0:
                g.pool(str(rng.choice(["MaxPool", "AveragePool"])), 3, 1)
                continue
            g.conv(quarter // 2 if i == 0 and len(kernels) > 1 and 0 not in kernels else quarter, kernel)
            g.relu()
        parts.append(g.at)
        total += g.channels
    g.concatenate(parts, total)


def fractal(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """The mean of a short and a long path (FractalNet)."""
    if not budget.affords(3 * 9 * g.channels**2, g.side**2):
        return
    begin = g.at
    g.conv(g.channels, 3)
    g.relu()
    short, g.at = g.at, begin
    for _ in range(2):
        g.conv(g.channels, 3)
        g.relu()
    g.add(short)
    g.halve()


def pooled(g: Graph, rng: np.random.Generator, budget: Budget) -> None:
    """A pooling layer, and in the older networks a local response normalisation."""
    if rng.random() < 0.3 and g.side <= 56:
        g.lrn()
    if g.side > 6:
        g.pool(str(rng.choice(["MaxPool", "AveragePool"])), int(rng.choice([2, 3])), 2, 0)


def classifier(g: Graph, rng: np.random.Generator) -> None:
    """The mean of each channel and one linear layer, or two or three wide ones as in AlexNet and VGG."""
    classes = int(rng.choice([10, 100, 1000, 1000]))
    if g.side <= 8 and g.channels * g.side**2 <= 10_000 and rng.random() < 0.25:
        g.flatten()
        for _ in range(int(rng.integers(1, 3))):
            g.linear(int(rng.choice([256, 1024, 4096])))
            g.relu()
    else:
        g.mean()
        g.flatten()
    g.linear(classes)


Block = Callable[[Graph, np.random.Generator, Budget], None]
BLOCKS: list[Block] = [
    *(plain, plain, basic, bottleneck, bottleneck, inverted, inverted, separable, fire, dense, inception, fractal),
    pooled,
]
AT_LARGE_SIDES: list[Block] = [plain, plain, inverted, separable, pooled]
