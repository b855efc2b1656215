"""Whether an exported network computes what it was exported from.

The measure is the largest difference of logits in units of their standard deviation: relative to the largest logit, a
wrong network would pass where a constant lies under all of them, as in LeNet-5. It says something only of logits that
depend on the image, and on all layers: freshly initialised networks may answer alike to every image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.normalise import Normalizer, normalise
from ..errors import UserError
from ..layers import Shape, eval_mode

TOLERANCE = 1e-4  # of a standard deviation
BATCHES = (1, 3)
LEAST_STD = 1e-3  # of the largest logit: with less, a float32's rounding is near TOLERANCE
LEAST_CHANGE = 1e-2  # of a standard deviation, from image to image
SHOWN = 8  # images by which statistics are set

Run = Callable[[Tensor], Tensor]  # uint8 images, or the network's input, as logits (n, classes)


class Unlike(UserError):
    """An exported network differs from the original."""


def check(original: Run, exported: Run, images: Tensor, name: str) -> float:
    """The largest difference in standard deviations, for each of BATCHES of the first of `images` (3 or more).

    Raises Unlike above TOLERANCE; UserError for logits that tell nothing: not finite, all but constant, or the same
    whatever the image.
    """
    expected = original(images[: max(BATCHES)]).double()
    tell_something(expected, name)
    differences = []
    for n in BATCHES:
        found = exported(images[:n]).double()
        if found.shape != expected[:n].shape:
            raise Unlike(f"exported, {name} answers {tuple(found.shape)} to {n} images", "please report it")
        differences.append(difference(expected[:n], found))
    worst = max(differences, key=lambda it: (it != it, it))  # not a number counts as more than any
    if not worst <= TOLERANCE:
        raise Unlike(
            f"exported, {name} differs from the original by {worst:.2g} standard deviations of its logits "
            f"(at most {TOLERANCE:g} is allowed)",
            "nothing was written; please report it",
        )
    return worst


def difference(expected: Tensor, found: Tensor) -> float:
    """The largest difference of logits (n, classes), over the standard deviation of the expected ones."""
    return ((found - expected).abs().max() / expected.std()).item()


def tell_something(logits: Tensor, name: str) -> None:
    """Raises UserError for logits (n, classes) by which a wrong network could not be told from a right one."""
    if not logits.isfinite().all():
        raise UserError(f"the logits of {name} are not finite", "give other weights")
    spread, largest = logits.std().item(), logits.abs().max().item()
    change = (logits.max(0).values - logits.min(0).values).max().item()
    if not spread > LEAST_STD * largest:
        raise UserError(
            f"the logits of {name} are all but constant (standard deviation {spread:.2g}, largest {largest:.2g}), so "
            "that its export cannot be checked",
            "give trained weights",
        )
    if not change > LEAST_CHANGE * spread:
        raise UserError(
            f"the logits of {name} hardly depend on the image, so that its export cannot be checked",
            "give trained weights",
        )


def images(input: Shape, n: int = max(BATCHES), seed: int = 0) -> Tensor:
    """uint8 (n, C, H, W): noise, and coarse noise that is smooth in between, in turn."""
    channels, height, width = input
    random = torch.Generator().manual_seed(seed)
    fine = torch.rand(n, channels, height, width, generator=random)
    coarse = F.interpolate(torch.rand(n, channels, 4, 4, generator=random), (height, width), mode="bilinear")
    share = torch.tensor([0.8, 0.1, 0.4]).repeat(n)[:n].view(n, 1, 1, 1)
    return ((share * fine + (1 - share) * coarse) * 255.99).byte()


def of_net(net: nn.Module, normalizer: Normalizer | None = None) -> Run:
    """The network as a Run, of uint8 images if there is a normalizer."""

    @torch.inference_mode()
    def run(x: Tensor) -> Tensor:
        with eval_mode(net):
            logits: Tensor = net(x if normalizer is None else normalise(x, normalizer).contiguous())
        return logits

    return run


@torch.no_grad()
def randomise(net: nn.Module, x: Tensor, seed: int = 0) -> None:
    """Gives the network random weights under which its logits depend on every layer and on the image.

    Weights are He et al.'s (2015), scales, biases and shifts random too; the statistics of batch norms are those of the
    network's input `x`, so that nothing dies or explodes on the way. Shifts are near 1: around 0, half of the values
    meet the ReLU's kink, and float32's rounding grows to 2e-3 standard deviations in plain56 (2e-6 with 1).
    """
    random = torch.Generator().manual_seed(seed)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    shifts = [norm.bias for norm in norms]
    for name, p in net.named_parameters():
        if p.dim() > 1:
            p.normal_(0, (2 / p[0].numel()) ** 0.5, generator=random)
        elif name.endswith("bias"):
            p.normal_(1.0 if any(p is shift for shift in shifts) else 0.0, 0.1, generator=random)
        else:
            p.uniform_(0.5, 1.5, generator=random)
    usual = [norm.momentum for norm in norms]
    with eval_mode(net):
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        net(x)
    for norm, momentum in zip(norms, usual):
        norm.momentum = momentum
        assert norm.running_var is not None
        norm.running_var.clamp_(min=0.01)  # of channels that are always the same
