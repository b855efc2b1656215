"""SqueezeNet: Table 1 line by line, bypasses, and the released network's weights on real photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets.squeezenet import TABLE_1, VARIANTS, Fire, SqueezeNet, fires

ROWS = {v.name: v for v in VARIANTS}


def build(name: str, **options: object) -> ConvNet:
    return ROWS[name].build(**options)


def params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_table_1_line_by_line() -> None:
    printed = [  # layer, output C x H x W, parameters
        ("stem.conv1", (96, 111, 111), 14_208),
        ("stem.pool1", (96, 55, 55), 0),
        ("stages.fire2", (128, 55, 55), 11_920),
        ("stages.fire3", (128, 55, 55), 12_432),
        ("stages.fire4", (256, 55, 55), 45_344),
        ("stages.pool4", (256, 27, 27), 0),
        ("stages.fire5", (256, 27, 27), 49_440),
        ("stages.fire6", (384, 27, 27), 104_880),
        ("stages.fire7", (384, 27, 27), 111_024),
        ("stages.fire8", (512, 27, 27), 188_992),
        ("stages.pool8", (512, 13, 13), 0),
        ("stages.fire9", (512, 13, 13), 197_184),
        ("head.conv10", (1000, 13, 13), 513_000),
        ("head.pool10", (1000, 1, 1), 0),
    ]
    counted = {r.path: (r.shape, r.params) for r in account(ROWS["squeezenet1_0"]).table("block")}
    assert {path: counted[path] for path, _, _ in printed} == {path: (s, n) for path, s, n in printed}
    assert sum(n for _, _, n in printed) == 1_248_424


def test_counts_at_224_pixels_are_torchvisions() -> None:
    macs = {n: account(ROWS[n], input=(3, 224, 224)).totals.macs for n in ("squeezenet1_0", "squeezenet1_1")}
    assert macs == {"squeezenet1_0": 818_924_576, "squeezenet1_1": 349_151_936}
    assert macs["squeezenet1_0"] / macs["squeezenet1_1"] == pytest.approx(2.4, abs=0.1)  # "2.4x less computation"


def test_a_fire_module_by_hand() -> None:
    squeeze, expand, cin = 16, 64, 96
    by_hand = (cin * squeeze + squeeze) + (squeeze * expand + expand) + (9 * squeeze * expand + expand)
    assert params(Fire(cin, squeeze, expand, expand)) == by_hand == 11_920


def test_metaparameters_make_table_1() -> None:
    assert fires() == TABLE_1
    assert [s for _, s, _, _ in fires(sr=0.5)] == [64, 64, 128, 128, 192, 192, 256, 256]
    name, squeeze, one, three = fires(pct_3x3=0.75, sr=0.5)[2]
    assert (name, squeeze, one, three) == ("fire4", 128, 64, 192)
    wider = SqueezeNet(fires=fires(sr=0.75, base_e=64, incr_e=32, freq=4))
    assert wider(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_bypasses() -> None:
    plain, simple, whole = (build("squeezenet1_0", bypass=b, classes=3).eval() for b in (None, "simple", "complex"))
    simple.load_state_dict(plain.state_dict())  # a simple bypass has no parameters
    around = {n for n, m in simple.stages.named_children() if getattr(m, "bypass", None) is not None}
    assert around == {"fire3", "fire5", "fire7", "fire9"}
    converted = {n for n, m in whole.stages.named_children() if isinstance(getattr(m, "bypass", None), nn.Conv2d)}
    assert converted == {"fire2", "fire4", "fire6", "fire8"}
    by_hand = sum(cin * cout + cout for cin, cout in ((96, 128), (128, 256), (256, 384), (384, 512)))
    assert params(whole) - params(simple) == by_hand == 1_589_672 - 1_248_424

    x = torch.randn(1, 128, 9, 9)
    assert torch.equal(simple.stages.fire3(x), plain.stages.fire3(x) + x)
    y = torch.randn(1, 96, 9, 9)
    fire = whole.stages.fire2
    skip, fire.bypass = fire.bypass, None
    alone = fire(y)
    fire.bypass = skip
    assert torch.allclose(fire(y), alone + skip(y))
    with pytest.raises(UserError, match="no bypass named 'full'; choose from simple, complex"):
        build("squeezenet1_0", bypass="full")


def test_padding_around_conv10() -> None:
    assert next(r for r in account(ROWS["squeezenet1_0_caffe"]).rows if r.path == "head.conv10").shape == (1000, 15, 15)
    # 2 * 861 million operations: the 1.72 GFLOPS an image that the authors gave for their 1.0
    assert round(2 * account(ROWS["squeezenet1_0_caffe"]).totals.macs / 1e9, 2) == 1.72


def test_initialisation_is_the_released_prototxts() -> None:
    torch.manual_seed(0)
    net = build("squeezenet1_0")
    weight = net.stages.fire9.squeeze1x1.weight  # Caffe's "xavier": uniform, variance 1 / fan-in
    assert weight.std().item() == pytest.approx((1 / 512) ** 0.5, rel=0.02)
    assert weight.abs().max().item() <= (3 / 512) ** 0.5
    assert net.head.conv10.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert all(m.bias.abs().max() == 0 for m in net.modules() if isinstance(m, nn.Conv2d) and m.bias is not None)


def test_too_small_an_input() -> None:
    with pytest.raises(UserError, match=r"3x16x16 does not fit the network; the smallest square that does is 3x21x21"):
        build("squeezenet1_0", input=(3, 16, 16))
    assert build("squeezenet1_1", input=(1, 33, 47), classes=4)(torch.randn(1, 1, 33, 47)).shape == (1, 4)


@pytest.mark.slow
def test_released_weights_reach_their_accuracy(real_packs: Path, real_data: Path) -> None:
    """1,000 training photographs, one a class: 62.3 / 83.8 % (BGR, 0..255 less a mean colour, centre 227)."""
    net = build("squeezenet1_1").eval()
    arrays = np.load(real_packs / "weights" / "squeezenet1_1_caffe" / "squeezenet1_1.npz")
    part = {"conv1": "stem", "conv10": "head"}
    net.load_state_dict({
        f"{part.get(key.split('.')[0], 'stages')}.{key}": torch.from_numpy(arrays[key]) for key in arrays
    })  # fmt: skip
    files = sorted((real_data / "imagenet1000").rglob("*.jpg"))
    assert len(files) == 1000
    rank_of_truth = []
    with torch.inference_mode():
        for first in range(0, len(files), 50):
            images = torch.stack([centre_227(file) for file in files[first : first + 50]])
            logits = net(images)
            truth = logits[torch.arange(50), torch.arange(first, first + 50), None]
            rank_of_truth.append((logits > truth).sum(1))
    ranks = torch.cat(rank_of_truth)
    top1, top5 = 100 * (ranks < 1).float().mean().item(), 100 * (ranks < 5).float().mean().item()
    assert (top1, top5) == (pytest.approx(62.3, abs=0.1), pytest.approx(83.8, abs=0.1))


def centre_227(file: Path) -> torch.Tensor:
    """BGR less the mean colour, of the centre of the image scaled to a short side of 256 pixels."""
    with Image.open(file) as image:
        scale = 256 / min(image.size)
        sides = round(image.width * scale), round(image.height * scale)
        pixels = np.asarray(image.convert("RGB").resize(sides, Image.Resampling.BILINEAR), dtype=np.float32)
    top, left = (pixels.shape[0] - 227) // 2, (pixels.shape[1] - 227) // 2
    bgr = pixels[top : top + 227, left : left + 227, ::-1] - np.array([104, 117, 123], dtype=np.float32)
    return torch.from_numpy(bgr.transpose(2, 0, 1).copy())
