"""ResNet and plain networks, ImageNet's and CIFAR's: the paper's tables, sums worked by hand, released weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvBN, ConvNet
from convatlas.nets import resnet, resnet_cifar
from convatlas.nets.resnet import BasicBlock, Bottleneck, BottleneckV15, PaddedShortcut
from tests.oracles import calibrate, difference, randomise

ROWS = {v.name: v for v in (*resnet.VARIANTS, *resnet_cifar.VARIANTS)}


def build(name: str, **options: object) -> ConvNet:
    return ROWS[name].build(**options)


def on_meta(name: str, **options: object) -> ConvNet:
    with torch.device("meta"):
        return build(name, **options)


# What Table 1 adds up to, by hand: weights of the convolutions, two values a channel of batch norm, the classifier.


def basic_params(depths: tuple[int, ...], widths: tuple[int, ...], stem: int, projections: bool) -> int:
    total, cin = stem, widths[0]
    for depth, w in zip(depths, widths, strict=True):
        total += depth * (2 * 9 * w * w + 4 * w) - 9 * w * (w - cin)  # the first convolution reads cin maps
        total += (cin * w + 2 * w) * (projections and cin != w)
        cin = w
    return total


@pytest.mark.parametrize(
    ("name", "depths", "projections"),
    [
        ("plain18", (2, 2, 2, 2), False),
        ("plain34", (3, 4, 6, 3), False),
        ("resnet18", (2, 2, 2, 2), True),
        ("resnet34", (3, 4, 6, 3), True),
        ("resnet34_a", (3, 4, 6, 3), False),
    ],
)
def test_basic_parameters_by_hand(name: str, depths: tuple[int, ...], projections: bool) -> None:
    by_hand = basic_params(depths, (64, 128, 256, 512), 7 * 7 * 3 * 64 + 128, projections) + 513 * 1000
    assert sum(p.numel() for p in on_meta(name).parameters()) == by_hand


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_parameters_by_hand(depth: int) -> None:
    n = (depth - 2) // 6
    for name, projections in ((f"resnet{depth}", False), (f"plain{depth}", False), (f"resnet{depth}_b", True)):
        by_hand = basic_params((n, n, n), (16, 32, 64), 9 * 3 * 16 + 32, projections) + 65 * 10
        assert sum(p.numel() for p in on_meta(name).parameters()) == by_hand, name


def bottleneck_params(depths: tuple[int, ...]) -> int:
    total, cin = 7 * 7 * 3 * 64 + 128, 64
    for depth, mid in zip(depths, (64, 128, 256, 512), strict=True):
        cout = 4 * mid
        norms = 2 * mid + 2 * mid + 2 * cout
        total += (cin * mid + 9 * mid * mid + mid * cout + norms) + (cin * cout + 2 * cout)
        total += (depth - 1) * (cout * mid + 9 * mid * mid + mid * cout + norms)
        cin = cout
    return total + 2049 * 1000


@pytest.mark.parametrize(("layers", "depths"), [(50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))])
def test_bottleneck_parameters_by_hand(layers: int, depths: tuple[int, ...]) -> None:
    for name in (f"resnet{layers}", f"resnet{layers}_v1_5"):
        assert sum(p.numel() for p in on_meta(name).parameters()) == bottleneck_params(depths)


def test_depth_1202() -> None:
    n = 200
    for name, projections in (("resnet1202", False), ("resnet1202_b", True)):
        by_hand = basic_params((n, n, n), (16, 32, 64), 9 * 3 * 16 + 32, projections) + 65 * 10
        assert sum(p.numel() for p in on_meta(name).parameters()) == by_hand


@pytest.mark.parametrize("name", ROWS)
def test_the_name_is_the_number_of_layers(name: str) -> None:
    """Weighted layers: convolutions off the shortcut path, and the classifier."""
    layers = [
        m for p, m in on_meta(name).named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in p
    ]
    assert len(layers) == int(re.match(r"[a-z]+(\d+)", name)[1])


def test_stages_have_the_output_sizes_of_table_1() -> None:
    counted = account(ROWS["resnet50"])
    blocks = [(r.path, r.shape) for r in counted.table("block")]
    assert blocks[:2] == [("stem.conv1", (64, 112, 112)), ("stem.pool", (64, 56, 56))]
    assert [shape for path, shape in blocks if path.startswith("stages")] == (
        3 * [(256, 56, 56)] + 4 * [(512, 28, 28)] + 6 * [(1024, 14, 14)] + 3 * [(2048, 7, 7)]
    )
    assert [r.path for r in counted.table("stage")] == ["stem", *(f"stages.conv{i}" for i in (2, 3, 4, 5)), "head"]


def test_cifar_stages_halve_the_map() -> None:
    shapes = {r.path: r.shape for r in account(ROWS["resnet20"]).table("stage")}
    assert (shapes["stages.conv2"], shapes["stages.conv3"], shapes["stages.conv4"]) == (
        (16, 32, 32),
        (32, 16, 16),
        (64, 8, 8),
    )


def test_the_published_bottleneck_strides_in_its_first_convolution_v1_5_in_its_second() -> None:
    def strides(name: str) -> list[tuple[int, ...]]:
        convs = {r.path: r.stride for r in account(ROWS[name]).rows if r.op == "Conv2d"}
        return [
            convs[f"stages.conv3.block1.{c}.conv"] for c in ("branch.conv1", "branch.conv2", "branch.conv3", "shortcut")
        ]

    assert strides("resnet50") == [(2, 2), (1, 1), (1, 1), (2, 2)]
    assert strides("resnet50_v1_5") == [(1, 1), (2, 2), (1, 1), (2, 2)]


def test_stride_of_conv2_is_in_the_pool() -> None:
    strides = {r.path: r.stride for r in account(ROWS["resnet34"]).rows}
    assert strides["stem.conv1.conv"] == strides["stem.pool"] == (2, 2)
    assert strides["stages.conv2.block1.branch.conv1.conv"] == (1, 1)


@pytest.mark.parametrize(
    ("name", "projections", "identities", "padded"),
    [
        ("resnet34_a", 0, 13, 3),
        ("resnet34", 3, 13, 0),
        ("resnet34_c", 16, 0, 0),
        ("plain34", 0, 0, 0),
        ("resnet50", 4, 12, 0),
    ],
)
def test_shortcut_options(name: str, projections: int, identities: int, padded: int) -> None:
    paths = [m for p, m in on_meta(name).named_modules() if p.endswith(".shortcut")]
    found = [sum(isinstance(m, kind) for m in paths) for kind in (ConvBN, nn.Identity, PaddedShortcut)]
    assert found == [projections, identities, padded]


def test_option_a_subsamples_and_pads_with_zero_maps() -> None:
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).view(1, 2, 4, 4)
    y = PaddedShortcut(2, 4, 2)(x)
    zeros = torch.zeros(2, 2)
    expected = [zeros, torch.tensor([[0.0, 2], [8, 10]]), torch.tensor([[16.0, 18], [24, 26]]), zeros]
    assert torch.equal(y, torch.stack(expected)[None])
    assert list(PaddedShortcut(16, 32, 2).parameters()) == []


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, BottleneckV15])
@pytest.mark.parametrize(("cin", "cout", "stride"), [(8, 8, 1), (8, 16, 2), (8, 16, 1)])
def test_a_block_whose_branch_is_zero_is_its_shortcut(block: type, cin: int, cout: int, stride: int) -> None:
    x = torch.randn(2, cin, 7, 9)
    unit = block(cin, cout, stride, "A").eval()
    last = list(unit.branch.children())[-1]
    nn.init.zeros_(last.bn.weight)
    before = (cout - cin) // 2
    expected = torch.zeros(2, cout, -(-7 // stride), -(-9 // stride))
    expected[:, before : before + cin] = x[:, :, ::stride, ::stride].relu()
    assert torch.equal(unit(x), expected)


def test_a_plain_block_is_its_branch() -> None:
    x = torch.randn(2, 8, 5, 5)
    unit = BasicBlock(8, 8, shortcut=None).eval()
    assert torch.equal(unit(x), unit.branch(x).relu())


def test_bottleneck_with_groups_and_mid_is_built_as_told() -> None:
    unit = Bottleneck(256, 256, mid=128, groups=32)
    shapes = [tuple(unit.get_submodule(f"branch.conv{i}.conv").weight.shape) for i in (1, 2, 3)]
    assert shapes == [(128, 256, 1, 1), (128, 4, 3, 3), (256, 128, 1, 1)]


@pytest.mark.parametrize(("name", "fan"), [("resnet50", 1), ("resnet50_v1_5", 0), ("resnet20", 1)])
def test_initial_variance_is_two_over_the_fan(name: str, fan: int) -> None:
    torch.manual_seed(0)
    for path, m in build(name).named_modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 30_000:
            n = m.weight.shape[fan] * m.kernel_size[0] * m.kernel_size[1]
            assert m.weight.var().item() == pytest.approx(2 / n, rel=0.05), path
            assert abs(m.weight.mean().item()) < 5 * (2 / n / m.weight.numel()) ** 0.5, path
        if isinstance(m, nn.BatchNorm2d):
            assert (m.eps, m.weight.min(), m.weight.max(), m.bias.abs().max()) == (1e-5, 1, 1, 0), path


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    net = build("resnet50", classes=5, channels=4, input=(4, 45, 37))
    loss = nn.functional.cross_entropy(net(torch.randn(3, 4, 45, 37)), torch.tensor([0, 1, 2]))
    loss.backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20"])
def test_the_smallest_image_is_one_pixel(name: str) -> None:
    net = build(name, input=(3, 1, 1)).eval()
    assert net(torch.randn(1, 3, 1, 1)).shape == (1, ROWS[name].options["classes"])


@pytest.mark.parametrize("depth", [2, 21, 49, -4])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(UserError, match=rf"depth={depth} is not 6n \+ 2; give 8, 14, 20"):
        build("resnet20", depth=depth)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20"])
def test_an_unknown_shortcut_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="no shortcut option named 'D'; choose from A, B, C"):
        build(name, shortcut="D")


# The weights of akamaster/pytorch_resnet_cifar10, trained elsewhere on a network written elsewhere.


def our_name(theirs: str) -> str:
    """module.layer1.0.conv2.weight -> stages.conv2.block1.branch.conv2.conv.weight"""
    name = theirs.removeprefix("module.").replace("linear.", "head.linear.")
    if block := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name):
        stage, index, kind, number, what = block.groups()
        return f"stages.conv{int(stage) + 1}.block{int(index) + 1}.branch.conv{number}.{kind}.{what}"
    return re.sub(r"^(conv|bn)1\.", r"stem.conv1.\1.", name)


def released(file: Path) -> dict[str, Tensor]:
    return {our_name(k): v for k, v in torch.load(file, weights_only=True, map_location="cpu")["state_dict"].items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "accuracy"),
    [("resnet20", "resnet20-12fca82f.th", 91.73), ("resnet44", "resnet44-014dd654.th", 93.10)],
)
def test_released_weights_reach_their_published_accuracy(
    name: str, file: str, accuracy: float, real_packs: Path, real_data: Path
) -> None:
    net = build(name)
    missing, unexpected = net.load_state_dict(released(real_packs / "weights/akamaster" / file), strict=False)
    assert not unexpected
    assert all(k.endswith("num_batches_tracked") for k in missing)

    records = np.fromfile(real_data / "cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(10_000, 1 + 3 * 32 * 32)
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    net.eval().to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            right = sum(
                int((net(((x / 255 - mean) / std).to(memory_format=torch.channels_last)).argmax(1) == y).sum())
                for x, y in zip(pixels.split(500), labels.split(500), strict=True)
            )
    finally:
        torch.set_num_threads(threads)
    assert right / 100 == pytest.approx(accuracy, abs=0.1)


# The authors' released models (deep-residual-networks, prototxt/ResNet-*-deploy.prototxt), layer by layer.


def caffe_pool(x: Tensor) -> Tensor:
    """Caffe's 3x3 max pool of stride 2 without padding: ceil((n - 3) / 2) + 1 windows, the last ones cut off."""
    rows, columns = (-(-(n - 3) // 2) + 1 for n in x.shape[2:])
    at = [[x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((2, 3)) for j in range(columns)] for i in range(rows)]
    return torch.stack([torch.stack(row, -1) for row in at], -2)


class CaffeLayers:
    """Caffe's layers on the weights of one of our networks, handed out in the order in which its file defines them."""

    def __init__(self, net: ConvNet):
        self.left = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]

    def conv(self, x: Tensor, pad: int = 0, stride: int = 1, bias: bool = False) -> Tensor:
        """Convolution, BatchNorm (which only normalises, with Caffe's epsilon) and Scale (which has the bias)."""
        conv, bn = self.left.pop(0), self.left.pop(0)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(bn, nn.BatchNorm2d)
        assert (conv.bias is not None) == bias
        y = F.conv2d(x, conv.weight, conv.bias, stride, pad)
        scale = bn.weight / (bn.running_var + 1e-5).sqrt()  # type: ignore[operator]
        return (y - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]  # type: ignore[index]

    def block(self, x: Tensor, stride: int, projected: bool) -> Tensor:
        y = self.conv(x, stride=stride).relu()  # branch2a takes the stride
        y = self.conv(y, pad=1).relu()
        y = self.conv(y)
        return (y + (self.conv(x, stride=stride) if projected else x)).relu()

    def resnet(self, x: Tensor, depths: tuple[int, ...], bias: bool) -> Tensor:
        x = caffe_pool(self.conv(x, pad=3, stride=2, bias=bias).relu())
        for stage, depth in enumerate(depths):
            for i in range(depth):
                x = self.block(x, stride=2 if stage and not i else 1, projected=not i)
        (fc,) = self.left
        assert isinstance(fc, nn.Linear)
        return x.mean((2, 3)) @ fc.weight.T + fc.bias


RELEASED = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@pytest.mark.parametrize("layers", [50, *(pytest.param(n, marks=pytest.mark.slow) for n in (101, 152))])
def test_the_released_models_are_caffes(layers: int) -> None:
    net = build(f"resnet{layers}_caffe").double().eval()
    randomise(net)
    x = torch.randn(2, 3, 66, 71, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    calibrate(net, x)
    with torch.no_grad():
        theirs = CaffeLayers(net).resnet(x, RELEASED[layers], bias=layers == 50)
        assert difference(net.eval()(x), theirs) < 1e-9
        padded = build(f"resnet{layers}").double().eval()
        padded.load_state_dict({k: t for k, t in net.state_dict().items() if k in padded.state_dict()})
        assert difference(padded(x), theirs) > 1e-3


def test_only_the_released_50_layers_have_a_bias_more() -> None:
    more = {
        n: on_meta(f"resnet{n}_caffe").state_dict().keys() - on_meta(f"resnet{n}").state_dict().keys() for n in RELEASED
    }
    assert more == {50: {"stem.conv1.conv.bias"}, 101: set(), 152: set()}


@pytest.mark.parametrize("size", [(112, 112), (33, 36), (5, 4)])
def test_the_released_models_pool_as_caffe(size: tuple[int, int]) -> None:
    pool = on_meta("resnet101_caffe").stem.pool
    x = torch.randn(1, 2, *size)
    assert torch.equal(pool(x), caffe_pool(x))
