"""Images on which the operations of augmentation differ, and the way to Pillow and back."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

GREY = (9, 99, 199)


def pictures(n: int = 6, h: int = 24, w: int = 37) -> Tensor:
    """Smooth and rough, bright and dark, flat and of few levels: what the operations treat differently."""
    g = torch.Generator().manual_seed(0)
    out = torch.randint(0, 256, (max(n, 6), 3, h, w), dtype=torch.uint8, generator=g)
    out[0] = torch.linspace(20, 180, w).to(torch.uint8)
    out[1, 1:] = torch.randint(100, 104, (2, h, w), dtype=torch.uint8, generator=g)
    out[2] = 77
    out[3] //= 5
    return out if n > 1 else out[5:]


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
