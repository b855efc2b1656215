"""What the papers' protocols make of an image, against Pillow and against windows slid one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from convatlas import build
from convatlas.data.normalise import Normalizer
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate_split
from convatlas.evaluation.views import averaged, of_cuts, suited
from convatlas.layers import ConvNet, dense, stack
from convatlas.preprocess import Preprocess
from convatlas.protocols import find_protocol

SIDE = 16


class Unpadded(ConvNet):
    """Two convolutions and a pool without padding: 16 x 16 pixels in, logits out; the map shrinks by 4."""

    def __init__(self) -> None:
        super().__init__()
        self.input = (3, SIDE, SIDE)
        self.stem = stack(conv=nn.Conv2d(3, 6, 4, stride=2), relu=nn.ReLU())  # 7 x 7
        self.stages = stack(stage1=stack(conv=nn.Conv2d(6, 8, 2), relu=nn.ReLU(), pool=nn.MaxPool2d(2, 2)))  # 3 x 3
        self.head = stack(flatten=nn.Flatten(), fc1=nn.Linear(72, 10), relu=nn.ReLU(), fc2=nn.Linear(10, 5))


def network() -> Unpadded:
    torch.manual_seed(0)
    return Unpadded().eval()


def photo(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def normalizer(**options: object) -> Normalizer:
    return Normalizer(Preprocess((3, SIDE, SIDE), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), **options))  # type: ignore[arg-type]


def test_dense_is_every_window() -> None:
    net, x = network(), torch.randn(1, 3, 36, 28)
    found = dense(net)(x)
    windows = [
        net(x[:, :, y : y + SIDE, left : left + SIDE]) for y in range(0, 36 - 15, 4) for left in range(0, 28 - 15, 4)
    ]
    assert found.shape == (1, 5, 6, 4)
    torch.testing.assert_close(found.flatten(2)[0].T, torch.cat(windows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("size", [(40, 60), (60, 40)])
def test_ten_crops_as_by_hand(order: str, size: tuple[int, int]) -> None:
    """Scaled, cropped and mirrored by Pillow; probabilities averaged."""
    net, norm = network(), normalizer(order=order, interpolation="bicubic")
    image = Image.fromarray(photo(*size).permute(1, 2, 0).numpy())
    short = round(256 * SIDE / 224)
    scale = short / min(size)
    image = image.resize((int(size[1] * scale), int(size[0] * scale)), Image.Resampling.BICUBIC)
    left, top = round((image.width - short) / 2), round((image.height - short) / 2)
    square = image.crop((left, top, left + short, top + short))
    far, mid = short - SIDE, round((short - SIDE) / 2)
    crops = [square.crop((x, y, x + SIDE, y + SIDE)) for x, y in ((0, 0), (far, 0), (0, far), (far, far), (mid, mid))]
    crops += [crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for crop in crops]
    pixels = np.stack([np.asarray(crop) for crop in crops])
    channels = torch.from_numpy(pixels if order == "RGB" else pixels[..., ::-1].copy()).permute(0, 3, 1, 2)
    x = (channels / 255 - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / torch.tensor([0.2, 0.3, 0.25])[:, None, None]
    expected = net(x).softmax(1).mean(0).log()
    found = of_cuts(net, net, photo(*size), norm, "cpu", find_protocol("alexnet10"))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_both_is_the_average_of_dense_and_crops() -> None:
    net, norm, image = network(), normalizer(), photo(50, 70)
    dense_net = dense(net)
    parts = {
        name: of_cuts(net, dense_net, image, norm, "cpu", find_protocol(name))
        for name in ("vgg_dense", "vgg_multicrop")
    }
    both = of_cuts(net, dense_net, image, norm, "cpu", find_protocol("vgg_both"))
    torch.testing.assert_close(both.exp(), torch.stack([it.exp() for it in parts.values()]).mean(0))


def test_averages_survive_probabilities_that_float32_cannot_hold() -> None:
    logits = torch.tensor([[0.0, -300.0], [0.0, -310.0]])
    found = averaged(logits, torch.tensor([[0.5], [0.5]]))
    assert found[1].item() == pytest.approx(-300 - np.log(2), rel=1e-5)


def test_a_split_is_scored_by_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    net, norm = network(), normalizer()
    images = torch.stack([photo(32, 32) // k for k in (1, 2, 3, 4, 5)])
    split = MemorySplit("test", images, torch.arange(5), tuple("abcde"))
    scores = evaluate_split(net, split, norm, protocol=find_protocol("resnet10"), batch=30)
    each = torch.stack([of_cuts(net, net, image, norm, "cpu", find_protocol("resnet10")) for image in images])
    assert scores.predicted.tolist() == each.argmax(1).tolist()
    torch.testing.assert_close(scores.confidences, each.softmax(1).amax(1))


@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet_40_12", "resnet18", "vgg11"])
def test_the_head_sees_every_window_of_the_map(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, classes=7, input=(3, 64, 64)).eval()
    x = torch.randn(1, 3, 96, 128)
    small, whole = net.trunk()(x[:, :, :64, :64]), net.trunk()(x)
    h, w = small.shape[2:]
    windows = whole.unfold(2, h, 1).unfold(3, w, 1)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
    assert len(windows) > 1
    torch.testing.assert_close(dense(net)(x).flatten(2)[0].T, net.head(windows), atol=1e-4, rtol=1e-4)


def test_protocols_that_do_not_suit() -> None:
    net, protocol = network(), find_protocol("vgg_dense")
    oblong = Preprocess((3, 16, 20), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match="protocol vgg_dense is for square inputs, not 16x20; use center or flip"):
        suited(net, oblong, protocol)
    pixel = Preprocess((3, 16, 16), (127.0,) * 3, (1.0,) * 3, scale=1.0, whiten="pixel")
    with pytest.raises(UserError, match="shows images of all sizes, and pixel whitening knows one; use a protocol of"):
        suited(net, pixel, protocol)
    with pytest.raises(UserError, match="needs a network that runs on images of all sizes, which only torch"):
        suited(nn.Flatten(), normalizer().preprocess, protocol)
    assert suited(net, pixel, find_protocol("alexnet10")) is net
