"""MobileNetV1 against the paper's tables, the arithmetic of its sections 3.1 to 3.4, and a released checkpoint."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.catalogue import name_of
from convatlas.errors import UserError
from convatlas.layers import ConvBN, ConvNet, ConvSame
from convatlas.nets import mobilenet_v1
from convatlas.nets.mobilenet_v1 import MobileNetV1

ROWS = {v.name: v for v in mobilenet_v1.VARIANTS}

# fmt: off
TABLE_1 = [  # type, stride, filter shape, input size; as printed, but for the stride of the last depthwise convolution
    ("conv", 2, (3, 3, 3, 32),   (3, 224, 224)),
    ("dw",   1, (3, 3, 32),      (32, 112, 112)),
    ("conv", 1, (1, 1, 32, 64),  (32, 112, 112)),
    ("dw",   2, (3, 3, 64),      (64, 112, 112)),
    ("conv", 1, (1, 1, 64, 128), (64, 56, 56)),
    ("dw",   1, (3, 3, 128),     (128, 56, 56)),
    ("conv", 1, (1, 1, 128, 128), (128, 56, 56)),
    ("dw",   2, (3, 3, 128),     (128, 56, 56)),
    ("conv", 1, (1, 1, 128, 256), (128, 28, 28)),
    ("dw",   1, (3, 3, 256),     (256, 28, 28)),
    ("conv", 1, (1, 1, 256, 256), (256, 28, 28)),
    ("dw",   2, (3, 3, 256),     (256, 28, 28)),
    ("conv", 1, (1, 1, 256, 512), (256, 14, 14)),
    *5 * [
        ("dw",   1, (3, 3, 512),     (512, 14, 14)),
        ("conv", 1, (1, 1, 512, 512), (512, 14, 14)),
    ],
    ("dw",   2, (3, 3, 512),     (512, 14, 14)),
    ("conv", 1, (1, 1, 512, 1024), (512, 7, 7)),
    ("dw",   1, (3, 3, 1024),    (1024, 7, 7)),  # printed: s2
    ("conv", 1, (1, 1, 1024, 1024), (1024, 7, 7)),
    ("pool", 1, (7, 7),          (1024, 7, 7)),
    ("fc",   1, (1024, 1000),    (1024, 1, 1)),
]
# fmt: on


def test_the_layer_table_reads_like_table_1() -> None:
    rows = account(ROWS["mobilenet_v1"]).table("layer")
    assert len(rows) == len(TABLE_1)
    size: tuple[int, ...] = (3, 224, 224)
    for row, (kind, stride, filters, entering) in zip(rows, TABLE_1, strict=True):
        assert size == entering, row.path
        size = row.shape
        if kind == "conv":
            kh, kw, cin, cout = filters
            assert (row.kernel, row.groups, row.shape[0]) == ((kh, kw), 1, cout), row.path
            assert row.weights - cout == kh * kw * cin * cout, row.path  # the rest is the scale of batch norm
        elif kind == "dw":
            assert (row.kernel, row.groups, row.shape[0]) == (filters[:2], filters[2], filters[2]), row.path
            assert row.weights - filters[2] == 9 * filters[2], row.path
        elif kind == "fc":
            assert row.weights == filters[0] * filters[1]
        if kind in ("conv", "dw"):
            assert (row.stride, row.padding) == ((stride, stride), "same"), row.path
            assert row.op == "ConvSame+BatchNorm2d+ReLU"


def test_the_printed_stride_of_the_last_depthwise_convolution_would_not_give_the_printed_sizes() -> None:
    printed = [*mobilenet_v1.TABLE_1[:-1], (2, 1024)]
    with torch.device("meta"):
        net = MobileNetV1(table=printed)
    shapes = [row.shape for row in account(net, input=(3, 224, 224)).table("block")]
    assert (1024, 4, 4) in shapes  # Table 1 enters the average pool with 7x7x1024


def test_shares_of_table_2() -> None:
    shares = {"pointwise": [0, 0], "depthwise": [0, 0], "stem": [0, 0], "linear": [0, 0]}
    for row in account(ROWS["mobilenet_v1"]).rows:
        for kind, share in shares.items():
            if kind in row.path and row.macs:
                share[0] += row.macs
                share[1] += row.weights
    macs, weights = (sum(s[i] for s in shares.values()) for i in (0, 1))
    percent = {kind: [round(100 * m / macs, 2), round(100 * w / weights, 2)] for kind, (m, w) in shares.items()}
    # printed as 1.19: digits swapped, the four shares would sum to 99.29
    printed = {"pointwise": [94.86, 74.59], "depthwise": [3.06, 1.06], "stem": [1.91, 0.02], "linear": [0.18, 24.33]}
    for kind, values in printed.items():
        assert percent[kind] == pytest.approx(values, abs=0.011), kind


def test_the_written_gaps_are_the_reasons() -> None:
    half = account(ROWS["mobilenet_v1_0_5_160"])
    assert half.totals.params - sum(r.params for r in half.rows if r.op == "BatchNorm2d") == 1_320_648  # "1.32M"
    conv = account(ROWS["mobilenet_v1_conv"])
    assert conv.totals.macs - 1024 * 1000 == 4_866_269_184  # "4866"
    for side, printed in ((224, 317), (192, 233), (160, 162), (128, 104)):
        counted = account(ROWS[f"mobilenet_v1_0_75_{side}_slim"])
        stem = sum(r.macs for r in counted.rows if r.path.startswith("stem"))
        assert abs((counted.totals.macs - stem) / 1e6 - printed) < 1


def test_a_separable_block_costs_one_over_n_and_one_over_nine_of_a_full_convolution() -> None:
    separable = {r.path: r for r in account(ROWS["mobilenet_v1"]).table("block")}
    full = {r.path: r for r in account(ROWS["mobilenet_v1_conv"]).table("block")}
    for i, (_, cout) in enumerate(mobilenet_v1.TABLE_1, start=1):
        a, b = separable[f"stages.block{i}"].macs, full[f"stages.block{i}"].macs
        assert a * 9 * cout == b * (9 + cout)  # a / b = 1/cout + 1/9, exactly


def test_resolution_costs_its_square_and_no_parameters() -> None:
    full, small = account(ROWS["mobilenet_v1"]), account(ROWS["mobilenet_v1_1_0_128"])
    assert full.totals.params == small.totals.params
    convolutions = [sum(r.macs for r in a.rows if r.path != "head.linear") for a in (full, small)]
    assert convolutions[0] * 4**2 == convolutions[1] * 7**2  # 224 / 128 = 7 / 4


def test_shallow_has_five_blocks_fewer() -> None:
    with torch.device("meta"):
        blocks = list(ROWS["mobilenet_v1_shallow"].build().stages.children())
    assert len(blocks) == 13 - 5


@pytest.mark.parametrize(("width", "channels"), [(0.25, [8, 16, 256]), (0.1, [8, 8, 102]), (1.5, [48, 96, 1536])])
def test_width_multiplies_channels_rounds_down_and_keeps_eight(width: float, channels: list[int]) -> None:
    with torch.device("meta"):
        net = ROWS["mobilenet_v1"].build(width=width)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [convs[0].out_channels, convs[2].out_channels, convs[-1].out_channels] == channels


def test_the_stem_pads_below_and_to_the_right_only() -> None:
    stem = ROWS["mobilenet_v1"].build().get_submodule("stem.conv.conv")
    assert isinstance(stem, ConvSame)
    x = torch.randn(1, 3, 224, 224)
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), stem.weight, stride=2)
    assert torch.allclose(stem(x), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v1_conv", "mobilenet_v1_slim"])
def test_initial_weights_are_a_truncated_normal_of_deviation_0_09(name: str) -> None:
    torch.manual_seed(0)
    net = ROWS[name].build(width=0.5)
    # a normal cut at two deviations keeps 0.8796 of its deviation
    weights = torch.cat([m.weight.flatten() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)])
    assert weights.abs().max() <= 0.18
    assert weights.std().item() == pytest.approx(0.09 * 0.8796, rel=0.01)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.weight.min().item(), m.bias.abs().max().item()) for m in norms} == {(1e-3, 1.0, 0.0)}


def test_the_released_code_and_timm_differ_where_their_rows_say() -> None:
    def parts(name: str) -> tuple[set[str], set[float], bool]:
        modules = list(ROWS[name].build(width=0.25).modules())
        return (
            {type(m).__name__ for m in modules if "ReLU" in type(m).__name__},
            {m.eps for m in modules if isinstance(m, nn.BatchNorm2d)},
            any(isinstance(m, ConvSame) for m in modules),
        )

    assert parts("mobilenet_v1") == ({"ReLU"}, {1e-3}, True)
    assert parts("mobilenet_v1_slim") == ({"ReLU6"}, {1e-3}, True)
    assert parts("mobilenet_v1_timm") == ({"ReLU6"}, {1e-5}, False)


def test_dropout_takes_effect() -> None:
    net = ROWS["mobilenet_v1"].build(width=0.25, dropout=0.25)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.25]


@pytest.mark.parametrize("name", ["mobilenet_v1_0_25_128", "mobilenet_v1_0_25_128_slim"])
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    net = ROWS[name].build(classes=5, channels=4, input=(4, 97, 65))
    loss = F.cross_entropy(net(torch.randn(3, 4, 97, 65)), torch.tensor([0, 1, 2]))
    loss.backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_the_smallest_image_is_one_pixel() -> None:
    assert ROWS["mobilenet_v1"].build(width=0.25, input=(3, 1, 1)).eval()(torch.randn(2, 3, 1, 1)).shape == (2, 1000)


@pytest.mark.parametrize("width", [0, -0.5])
def test_a_width_that_leaves_no_channels_is_refused(width: float) -> None:
    with pytest.raises(UserError, match=f"width={width} leaves no channels; give a positive multiplier"):
        ROWS["mobilenet_v1"].build(width=width)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("1.0 MobileNet-224", "mobilenet_v1"),
        ("0.75 MobileNet", "mobilenet_v1_0_75_224"),
        ("0.50 MobileNet-160", "mobilenet_v1_0_5_160"),
        ("0.25 MobileNet-128", "mobilenet_v1_0_25_128"),
        ("Conv MobileNet", "mobilenet_v1_conv"),
    ],
)
def test_spellings_of_the_paper(spelling: str, name: str) -> None:
    assert name_of(spelling, {n: v.aliases for n, v in ROWS.items()}) == name


# A network trained and quantised elsewhere (MobileNetV1 0.25 at 128 pixels, 1001 classes); its layers in graph order,
# batch norm folded into weight and bias.


def load_folded(net: ConvNet, file: Path) -> None:
    arrays = np.load(file)
    layer = -1
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            layer += 1
            m.weight.data.copy_(torch.from_numpy(arrays[f"{layer:02}.weight"]).view(m.weight.shape))
        if isinstance(m, nn.Linear):
            m.bias.data.copy_(torch.from_numpy(arrays[f"{layer:02}.bias"]))
        if isinstance(m, nn.BatchNorm2d):  # mean 0, variance 1: only the bias is left of it
            nn.init.constant_(m.weight, (1 + m.eps) ** 0.5)
            m.bias.data.copy_(torch.from_numpy(arrays[f"{layer:02}.bias"]))
    assert len(arrays.files) == 2 * (layer + 1)


def images(folder: Path) -> Tensor:
    """(N, 3, 128, 128) in [-1, 1]: the central 87.5% of each, in the order of their classes."""
    pixels = []
    for file in sorted(folder.glob("*.jpg")):
        with Image.open(file) as image:
            w, h = image.size
            side = round(min(w, h) * 0.875)
            left, top = (w - side) // 2, (h - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            pixels.append(torch.from_numpy(np.array(square.resize((128, 128), Image.Resampling.BILINEAR))))
    return torch.stack(pixels).permute(0, 3, 1, 2) / 127.5 - 1


def test_released_weights_recognise_images_only_in_the_released_network(real_packs: Path, real_data: Path) -> None:
    x = images(real_data / "imagenet1000")
    classes = torch.arange(1, 1001)  # 0 is background

    def accuracy(net: ConvNet) -> float:
        load_folded(net, real_packs / "weights/coral/dq_mobilenet_v1_0.25_128_quant.npz")
        with torch.inference_mode():
            logits = torch.cat([net.eval()(batch) for batch in x.split(100)])
        return (logits.argmax(1) == classes).float().mean().item()

    released = accuracy(ROWS["mobilenet_v1_0_25_128_slim"].build(classes=1001))
    assert released == pytest.approx(0.449, abs=0.01)  # 0.400 on validation images in its own runtime
    padded_alike = MobileNetV1(width=0.25, conv=partial(ConvBN, act=nn.ReLU6), classes=1001)
    assert accuracy(padded_alike) < released - 0.2
    assert accuracy(ROWS["mobilenet_v1_0_25_128"].build(classes=1001)) < released - 0.1  # ReLU for ReLU6
