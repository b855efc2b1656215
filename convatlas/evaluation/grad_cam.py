"""Grad-CAM (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391): where a network looks for a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.normalise import normalise
from ..errors import UserError, unknown
from ..layers import ConvNet, eval_mode
from ..weights.model import Model


def grad_cam(model: Model, images: Tensor, classes: Sequence[int] | None = None, stage: str | None = None) -> Tensor:
    """For each image, uint8 (n, C, H, W) as `model.preprocess` makes it, how much each pixel speaks for a class.

    float32 (n, H, W), the largest value of each image 1, all 0 where nothing speaks for the class. `classes` are
    numbers, by default what is predicted; `stage` is one of `feature_info`, by default the last. Equations 1 and 2:
    the stage's maps, each weighed by the mean gradient of the class's logit, summed; what is negative is left out.
    Raises UserError for a network that is not a ConvNet, an unknown stage, and classes that are not outputs.
    """
    net = model.net
    if not isinstance(net, ConvNet):
        raise UserError(f"{model.network} has no gradients on an engine", "load it for torch")
    stages = dict(net.stages.named_children())
    name = stage if stage is not None else list(stages)[-1]
    if name not in stages:
        raise unknown("stage", name, stages)
    seen: list[Tensor] = []

    def keep(module: object, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        seen.append(output[-1] if isinstance(output, tuple) else output)

    x = normalise(images, model.normalizer).requires_grad_()  # frozen networks have gradients, too
    hook = stages[name].register_forward_hook(keep)
    try:
        with eval_mode(net), torch.enable_grad():
            logits = net(x)
    finally:
        hook.remove()
    chosen = logits.argmax(1) if classes is None else torch.as_tensor(classes, dtype=torch.int64)
    if chosen.shape != logits.shape[:1] or not ((chosen >= 0) & (chosen < logits.shape[1])).all():
        raise UserError(
            f"the classes are not {len(images)} numbers below {logits.shape[1]}", "give the class of each image"
        )
    (maps,) = seen
    (gradients,) = torch.autograd.grad(logits.gather(1, chosen[:, None].to(logits.device)).sum(), maps)
    heat = (gradients.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat, images.shape[2:], mode="bilinear", align_corners=False)[:, 0].detach()
    most = heat.amax((1, 2), keepdim=True)
    return torch.where(most > 0, heat / most, 0.0).cpu()
