"""account(): against torch's own counter, closed forms by hand, and the promise that the network stays as it was."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.accounting.memory.predict import memory
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import on_meta
from convatlas.report.account import report, text
from convatlas.tables import load


class Branches(nn.Module):
    """Functional operators, a shared layer, a bare parameter and an idle head, to be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.bn = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.fc = nn.Linear(4, 5)
        self.extra = nn.Linear(4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.conv(x)))
        x = x + self.conv(x)
        x = F.conv2d(x * self.scale, self.conv.weight, stride=2, groups=2)
        x = torch.cat([x, x], 1)[:, :4]
        return self.fc(x.mean((2, 3)))


def flops(net: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(shape))
    return counter.get_total_flops()


def test_by_hand() -> None:
    counted = account(Branches(), input=(4, 9, 9), batch=3)
    conv = 3 * 81 * 4 * 2 * 9  # images x positions x filters x channels a filter sees x kernel
    strided = 3 * 16 * 4 * 2 * 9
    assert counted.totals.macs == 2 * conv + strided + 3 * 4 * 5
    assert counted.totals.weights == 4 * 2 * 9 + 4 + 4 + 4 * 5
    assert counted.totals.biases == 4 + 4 + 5
    assert dict(counted.idle) == {"extra": 4 * 7 + 7}
    assert not counted.uncounted
    assert counted.totals.macs * 2 == flops(Branches(), 3, 4, 9, 9)
    assert [r.params for r in counted.rows if r.path == "conv"] == [4 * 2 * 9 + 4, 0]  # shared: its parameters once
    values = 3 * (4 * 81 + 4 * 81 + 4 * 81 + 4 * 16 + 8 * 16 + 4 + 5)  # input, conv, conv, conv, cat, mean, linear
    assert counted.totals.activations == values


def test_the_network_stays_as_it_was() -> None:
    net = Branches()
    net.bn.eval()  # a mixed mode, to be kept

    def state() -> str:
        parts = [(k, v.numpy().tobytes()) for k, v in net.state_dict().items()]
        modes = [(k, m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for k, m in net.named_modules()]
        return hashlib.sha256(repr((parts, modes, torch.get_rng_state().numpy().tobytes())).encode()).hexdigest()

    before = state()
    account(net, input=(4, 9, 9))
    assert state() == before
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_an_unknown_operator_is_confessed() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(x)

    assert account(Odd(), input=(3, 4, 4)).uncounted == ("Odd: aten.linalg_inv_ex",)
    with pytest.raises(
        UserError,
        match=r"Odd cannot be counted in full: no rule for Odd: aten.linalg_inv_ex; give strict=False",
    ):
        account(Odd(), input=(3, 4, 4), strict=True)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(3, 6, (3, 5), (2, 1), (1, 2), bias=False), (3, 17, 13)),
        (nn.ConvTranspose2d(3, 6, 4, 2, 1), (3, 7, 8)),
        (nn.Conv1d(3, 6, 3, dilation=2), (3, 20)),
        (nn.Conv3d(2, 4, 3, padding=1), (2, 5, 6, 7)),
        (nn.Linear(8, 5), (4, 8)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_macs_are_half_of_torchs_flops(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert 2 * account(module, input=shape, batch=2).totals.macs == flops(module, 2, *shape)


def test_levels_keep_the_sums() -> None:
    counted = account(Branches(), input=(4, 9, 9))
    for level in ("leaf", "layer", "block", "stage"):
        rows = counted.table(level)
        assert sum(r.macs for r in rows) == counted.totals.macs
        assert sum(r.params for r in rows) == counted.totals.params
    with pytest.raises(UserError, match="no level named 'blocks'; did you mean block"):
        counted.table("blocks")


def test_bad_requests() -> None:
    with pytest.raises(UserError, match="the input size of Conv2d is unknown; give input="):
        account(nn.Conv2d(3, 4, 3))
    with pytest.raises(UserError, match="batch=0 is not a positive integer; give a whole number of at least 1"):
        account(Branches(), input=(4, 9, 9), batch=0)
    with pytest.raises(UserError, match="option 'classes' is for building a network, but this one is already built"):
        account(Branches(), input=(4, 9, 9), classes=3)
    with pytest.raises(
        UserError, match="input 3x8x8 does not fit the network; the smallest square that does is 3x32x32"
    ):
        account("vgg11", input=(3, 8, 8))
    with on_meta():
        built = find("vgg11").build(input=(3, 64, 64))
    with pytest.raises(UserError, match="input 3x32x32 does not fit the network"):
        account(built, input=(3, 32, 32))
    with pytest.raises(UserError, match=r"no network named 'resnet5O'; did you mean .*resnet50"):
        account("resnet5O")


class Takes(nn.Module):
    """Two inputs and a keyword; a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(7, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> dict[str, tuple[torch.Tensor, ...]]:
        return {"sum": (self.a(x) + self.b(y) * scale,)}


@pytest.mark.parametrize(
    "input",
    [
        [(6,), (7,)],
        [torch.zeros(2, 6), (7,)],
        {"x": (6,), "y": torch.zeros(2, 7), "scale": 2.0},
        [(6,), (7,), 3.0],
    ],
    ids=["shapes", "tensor", "dict", "a number"],
)
def test_several_inputs_and_structured_outputs(input: object) -> None:
    counted = account(Takes(), input=input, batch=2)
    assert counted.totals.macs == 2 * (6 * 5 + 7 * 5)
    assert counted.totals.params == 6 * 5 + 7 * 5 + 10
    assert counted.input_values == 2 * (6 + 7)


def test_attention_einsum_and_functional_layers() -> None:
    """Every way of multiplying matrices: n = 2 sequences, t = 5 positions, d = 8 values, h = 2 heads."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Parameter(torch.zeros(24, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = F.linear(x, self.qkv).view(-1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return torch.einsum("ntd,nsd->nts", y, x)

    n, t, d = 2, 5, 8
    attention = n * t * t * d * 2  # scores, and the mix of values
    assert account(Attention(), input=(5, 8), batch=2).totals.macs == n * t * 3 * d * d + attention + n * t * t * d
    assert account(Attention(), input=(5, 8)).totals.params == 24 * 8
    heads = nn.MultiheadAttention(8, 2, batch_first=True)
    counted = account(heads, input=[(5, 8)] * 3, batch=2)
    assert counted.totals.macs == n * t * 4 * d * d + attention
    assert counted.totals.params == sum(p.numel() for p in heads.parameters())
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    counted = account(encoder, input=(5, 8), batch=2)
    assert counted.totals.macs == 2 * (n * t * 4 * d * d + attention + 2 * n * t * d * 16)
    assert counted.totals.params == sum(p.numel() for p in encoder.parameters())
    assert not counted.uncounted


def test_recurrent_layers() -> None:
    counted = account(nn.LSTM(4, 6, batch_first=True), input=(7, 4), batch=3)
    assert counted.totals.macs == 3 * 7 * 4 * 6 * (4 + 6)
    assert counted.totals.params == 4 * 6 * (4 + 6 + 2)


def test_tied_and_reparametrised_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    counted = account(Tied(), input=(6,))
    assert (counted.totals.weights, counted.totals.biases, counted.totals.macs) == (36, 12, 72)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    counted = account(normed, input=(3, 8, 8))
    assert counted.totals.macs == 36 * 4 * 27
    assert counted.totals.params == 4 * 27 + 4 + 4
    assert not counted.uncounted


def test_training_runs_what_training_runs() -> None:
    class Aux(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.aux, self.bn = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.dropout(self.bn(self.main(x)), training=self.training)
            return y + self.aux(x) if self.training else y

    net = Aux().eval()
    assert account(net, input=(4,), batch=2).totals.macs == 2 * 16
    counted = account(net, input=(4,), batch=2, training=True)
    assert counted.totals.macs == 4 * 16
    assert not counted.idle
    assert not net.training
    assert net.bn.num_batches_tracked == 0
    with pytest.raises(UserError, match="Aux does not run on input 1x4: Expected more than 1 value per channel"):
        account(net, input=(4,), training=True)


def test_what_meta_tensors_cannot_do_is_said() -> None:
    class Reads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(UserError, match="Reads does not run on input 1x3"):
        account(Reads(), input=(3,))
    with pytest.raises(UserError, match="input 'big' is not an image size"):
        account(Reads(), input="big")


def test_a_notebook_shows_the_layers_and_totals() -> None:
    counted = account("lenet5_tanh")
    page = counted._repr_html_()
    assert page.startswith("<table><caption>lenet5_tanh, input 1x32x32, batch 1</caption>")
    assert page.count("<tr>") == 2 + len(counted.table("layer"))
    assert '>total</th><th style="text-align:left"></th>' in page
    assert f">{counted.totals.params:,}</th>" in page
    assert f">{counted.totals.macs:,}</th>" in page

    class Odd(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.linalg.inv(a) @ b

    page = account(Odd(), input=[(4, 4), (4, 4)])._repr_html_()
    assert "<caption>Odd, input 4x4, 4x4, batch 1; not counted: Odd: aten.linalg_inv_ex</caption>" in page
    assert "&lt;lambda&gt;" in replace(counted, name="<lambda>")._repr_html_()


@pytest.mark.parametrize(
    ("input", "batch", "of", "macs"),
    [
        ((3, 32, 32), None, "an image of 3x32x32", 1),
        ((3, 32, 32), 5, "5 images of 3x32x32", 5),
        (torch.zeros(1, 3, 32, 32), None, "an image of 3x32x32", 1),
        (torch.zeros(5, 3, 32, 32), None, "5 images of 3x32x32", 5),
        (torch.zeros(5, 3, 32, 32), 2, "2 images of 3x32x32", 2),
        ([torch.zeros(5, 3, 32, 32)], None, "5 images of 3x32x32", 5),
        ({"input": torch.zeros(5, 3, 32, 32)}, None, "5 images of 3x32x32", 5),
    ],
)
def test_figures_are_for_as_many_images_as_is_said(input: Any, batch: int | None, of: str, macs: int) -> None:
    counted = account(nn.Conv2d(3, 4, 3), input, batch)
    assert counted.totals.macs == macs * 30 * 30 * 4 * 27
    assert (counted.batch, counted.input_values) == (macs, macs * 3 * 32 * 32)
    assert f"For {of}:\n" in text(counted)
    assert f"{2 * 10 * 30 * 30 * 4 * 27:,} in an epoch of 10 images" in report(counted, epoch=10).text()
    predicted = memory(nn.Conv2d(3, 4, 3), input, batch)
    plain = memory(nn.Conv2d(3, 4, 3), (3, 32, 32), counted.batch)
    assert predicted.batch == (32 if input == (3, 32, 32) and batch is None else counted.batch)
    assert (predicted.images, predicted.training) == (plain.images, plain.training)


def test_other_inputs_are_not_called_images() -> None:
    words = torch.zeros(5, 7, dtype=torch.long)
    assert "For 5 inputs of 7:\n" in text(account(nn.Embedding(10, 4), words))
    assert "For an input of 4x8:\n" in text(account(nn.Linear(8, 2), (4, 8)))
    assert "For 2 sets of inputs of 6, 7:\n" in text(account(Takes(), [torch.zeros(2, 6), torch.zeros(2, 7)]))
    assert "For a set of inputs of 6, 7:\n" in text(account(Takes(), [(6,), (7,)]))
    ids = account(nn.Embedding(10, 4), torch.zeros(5, dtype=torch.long))
    assert (ids.batch, ids.input) == (5, ())
    assert "For 5 inputs" in text(ids)
    assert "batch 5" in ids._repr_html_()


KERAS = {  # total and trainable parameters, as model.summary() prints them (keras.io/api/applications)
    "mobilenet_v1": (4_253_864, 4_231_976),
    "mobilenet_v2": (3_538_984, 3_504_872),
    "inception_v3_slim": (23_851_784, 23_817_352),
}


def test_statistics_are_what_keras_counts_and_does_not_train() -> None:
    for name, printed in KERAS.items():
        counted = account(name)
        assert counted.statistics == load(name).statistics
        assert (counted.totals.params + counted.statistics, counted.totals.params) == printed
    norms = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4))
    assert account(norms, (4, 3, 3)).statistics == 8
    assert account("vgg16").statistics == 0
