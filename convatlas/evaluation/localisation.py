"""Localisation as ILSVRC judges it: a class and a box, of which five guesses are allowed; and a head that makes them.

VGG (appendix A) and ResNet (appendix C) won that track with a box for each class, regressed from the last map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import ConvNet, shape_after

OVERLAP = 0.5  # the least IoU of a box that counts as right


class Localiser(nn.Module):
    """Images (N, C, H, W) in, logits (N, classes) and boxes (N, classes, 4) out, one for each class.

    Boxes are x0, y0, x1, y1 as shares of the width and height. The box layer reads the whole last map, with its places.
    """

    def __init__(self, net: ConvNet):
        super().__init__()
        assert net.input is not None
        self.net = net
        (self.classes,) = shape_after(net, net.input)
        self.box = nn.Linear(
            shape_after(nn.Sequential(net.stem, net.stages, nn.Flatten()), net.input)[0], 4 * self.classes
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last = self.net.stages(self.net.stem(x))
        centre, size = self.box(last.flatten(1)).view(-1, self.classes, 4).sigmoid().split(2, -1)
        return self.net.head(last), torch.cat([centre - size / 2, centre + size / 2], -1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes x0, y0, x1, y1 (..., 4), which broadcast; 0 for boxes without an area."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b)]
    shared = sides.prod(-1)
    union = areas[0] + areas[1] - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


def found(logits: Tensor, boxes: Tensor, labels: Tensor, truth: Tensor, guesses: int = 5) -> Tensor:
    """Whether one of the best `guesses` of each image has its class, and IoU of at least 0.5 with one of its boxes.

    `logits` are (N, classes), `boxes` (N, classes, 4), `labels` (N), `truth` (N, 4), or (N, M, 4) where an image has up
    to M objects of its class, and not-a-number where it has fewer. ILSVRC's localisation error is 1 - found().mean().
    """
    best = logits.topk(min(guesses, logits.shape[1])).indices
    truth = truth.view(len(truth), 1, -1, 4)
    overlap = iou(boxes.gather(1, best[..., None].expand(-1, -1, 4))[:, :, None], truth)
    return ((best == labels[:, None]) & (overlap >= OVERLAP).any(2)).any(1)
