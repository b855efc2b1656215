"""DenseNet: Table 1, sums worked by hand, recomputation that changes nothing but memory."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets import densenet, densenet_cifar
from convatlas.nets.densenet import Composite, DenseBlock, DenseNet

ROWS = {v.name: v for v in (*densenet.VARIANTS, *densenet_cifar.VARIANTS)}


def build(name: str, **options: object) -> ConvNet:
    return ROWS[name].build(**options)


def on_meta(name: str, **options: object) -> ConvNet:
    with torch.device("meta"):
        return build(name, **options)


def params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def dense_params(cin: int, blocks: tuple[int, ...], k: int, bc: bool, classes: int) -> int:
    """Table 1 added up: two values a channel of batch norm before each convolution, no biases but the classifier's."""
    total = 0
    for i, layers in enumerate(blocks):
        for _ in range(layers):
            total += 2 * cin + 4 * k * cin + 2 * 4 * k + 9 * 4 * k * k if bc else 2 * cin + 9 * cin * k
            cin += k
        if i < len(blocks) - 1:
            cout = cin // 2 if bc else cin
            total += 2 * cin + cin * cout
            cin = cout
    return total + 2 * cin + cin * classes + classes


@pytest.mark.parametrize("name", [n for n in ROWS if "_" not in n] + ["densenet264_k48"])
def test_imagenet_parameters_by_hand(name: str) -> None:
    k, blocks = ROWS[name].args["growth"], ROWS[name].args["blocks"]
    stem = 7 * 7 * 3 * 2 * k + 4 * k
    net = on_meta(name)
    assert params(net) == stem + dense_params(2 * k, blocks, k, bc=True, classes=1000)
    if name != "densenet264_k48":
        weighted = 1 + 2 * sum(blocks) + 3 + 1  # the depth that names a network, but for two of them
        assert weighted == {264: 265, 232: 233}.get(named := int(name.removeprefix("densenet")), named)


@pytest.mark.parametrize("name", [n for n in ROWS if n.startswith("densenet_")])
def test_cifar_parameters_by_hand(name: str) -> None:
    depth, k, bc = ROWS[name].args["depth"], ROWS[name].args["growth"], ROWS[name].args.get("bc", False)
    width = 2 * k if bc else 16
    layers = (depth - 4) // (6 if bc else 3)
    for classes in (10, 100):
        by_hand = 27 * width + dense_params(width, (layers,) * 3, k, bc, classes)
        assert params(on_meta(name, classes=classes)) == by_hand


def test_cifar100_counts() -> None:
    published = {"densenet_40_12": 1_060_132, "densenet_100_12": 7_084_852, "densenet_bc_100_12": 800_032}
    assert {name: params(on_meta(name, classes=100)) for name in published} == published


def test_the_output_sizes_of_table_1() -> None:
    stages = {row.path: row.shape for row in account(ROWS["densenet121"]).table("stage")}
    assert stages["stem"] == (64, 56, 56)
    assert [stages[f"stages.{s}"] for s in ("dense1", "transition1", "dense2", "transition2", "dense3")] == [
        (256, 56, 56),
        (128, 28, 28),
        (512, 28, 28),
        (256, 14, 14),
        (1024, 14, 14),
    ]
    assert [stages[f"stages.{s}"] for s in ("transition3", "dense4")] == [(512, 7, 7), (1024, 7, 7)]


def test_the_blocks_read_like_table_1() -> None:
    blocks = [r.op for r in account(ROWS["densenet169"]).table("block") if r.path.startswith("stages")]
    assert blocks == ["DenseBlock", "Transition"] * 3 + ["DenseBlock"]


def test_each_layer_adds_growth_maps_and_keeps_the_earlier_ones() -> None:
    block = DenseBlock(6, 3, 4, bottleneck=True, dropout=0.0, memory_efficient=False).eval()
    x = torch.randn(2, 6, 5, 5)
    out = block(x)
    assert out.shape == (2, 6 + 3 * 4, 5, 5)
    assert torch.equal(out[:, :6], x)
    first = block.layers[0]([x])
    assert torch.equal(out[:, 6:10], first)
    assert torch.equal(out[:, 10:14], block.layers[1]([x, first]))


def test_dropout_follows_every_convolution_but_the_first() -> None:
    for name in ("densenet_40_12", "densenet_bc_100_12"):
        net = on_meta(name, dropout=0.2)
        drops = [m for m in net.modules() if isinstance(m, nn.Dropout)]
        assert len(drops) == len([m for m in net.modules() if isinstance(m, nn.Conv2d)]) - 1
        assert {m.p for m in drops} == {0.2}
        assert not [m for m in on_meta(name).modules() if isinstance(m, nn.Dropout)]


def passed(net: ConvNet, x: Tensor) -> list[Tensor]:
    """Logits, gradients and buffers after one training step's forward and backward."""
    torch.manual_seed(1)
    logits = net(x)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(x)) % logits.shape[1]).backward()
    assert all(p.grad is not None for p in net.parameters())
    return [logits, *(p.grad for p in net.parameters() if p.grad is not None), *net.buffers()]


@pytest.mark.parametrize(("name", "options"), [
    ("densenet_40_12", {}),
    ("densenet_40_12", {"dropout": 0.2}),
    ("densenet_bc_100_12", {"dropout": 0.2}),
    ("densenet121", {}),
])  # fmt: skip
def test_recomputation_changes_nothing(name: str, options: dict[str, float]) -> None:
    plain = build(name, **options).double()
    thrifty = build(name, memory_efficient=True, **options).double()
    thrifty.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    for a, b in zip(passed(plain, x), passed(thrifty, x), strict=True):
        assert torch.equal(a, b)  # batch norm's running statistics among them: each batch counts once
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), thrifty.eval()(x))


def saved_bytes(net: ConvNet, x: Tensor) -> int:
    """Bytes of the tensors that a training forward keeps for the backward pass, parameters left out."""
    own = {p.untyped_storage()._cdata for p in net.parameters()}
    kept: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage()._cdata] = t
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        net.train()(x)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in own)


def test_recomputation_saves_memory() -> None:
    x = torch.randn(2, 3, 32, 32)
    kept = {
        depth: [
            saved_bytes(build("densenet_40_12", depth=depth, memory_efficient=thrifty), x) for thrifty in (False, True)
        ]
        for depth in (22, 40, 76)  # 6, 12 and 24 layers a block
    }
    assert kept[40][1] < kept[40][0] / 4
    # what is kept grows with the square of the depth, and with the depth itself where it is computed again
    (a, b, c), (s, t, u) = ([kept[d][i] for d in kept] for i in (0, 1))
    assert (c - b) / (b - a) > 3
    assert (u - t) / (t - s) == pytest.approx(2, abs=0.2)


def test_the_memory_that_its_file_tells() -> None:
    def mib_an_image(thrifty: bool) -> float:
        net = on_meta("densenet264", memory_efficient=thrifty)
        one, two = (saved_bytes(net, torch.empty(n, 3, 224, 224, device="meta")) for n in (1, 2))
        return (two - one) / 2**20

    text = " ".join((DenseNet.__doc__ or "").split())
    assert f"{mib_an_image(True):.0f} MiB per image, not {mib_an_image(False):.0f}" in text


def test_he_initialisation() -> None:
    torch.manual_seed(0)
    net = build("densenet_bc_100_12")
    unit = next(m for m in net.modules() if isinstance(m, Composite) and m.conv.kernel_size == (1, 1))
    assert unit.conv.weight.std().item() == pytest.approx((2 / 48) ** 0.5, rel=0.1)  # fan-out: 1 * 1 * 4k
    assert net.head.linear.bias.abs().max() == 0


def test_depths_that_do_not_divide() -> None:
    with pytest.raises(UserError, match=r"depth=41 does not divide into three equal blocks; give 3n \+ 4"):
        build("densenet_40_12", depth=41)
    with pytest.raises(UserError, match=r"depth=103 does not divide into three equal blocks; give 6n \+ 4"):
        build("densenet_bc_100_12", depth=103)
    assert params(on_meta("densenet_bc_100_12", depth=16, growth=8)) == 27 * 16 + dense_params(
        16, (2, 2, 2), 8, True, 10
    )


def test_compression_is_a_share() -> None:
    """DenseNet-C: without bottlenecks, theta of the maps pass a transition: 16 + 3 * 12 = 52, of which 26 do."""
    net = on_meta("densenet_40_12", depth=13, compression=0.5)
    assert net.stages.transition1.conv.weight.shape == (26, 52, 1, 1)
    assert on_meta("densenet121", compression=1.0).stages.transition1.conv.weight.shape == (256, 256, 1, 1)
    for theta in (0, 1.5):
        with pytest.raises(
            UserError, match=f"compression={theta} is not a fraction of the maps; give one above 0 and at most"
        ):
            build("densenet121", compression=theta)


def test_too_small_an_input() -> None:
    with pytest.raises(UserError, match=r"3x28x28 does not fit the network; the smallest square that does is 3x29x29"):
        build("densenet121", input=(3, 28, 28))
    assert build("densenet_40_12", input=(3, 5, 7))(torch.randn(2, 3, 5, 7)).shape == (2, 10)
