"""airbench: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (Jordan, 2024), https://arxiv.org/abs/2404.00498

Read beside section 3 and the released airbench94.py and airbench95.py. Not in the lectures; included to compare
training speed. A frozen 2x2 convolution whitens the image patches, each direction with both signs; then three blocks
of two 3x3 convolutions follow, each halving the map; convolutions start as the identity as far as possible.
Departures from the paper: the last map is pooled globally, whatever its size (paper: a 3x3 pool, its size there).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..catalogue import Claim, Paper, Variant, family
from ..layers import ConvNet, stack

PAPER = Paper("94% on CIFAR-10 in 3.29 Seconds on a Single GPU", "Jordan", 2024, "https://arxiv.org/abs/2404.00498")
BIAS_SHARE = 3 / 9.9  # of the epochs: in these, the whitening layer's biases are trained


class Airbench(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 8.

    `widths` are those of the three blocks; `bias_share` is the fraction of training at the start in which the first
    layer's biases are trained, too. `init_from_data` makes the first layer whiten; until then it is random.
    """

    has_unused_parameters = True
    init_images = 5000  # as released

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 256, 256),
        bias_share: float = BIAS_SHARE,
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__()
        self.bias_share = bias_share
        directions = 4 * channels  # of a 2x2 patch
        whiten = nn.Conv2d(channels, 2 * directions, 2)
        whiten.weight.requires_grad_(False)
        nn.init.zeros_(whiten.bias)  # type: ignore[arg-type]
        self.stem = stack(whiten=whiten, gelu=nn.GELU())
        cins = (2 * directions, *widths)
        self.stages = stack(**{f"block{i + 1}": block(*cins[i : i + 2]) for i in range(len(widths))})
        linear = Ninth(widths[-1], classes, bias=False)
        self.head = stack(pool=nn.AdaptiveMaxPool2d(1), flatten=nn.Flatten(), linear=linear)

    @property
    def whiten(self) -> nn.Conv2d:
        return self.stem[0]  # type: ignore[index]

    @torch.no_grad()
    def init_from_data(self, images: Tensor) -> None:
        """Sets the first layer to the principal directions of the images' 2x2 patches, scaled to variance 1, each with
        both signs."""
        weight = self.whiten.weight
        patches = F.unfold(images.float(), 2).transpose(1, 2).flatten(0, 1)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        whitening = (directions / (variances + 5e-4).sqrt()).T.flip(0).view(-1, *weight.shape[1:])
        weight.copy_(torch.cat((whitening, -whitening)))

    def set_progress(self, progress: float) -> None:
        """Takes the fraction of training done, in [0, 1]: the first layer's biases are trained only at the start."""
        assert self.whiten.bias is not None
        self.whiten.bias.requires_grad_(progress < self.bias_share)


class Ninth(nn.Linear):
    """A linear layer whose output is divided by 9."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 9


def block(cin: int, cout: int) -> nn.Sequential:
    return stack(
        conv1=convolution(cin, cout),
        pool=nn.MaxPool2d(2),
        norm1=norm(cout),
        gelu1=nn.GELU(),
        conv2=convolution(cout, cout),
        norm2=norm(cout),
        gelu2=nn.GELU(),
    )


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with a learned bias and a scale of 1; running statistics have a decay of 0.6."""
    made = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    made.weight.requires_grad_(False)
    return made


def convolution(cin: int, cout: int) -> nn.Conv2d:
    """3x3; the first `cin` filters are the identity, the others have torch's initialisation."""
    conv = nn.Conv2d(cin, cout, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[:cin])
    return conv


# fmt: off
VARIANTS = family(Airbench, PAPER, [
    Variant("airbench94", recipe="airbench94", claims=[Claim("params", "1,972,792", "layer arithmetic"),
        Claim("cifar10_err", "5.99", "section 1 and airbench94.py, mean of 1,000 runs, 6 views")]),
    Variant("airbench95", dict(widths=(128, 384, 384)), recipe="airbench95", claims=[
        Claim("cifar10_err", "4.99", "section 1 and airbench95.py, mean of 200 runs, 6 views")]),
], input=(3, 32, 32))
# fmt: on
