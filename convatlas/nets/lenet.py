"""LeNet-5: Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998),
https://doi.org/10.1109/5.726791

Read beside Figure 2, Table I (what each map of C3 sees) and Figure 3 (the output codes). 60,000 trainable parameters.
Departures from the paper: the logits are the negated penalties of the output units, so that the largest wins; biases
start at zero, which the paper leaves open; images larger than 32 x 32 enlarge C5's maps, and with them F6's inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvNet, Shape, shape_after, stack

PAPER = Paper(
    "Gradient-Based Learning Applied to Document Recognition", "LeCun et al.", 1998, "https://doi.org/10.1109/5.726791"
)
CAFFE = Paper("Caffe: the LeNet example", "Jia et al.", 2014, "https://arxiv.org/abs/1408.5093")

TABLE_I = [  # the maps of S2 that each of the 16 maps of C3 sees
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
]

# The digits of Figure 3, 7 x 12 pixels each, as transcribed by public re-implementations and checked against the
# figure: strokes and overlines agree; the print leaves single pixels at the corners of strokes uncertain.
FIGURE_3 = """
.#####.  ...##..  .#####.  #######  .#####.  .#####.  ..####.  #######  .#####.  .#####.
.......  ..###..  .......  .....##  .......  .......  .##....  .....##  ##...##  ##..###
..###..  .####..  .#####.  ....##.  .......  #######  ##.....  .....##  ##...##  ##...##
.##.##.  ...##..  ##...##  ...##..  .##..##  ##.....  ##.....  ....##.  ##...##  ##...##
##...##  ...##..  #....##  ..####.  .##..##  ##.....  ######.  ...##..  .#####.  ##..###
##...##  ...##..  ....##.  .....##  ###..##  .####..  ###..##  ...##..  ##...##  .######
##...##  ...##..  ..###..  .....##  ##...##  ..####.  ##...##  ..##...  ##...##  .....##
##...##  ...##..  .##....  .....##  ##...##  .....##  ##...##  ..##...  ##...##  .....##
.##.##.  ...##..  ##.....  ##...##  ##..###  ##...##  ###..##  ..##...  ##...##  ....##.
..###..  .######  #######  .#####.  .######  .#####.  .#####.  ..##...  .#####.  .####..
.......  .......  .......  .......  .....##  .......  .......  .......  .......  .......
.......  .......  .......  .......  .....##  .......  .......  .......  .......  .......
"""
UNITS = 84  # of F6, and pixels of a code


def codes(classes: int) -> Tensor:
    """The output units' codes of -1 and +1, (classes, 84): for ten classes the digits of Figure 3.

    The paper has no codes for other numbers of classes. Those get the rows of Paley's Hadamard matrix of order 84, then
    their complements: any two differ in at least 42 bits, the most possible for 168 words of 84 bits (Plotkin's bound).
    """
    if classes == 10:
        rows = [line.split() for line in FIGURE_3.split("\n") if line]
        pixels = [[pixel == "#" for row in rows for pixel in row[digit]] for digit in range(10)]
        return torch.tensor(pixels, dtype=torch.float32) * 2 - 1
    if classes > 2 * UNITS:
        raise UserError(f"lenet5 has codes for at most {2 * UNITS} classes, not {classes}", "use lenet5_tanh")
    q = UNITS - 1  # 83, a prime of the form 4n + 3
    squares = {i * i % q for i in range(1, q)}
    residue = torch.tensor([[0 if i == j else 1 if (i - j) % q in squares else -1 for j in range(q)] for i in range(q)])
    skew = F.pad(residue, (1, 0, 1, 0))
    skew[0, 1:], skew[1:, 0] = 1, -1
    hadamard = (skew + torch.eye(UNITS, dtype=skew.dtype)).float()
    return torch.cat([hadamard, -hadamard])[:classes]


class Squash(nn.Module):
    """The scaled hyperbolic tangent of Appendix A: 1.7159 tanh(2x / 3)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsample(nn.Module):
    """The sum of each 2 x 2 pixels, times a trainable coefficient per map, plus a bias: (N, C, H, W) -> half."""

    def __init__(self, maps: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(maps, 1, 1))
        self.bias = nn.Parameter(torch.empty(maps, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return 4 * F.avg_pool2d(x, 2) * self.weight + self.bias


class PartialConv(nn.Module):
    """C3: 5 x 5 kernels on only the maps of Table I. Maps that see equally many are one grouped convolution.

    In training all are one convolution, with zeros for the connections not in Table I, which is six times as fast.
    """

    def __init__(self) -> None:
        super().__init__()
        for seen, name in ((3, "three"), (4, "four"), (6, "six")):
            links = [row for row in TABLE_I if len(row) == seen]
            self.add_module(name, nn.Conv2d(seen * len(links), len(links), 5, groups=len(links)))
            self.register_buffer(f"{name}_sees", torch.tensor(links).flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.conv2d(x, *self.dense())
        parts = [getattr(self, name)(x[:, getattr(self, f"{name}_sees")]) for name in ("three", "four", "six")]
        return torch.cat(parts, 1)

    def dense(self) -> tuple[Tensor, Tensor]:
        """The weight (16, 6, 5, 5) and the bias (16,) of all of them as one convolution."""
        weights, biases = [], []
        for name in ("three", "four", "six"):
            conv, sees = getattr(self, name), getattr(self, f"{name}_sees")
            maps = conv.out_channels
            at = sees.view(maps, -1, 1, 1).expand_as(conv.weight)
            weights.append(conv.weight.new_zeros(maps, 6, 5, 5).scatter(1, at, conv.weight))
            biases.append(conv.bias)
        return torch.cat(weights), torch.cat(biases)


class GaussianConnections(nn.Module):
    """Each output is minus the squared distance of F6's 84 values from the class's code: (N, 84) -> (N, classes)."""

    codes: Tensor

    def __init__(self, classes: int):
        super().__init__()
        self.register_buffer("codes", codes(classes), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None] - self.codes).square().sum(2)


class LeNet5(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out. Figure 2."""

    def __init__(self, *, input: Shape = (1, 32, 32), classes: int = 10):
        super().__init__()
        self.stem = stack(c1=nn.Conv2d(input[0], 6, 5), squash=Squash())
        self.stages = stack(
            s2=stack(subsample=Subsample(6), squash=Squash()),
            c3=stack(conv=PartialConv(), squash=Squash()),
            s4=stack(subsample=Subsample(16), squash=Squash()),
            c5=stack(conv=nn.Conv2d(16, 120, 5), squash=Squash()),
        )
        c, h, w = shape_after(self.trunk(), input)
        self.head = stack(
            flatten=nn.Flatten(), f6=nn.Linear(c * h * w, UNITS), squash=Squash(), output=GaussianConnections(classes)
        )
        for m in self.modules():  # uniform within 2.4 / fan-in
            if isinstance(m, nn.Conv2d | nn.Linear | Subsample):
                fan = 4 if isinstance(m, Subsample) else m.weight[0].numel()
                nn.init.uniform_(m.weight, -2.4 / fan, 2.4 / fan)
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]

    @property
    def logits_layers(self) -> list[str]:
        return ["head.output"]

    def _logits_maker(self, old: nn.Module) -> Callable[[int], nn.Module]:
        """Codes for another number of classes; they are not trained."""
        return GaussianConnections


class LeNetLike(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out: two 5 x 5 convolutions, each pooled, and linear layers.

    `hidden` are the widths of the linear layers before the last; `act` follows each pooling and each of these, unless
    `act_conv` is off. torch's own initialisation.
    """

    def __init__(
        self,
        *,
        maps: tuple[int, int] = (6, 16),
        hidden: tuple[int, ...] = (120, 84),
        pool: type[nn.AvgPool2d] | type[nn.MaxPool2d] = nn.AvgPool2d,
        act: type[nn.Module] = nn.Tanh,
        act_conv: bool = True,
        input: Shape = (1, 32, 32),
        classes: int = 10,
    ):
        super().__init__()

        def convolved(cin: int, cout: int) -> nn.Sequential:
            return stack(conv=nn.Conv2d(cin, cout, 5), pool=pool(2, 2), **({"act": act()} if act_conv else {}))

        self.stem = convolved(input[0], maps[0])
        self.stages = stack(conv2=convolved(*maps))
        c, h, w = shape_after(self.trunk(), input)
        head: dict[str, nn.Module] = {"flatten": nn.Flatten()}
        cin = c * h * w
        for i, width in enumerate(hidden, start=1):
            head |= {f"fc{i}": nn.Linear(cin, width), f"act{i}": act()}
            cin = width
        self.head = stack(**head, **{f"fc{len(hidden) + 1}": nn.Linear(cin, classes)})


ARITHMETIC = "layer arithmetic"
LAYERS = {  # module: its parameters
    "stem": "156",
    "stages.s2": "12",
    "stages.c3": "1,516",
    "stages.s4": "32",
    "stages.c5": "48,120",
    "head.f6": "10,164",
    "head.output": "0",
}

# fmt: off
VARIANTS = (
    *family(LeNet5, PAPER, [
        Variant("lenet5", recipe="lenet", aliases=("LeNet",), claims=[
            Claim("params", "60,000", "Section II-B"),
            *(Claim(f"params {path}", n, "Section II-B") for path, n in LAYERS.items()),
            Claim("mnist_test_err", "0.95", "Section III, 60,000 training images without distortions"),
            Claim("mnist_test_err", "0.8", "Section III, with distorted images added"),
            Claim("mnist_train_err", "0.35", "Section III, after 10 passes")]),
    ], input=(1, 32, 32)),
    *family(LeNetLike, PAPER, [
        Variant("lenet5_tanh", recipe="lenet", aliases=("LeNet-5 modern",),
            note="the lectures' CONV-POOL-TANH-CONV-POOL-TANH-FC-TANH-FC-TANH-FC: full C3, average pooling", claims=[
            Claim("params", "61,706", ARITHMETIC), Claim("macs", "416,520", ARITHMETIC)]),
        Variant("lenet5_two_fc", dict(hidden=(84,), act_conv=False), recipe="lenet",
            note="the lectures' CONV-POOL-CONV-POOL-FC-FC; they print no widths, so these are our reading", claims=[]),
    ], input=(1, 32, 32)),
    *family(LeNetLike, CAFFE, [
        Variant("lenet_caffe", dict(maps=(20, 50), hidden=(500,), pool=nn.MaxPool2d, act=nn.ReLU, act_conv=False),
            recipe="lenet", note="what Caffe and Deep Compression call LeNet-5", claims=[
            Claim("params", "431,080", ARITHMETIC)]),
    ], input=(1, 28, 28)),
)
# fmt: on
