"""Models that nobody here wrote: operators of every kind, networks as users write them, and a sample of timm's.

Multiply-adds are held against torch's own counter wherever that sees the operators; where it does not, they are worked
by hand. What has no rule is listed, never left out in silence. Nothing changes in a module.
"""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.accounting.memory.predict import memory
from convatlas.accounting.operators import kind
from convatlas.errors import UserError
from tests.oracles import timm


def state(net: nn.Module) -> str:
    """All that a module is: tensors, modes, hooks, attributes; and the random numbers that come next."""
    own = []
    for path, m in net.named_modules():
        for name, value in sorted(vars(m).items()):
            held = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
            own.append((path, name, [id(h) if isinstance(h, Tensor | nn.Module) else repr(h)[:200] for h in held]))
    tensors = [(k, t._version, *values(t)) for k, t in net.state_dict().items()]
    drawn = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    return hashlib.sha256(repr((own, tensors, drawn)).encode()).hexdigest()


def values(t: Tensor) -> tuple[str, str]:
    whole = t.detach().contiguous().view(torch.uint8) if t.numel() and t.ndim and t.device.type == "cpu" else t
    return str(t.dtype), hashlib.sha256(whole.numpy()).hexdigest() if whole is not t else repr(t)


def flops(net: nn.Module, *inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.eval()(*inputs)
    return counter.get_total_flops()


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


class Does(nn.Module):
    def __init__(self, does: Callable[..., Any], layer: nn.Module | None = None):
        super().__init__()
        self.does, self.layer = does, layer

    def forward(self, *x: Tensor) -> Any:
        return self.does(*x) if self.layer is None else self.does(self.layer, *x)


class Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def every_activation() -> nn.Module:
    kinds = (
        *(nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.Mish, nn.Softplus, nn.Hardswish, nn.Hardshrink, nn.Softshrink),
        *(nn.Tanhshrink, nn.Softsign, nn.LogSigmoid, nn.RReLU, nn.Hardsigmoid, nn.Hardtanh, nn.ReLU6, nn.LeakyReLU),
        *(nn.Sigmoid, nn.SiLU, nn.Softmax2d, nn.Tanh),
    )
    return nn.Sequential(nn.Conv2d(4, 4, 1), *(kind() for kind in kinds), nn.GLU(1), nn.PReLU(2))


SEEN = {  # what torch's counter sees; inputs without the batch
    "RNN": (nn.RNN(4, 6, batch_first=True), [(7, 4)]),
    "GRU": (nn.GRU(4, 6, num_layers=2, bidirectional=True, batch_first=True), [(7, 4)]),
    "LSTM with projection": (nn.LSTM(4, 6, batch_first=True, proj_size=3), [(7, 4)]),
    "LSTMCell": (nn.LSTMCell(4, 6), [(4,)]),
    "attention with biases": (
        nn.MultiheadAttention(8, 2, batch_first=True, kdim=6, vdim=7, add_bias_kv=True, add_zero_attn=True),
        [(5, 8), (4, 6), (4, 7)],
    ),
    "a function of one's own": (Does(lambda c, x: Clamp.apply(c(x)), nn.Conv2d(3, 4, 3)), [(3, 8, 8)]),
    "weight norm": (parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), [(3, 8, 8)]),
    "ConvTranspose1d": (nn.ConvTranspose1d(3, 4, 3, 2, 1, 1), [(3, 9)]),
    "ConvTranspose3d": (nn.ConvTranspose3d(3, 4, 3, 2, 1, 1, groups=1), [(3, 5, 5, 5)]),
    "unfold and fold": (
        nn.Sequential(nn.Unfold(3, padding=1), nn.Conv1d(27, 27, 1), nn.Fold((8, 8), 3, padding=1)),
        [(3, 8, 8)],
    ),
    "activations": (every_activation(), [(4, 8, 8)]),
    "norms": (
        nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm((4, 8, 8)), nn.RMSNorm((8,))),
        [(4, 8, 8)],
    ),
    "pools": (nn.Sequential(nn.LPPool2d(2, 2), nn.AdaptiveMaxPool2d(3), nn.MaxPool2d(2, 1)), [(4, 8, 8)]),
    "pools of volumes": (nn.Sequential(nn.AvgPool3d(2), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1)), [(4, 8, 8, 8)]),
    "pads": (nn.Sequential(nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.CircularPad2d(1)), [(4, 8, 8)]),
    "padding modes": (nn.Conv2d(4, 4, 4, padding="same", padding_mode="reflect"), [(4, 8, 8)]),
    "upsampling": (
        nn.Sequential(nn.Upsample(scale_factor=2, mode="bicubic"), nn.PixelShuffle(2), nn.ChannelShuffle(1)),
        [(4, 4, 4)],
    ),
    "three in one einsum": (
        Does(lambda a, b, c: torch.einsum("nij,njk,nkl->nil", a, b, c)),
        [(3, 4), (4, 5), (5, 6)],
    ),
    "a convolution by a function": (
        Does(lambda c, x: F.conv2d(x, c.weight * 2, c.bias), nn.Conv2d(3, 4, 3)),
        [(3, 8, 8)],
    ),
    "checkpoint": (
        Does(lambda c, x: torch.utils.checkpoint.checkpoint(c, x, use_reentrant=False), nn.Conv2d(3, 4, 3)),
        [(3, 8, 8)],
    ),
    "vmap": (Does(lambda c, x: torch.vmap(c)(x), nn.Linear(4, 4)), [(5, 4)]),
    "half precision": (nn.Conv2d(3, 4, 3).half(), [(3, 8, 8)]),
    "a traced graph": (torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3))), [(3, 8, 8)]),
}


@pytest.mark.parametrize("what", SEEN)
def test_operators_that_torch_counts_too(what: str) -> None:
    net, shapes = SEEN[what]
    before = state(net)
    counted = account(net, input=shapes, batch=2, strict=True)
    assert state(net) == before
    dtype = next((p.dtype for p in net.parameters()), torch.float32)
    assert 2 * counted.totals.macs == flops(net, *(torch.ones(2, *s, dtype=dtype) for s in shapes))
    assert counted.totals.params + counted.totals.idle == parameters(net)


UNSEEN = {  # module, inputs, multiply-adds of a batch of 2 by hand: torch counts none of these, or a part
    "LSTM": (nn.LSTM(4, 6, batch_first=True, num_layers=2), [(7, 4)], 2 * 7 * (4 * 6 * (4 + 6) + 4 * 6 * (6 + 6))),
    "the fast path of an encoder": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        [(5, 8)],
        2 * (5 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 5 * 5 * 8),
    ),
    "attention with a mask": (
        Does(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        [(2, 5, 8)] * 3,
        2 * 2 * 2 * 5 * 5 * 8,
    ),
    "Bilinear": (nn.Bilinear(4, 5, 6), [(4,), (5,)], 2 * 4 * 5 * 6),
    "spectral norm": (nn.utils.spectral_norm(nn.Linear(8, 4)), [(8,)], 2 * 8 * 4 + 8 * 4 + 4),  # sigma = u.(W v)
    "a grid to sample at": (
        Does(
            lambda c, x: F.grid_sample(x, F.affine_grid(c(x.flatten(1)).view(-1, 2, 3), list(x.shape))),
            nn.Linear(192, 6),
        ),
        [(3, 8, 8)],
        2 * (192 * 6 + 64 * 2 * 3),
    ),
    "matrix and vector": (Does(lambda a, b: torch.addmv(a[0], b[0], a[0])), [(3,), (3, 3)], 9),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("what", UNSEEN)
def test_operators_that_torch_does_not_count(what: str) -> None:
    net, shapes, macs = UNSEEN[what]
    net = net.eval()
    before = state(net)
    counted = account(net, input=shapes, batch=2, strict=True)
    assert state(net) == before
    assert counted.totals.macs == macs
    assert counted.totals.params + counted.totals.idle == parameters(net)


@pytest.mark.parametrize(
    ("does", "missing"),
    [
        (lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), ["aten._fft_r2c", "aten._fft_c2r"]),
        (lambda x: torch.linalg.inv(x), ["aten.linalg_inv_ex"]),
        (lambda x: torch.matrix_exp(x), ["aten.linalg_matrix_exp"]),
        (lambda x: torch.cdist(x, x), ["aten._cdist_forward"]),
    ],
    ids=["fft", "inv", "matrix_exp", "cdist"],
)
def test_what_has_no_rule_is_listed(does: Callable[[Tensor], Tensor], missing: list[str]) -> None:
    assert account(Does(does), input=(3, 8, 8)).uncounted == tuple(f"Does: {op}" for op in missing)
    with pytest.raises(UserError, match="Does cannot be counted in full: no rule for Does: aten"):
        account(Does(does), input=(3, 8, 8), strict=True)


FREE: dict[str, Callable[[Tensor], Any]] = {
    "squeeze_": lambda x: x[:, None].clone().squeeze_(1),
    "unsqueeze_": lambda x: x.clone().unsqueeze_(1),
    "t_": lambda x: x[0, 0].clone().t_(),
    "transpose_": lambda x: x.clone().transpose_(1, 2),
    "set_": lambda x: torch.empty_like(x).set_(x.clone()),
    "view_as_real": lambda x: torch.view_as_real(torch.complex(x, x)),
    "view_as_complex": lambda x: torch.view_as_complex(x.view(2, 3, 8, 4, 2)),
    "polar": lambda x: torch.polar(x.abs(), x).abs(),
    "addcmul_": lambda x: x.clone().addcmul_(x, x),
    "addcdiv_": lambda x: x.clone().addcdiv_(x, x),
    "lerp_": lambda x: x.clone().lerp_(x, 0.5),
    "threshold_": lambda x: F.threshold_(x.clone(), 0.1, 0.2),
    "trunc": torch.trunc,
    "hypot": lambda x: torch.hypot(x, x),
    "acos": torch.acos,
    "atanh_": lambda x: x.clone().atanh_(),
    "erfinv": torch.erfinv,
    "sinc": torch.sinc,
    "logit": torch.logit,
    "logaddexp": lambda x: torch.logaddexp(x, x),
    "a Bessel function": torch.special.bessel_j0,
    "lgamma": lambda x: x.lgamma() + x.digamma(),
    "heaviside": lambda x: torch.heaviside(x, x),
    "copysign_": lambda x: x.clone().copysign_(x),
    "cumprod": lambda x: x.cumprod(1),
    "cumsum_": lambda x: x.clone().cumsum_(1),
    "cummax": lambda x: x.cummax(1),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "median": lambda x: x.median(1),
    "nanmedian": lambda x: x.nanmedian(),
    "mode": lambda x: x.mode(1),
    "kthvalue": lambda x: x.kthvalue(2, 1),
    "aminmax": lambda x: x.aminmax(dim=1),
    "count_nonzero": lambda x: x.count_nonzero(1),
    "nansum": torch.nansum,
    "dist": lambda x: torch.dist(x, x),
    "renorm": lambda x: x.renorm(2, 0, 1.0),
    "cross": lambda x: torch.linalg.cross(x, x, dim=1),
    "trace": lambda x: x[0, 0].trace(),
    "diag_embed": torch.diag_embed,
    "block_diag": lambda x: torch.block_diag(x[0, 0], x[0, 1]),
    "masked_scatter": lambda x: x.masked_scatter(x > 0, x),
    "index_fill": lambda x: x.index_fill(1, torch.zeros(1, dtype=torch.long, device=x.device), 1.0),
    "index_copy": lambda x: x.index_copy(1, torch.zeros(1, dtype=torch.long, device=x.device), x[:, :1]),
    "scatter_reduce": lambda x: x.scatter_reduce(1, x.long(), x, "amax"),
    "select_scatter": lambda x: x.select_scatter(x[:, 0], 1, 0),
    "take": lambda x: x.take(x.long()),
    "rot90": lambda x: x.rot90(1, (2, 3)),
    "bucketize": lambda x: torch.bucketize(x, x[0, 0, 0]),
    "searchsorted": lambda x: torch.searchsorted(x, x),
    "isin": lambda x: torch.isin(x, x),
    "nothing": lambda x: x,
    "bitwise_xor_": lambda x: x.long().bitwise_xor_(x.long()),
    "a shift": lambda x: x.long() << 1,
    "floor_divide": lambda x: x // 2,
    "foreach": lambda x: torch._foreach_mul([x, x], 2.0),
    "normal_": lambda x: x.clone().normal_(),
    "exponential_": lambda x: x.clone().exponential_(),
    "mse_loss": lambda x: F.mse_loss(x, x),
    "l1_loss": lambda x: F.l1_loss(x, x),
    "huber_loss": lambda x: F.huber_loss(x, x) + F.smooth_l1_loss(x, x),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x, x),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits(x, x),
    "cross_entropy": lambda x: F.cross_entropy(x, x.argmax(1)) + F.cross_entropy(x[:, :, 0, 0], x[:, 0, 0, 0].long()),
    "kl_div": lambda x: F.kl_div(x, x),
    "margin losses": lambda x: F.multi_margin_loss(x[:, :, 0, 0], x[:, 0, 0, 0].long()) + F.soft_margin_loss(x, x),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("what", FREE)
def test_operators_that_multiply_no_matrices_are_not_missing(what: str) -> None:
    counted = account(Does(FREE[what]), input=(3, 8, 8), batch=2, strict=True)
    assert (counted.totals.macs, counted.uncounted) == (0, ())


def test_every_operator_of_torch_without_a_rule_multiplies_matrices() -> None:
    """So that whoever meets a new one puts it in its list."""
    multiplies = (
        *(
            "mm",
            "matmul",
            "conv",
            "linear",
            "linalg",
            "cholesky",
            "solve",
            "attention",
            "transformer",
            "multi_head",
            "dist",
        ),
        *("rnn", "lstm", "gru", "fft", "qr", "geqrf", "slow_", "affine_grid", "mixed_dtypes"),
    )
    others = (  # of tests, optimizers, nested and semi-structured tensors, and of particular devices
        *("_test_", "_foobar", "_fused_", "_nested_", "_sparse_semi", "_to_sparse_semi", "_cslt", "_convert_weight"),
        *(
            "_amp_",
            "_philox_key",
            "_dyn_quant",
            "_copy_from",
            "_cudnn_init",
            "_use_",
            "_fill_mem",
            "_triton",
            "_sparse_mm",
        ),
    )
    missing = []
    for name in {s.name for s in torch._C._jit_get_all_schemas() if s.name.startswith("aten::")}:
        op = getattr(torch.ops.aten, name.removeprefix("aten::"), None)
        overloads = [getattr(op, o) for o in op.overloads()] if op else []
        overloads = [o for o in overloads if "Tensor" in str(o._schema) and torch._C._dispatch_has_kernel(o.name())]
        composite = [
            torch._C._dispatch_has_kernel_for_dispatch_key(o.name(), "CompositeImplicitAutograd") for o in overloads
        ]
        if kind(name.removeprefix("aten::")) is None and not all(composite):
            missing.append(name.removeprefix("aten::"))
    assert not [n for n in missing if not n.startswith(others) and not any(m in n for m in multiplies)]
    assert "_fft_r2c" in missing


@pytest.mark.parametrize(
    ("does", "shapes", "macs"),
    [
        (lambda x, w, b: torch.conv_tbc(x, w, b), [(7, 2, 4), (3, 4, 6), (6,)], 720),
        (lambda x, w, b: torch.conv_tbc(x, w, b, 1), [(7, 2, 4), (3, 4, 6), (6,)], 7 * 2 * 6 * 12),
        (torch._grouped_mm, [(2, 5, 16), (2, 16, 8)], 2 * 5 * 16 * 8),
        (lambda a, b: torch._grouped_mm(a, b, offs=ends(a)), [(10, 16), (2, 16, 8)], 10 * 16 * 8),
        (lambda a, b: torch._grouped_mm(a, b, offs=ends(a)), [(2, 5, 16), (16, 8)], 5 * 16 * 8),
        (lambda a, b: torch._grouped_mm(a, b, offs=ends(a)), [(8, 16), (16, 8)], 8 * 16 * 8),
        (lambda a, b: a[:, :8].clone().addmm_(a, b), [(10, 16), (16, 8)], 10 * 16 * 8),
        (lambda a, b: a[:, :, :8].clone().baddbmm_(a, b), [(2, 5, 16), (2, 16, 8)], 2 * 5 * 16 * 8),
        (lambda a, b: torch._addmm_activation(a[0, :8], a, b), [(10, 16), (16, 8)], 10 * 16 * 8),
        (lambda a, b: torch._int_mm(a.to(torch.int8), b.to(torch.int8)), [(32, 16), (16, 8)], 32 * 16 * 8),
    ],
    ids=["tbc", "padded tbc", "groups", "of rows", "of columns", "of sums", "addmm_", "baddbmm_", "gelu", "int8"],
)
def test_rare_products(does: Callable[..., Tensor], shapes: list[tuple[int, ...]], macs: int) -> None:
    """Grouped, in bfloat16; the first axis is taken as it is."""
    dtype = torch.bfloat16 if does is torch._grouped_mm or "_grouped_mm" in does.__code__.co_names else torch.float32
    counted = account(Does(does), input=[torch.zeros(s, dtype=dtype) for s in shapes], strict=True)
    assert counted.totals.macs == macs


def ends(a: Tensor) -> Tensor:
    return torch.zeros(2, dtype=torch.int32, device=a.device)


def test_embeddings_take_indices() -> None:
    words = torch.zeros(2, 5, dtype=torch.long)
    counted = account(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3)), input=words, strict=True)
    assert (counted.totals.macs, counted.totals.params) == (2 * 5 * 4 * 3, 10 * 4 + 4 * 3 + 3)
    assert account(nn.EmbeddingBag(10, 4), input=words, strict=True).totals.params == 40


def test_what_cannot_be_counted_says_why() -> None:
    with pytest.raises(UserError, match="LazyConv2d has parameters without a shape yet; run it once before counting"):
        account(nn.LazyConv2d(4, 3), input=(3, 8, 8))
    sparse = account(Does(lambda x: torch.sparse.mm(x[0].to_sparse(), x[0].T)), input=(3, 4))
    assert sparse.uncounted == ("Does: aten._sparse_addmm",)
    wrapped = nn.DataParallel(nn.Conv2d(3, 4, 3))
    assert account(wrapped, input=(3, 8, 8)).totals.macs == 36 * 4 * 27


# Networks as users write them


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.middle = nn.Conv2d(16, 32, 3, padding=1)
        self.up2, self.join2 = nn.ConvTranspose2d(32, 16, 2, 2), nn.Conv2d(32, 16, 3, padding=1)
        self.up1, self.join1 = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.down1(x))
        two = F.relu(self.down2(F.max_pool2d(one, 2)))
        x = F.relu(self.middle(F.max_pool2d(two, 2)))
        x = F.relu(self.join2(torch.cat([self.up2(x), two], 1)))
        x = F.relu(self.join1(torch.cat([self.up1(x), one], 1)))
        return self.last(x)


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(True), nn.Flatten())
        self.compare = nn.Linear(8 * 15 * 15, 16)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return F.cosine_similarity(self.compare(self.tower(one)), self.compare(self.tower(other)))


class Reader(nn.Module):
    """Words in, classes out: an embedding, an LSTM, its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(100, 16), nn.LSTM(16, 32, batch_first=True)
        self.classes = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        _, (last, _) = self.lstm(self.words(words))
        return self.classes(last[-1])


class Detector(nn.Module):
    """A dict of lists out; remembers what it has made for the size of the image, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.heads = nn.Conv2d(3, 8, 3, 2, 1), nn.ModuleList([nn.Conv2d(8, 4, 1), nn.Conv2d(8, 6, 1)])
        self.anchors: dict[tuple[int, ...], Tensor] = {}
        self.calls, self.last = 0, None

    def forward(self, x: Tensor, scale: float = 1.0) -> dict[str, Any]:
        x = self.body(x).relu()
        self.calls += 1
        self.last = x
        size = tuple(x.shape[2:])
        if size not in self.anchors:
            self.anchors[size] = torch.zeros(size, device=x.device)
            self.register_buffer("seen", x.mean())
        return {"boxes": [head(x) * scale for head in self.heads], "anchors": self.anchors[size]}


def test_u_net() -> None:
    net = UNet()
    counted = account(net, input=(1, 32, 32), batch=2, strict=True)
    assert 2 * counted.totals.macs == flops(net, torch.zeros(2, 1, 32, 32))
    assert counted.totals.params == parameters(net)
    assert counted.depth == 8, "down, down, middle, up, join, up, join, last"
    fields = {r.path: r for r in counted.rows}
    assert fields["middle"].receptive_field == (18, 18), "3, pool 4, 8, pool 10, 18"
    assert (fields["last"].receptive_field, fields["last"].jump) == ((26, 26), (1, 1)), "two steps of 4 more"


def test_siamese_towers() -> None:
    net = Siamese()
    counted = account(net, input=[(3, 32, 32), (3, 32, 32)], batch=2, strict=True)
    assert 2 * counted.totals.macs == flops(net, *[torch.zeros(2, 3, 32, 32)] * 2)
    assert counted.totals.params == parameters(net), "shared, once"
    assert [r.params for r in counted.rows if r.path == "compare"] == [8 * 15 * 15 * 16 + 16, 0]


def test_a_reader_of_words() -> None:
    counted = account(Reader(), input=torch.zeros(3, 7, dtype=torch.long), strict=True)
    assert counted.totals.macs == 3 * 7 * 4 * 32 * (16 + 32) + 3 * 32 * 4
    assert counted.totals.params == parameters(Reader())


def test_what_a_network_keeps_for_later_is_put_back() -> None:
    net = Detector()
    before = state(net)
    counted = account(net, input={"x": (3, 32, 32), "scale": 2.0}, strict=True)
    assert state(net) == before
    assert (net.calls, net.last, net.anchors) == (0, None, {})
    assert counted.totals.macs == 16 * 16 * 8 * 27 + 16 * 16 * 8 * (4 + 6)
    memory(net, (3, 32, 32), batch=2)
    assert state(net) == before
    assert net(torch.zeros(1, 3, 32, 32))["anchors"].device.type == "cpu", "it still runs"
    assert state(net) != before, "which a state shows"


@pytest.mark.parametrize("training", [False, True])
def test_what_draws_goes_on_as_before(training: bool) -> None:
    def drawing(x: Tensor) -> Tensor:
        keep = torch.rand(()) + random.random() + float(np.random.rand())  # noqa: NPY002
        return F.dropout(x * keep.to(x.device), 0.5, training=True)

    net = Does(drawing)
    before = state(net)
    account(net, input=(3, 8, 8), training=training)
    assert state(net) == before


# One network drawn at random from each of timm's files, of those with less than 40 million parameters
TIMM = """
    lamhalobotnet50ts_256 mobileone_s3 cait_xxs24_384 coat_tiny convit_tiny convmixer_768_32 test_convnext2
    cpubone_b1_bfrobust crossvit_15_240 csatv2_21m cs3darknet_focus_l cspnext_m davit_tiny
    deit_tiny_distilled_patch16_224 densenet161 dla60x dpn92 edgenext_small_rw efficientformer_l3
    efficientformerv2_s1 mobilenetv2_050 efficientvim_m1_dist efficientvit_b0 efficientvit_m0
    vit_pe_spatial_tiny_patch16_512 fasternet_s fastvit_mci2 focalnet_tiny_lrf gcvit_xxtiny ghostnetv2_160
    hardcorenas_e hgnetv2_b4 hiera_small_abswin_256 sam2_hiera_tiny hrnet_w18_small_v2 iformer_m
    inception_next_atto inception_v3 lcnetv2_base levit_conv_384_s8 lowformer_e2 test_mambaout
    maxvit_tiny_pm_256 caformer_s36 gmixer_12_224 mobilenetv4_conv_aa_medium mobilevitv2_175 mvitv2_small
    nest_tiny_jx nextvit_small nf_regnet_b3 pit_s_224 pvt_v2_b2_li rdnet_tiny regnetx_006 repghostnet_080
    repvit_m0_9 res2net50d resnest14d seresnext26d_32x4d resnetv2_50d_evos rexnetr_150 selecsls60
    legacy_seresnet18 sequencer2d_s shvit_s1 skresnext50_32x4d starnet_s050 swiftformer_l3
    swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m
    twins_svt_small visformer_tiny vit_small_patch32_384 vit_small_r26_s32_384 vit_relpos_small_patch16_224
    volo_d1_384 ese_vovnet57b legacy_xception xception65 xcit_small_12_p16_384
"""


@pytest.mark.slow
@pytest.mark.oracles
@pytest.mark.parametrize("name", TIMM.split())
def test_timm_s_networks(name: str) -> None:
    """On the meta device, as they are: multiply-adds as torch counts, every parameter, nothing unknown or changed."""
    with torch.device("meta"):
        net = timm().create_model(name).eval()
    shape = net.default_cfg["input_size"]
    before = state(net)
    counted = account(net, input=shape, strict=True)
    assert state(net) == before
    assert counted.totals.params + counted.totals.idle == parameters(net)
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, *shape, device="meta"))
    assert 2 * counted.totals.macs == counter.get_total_flops()


@pytest.mark.oracles
@pytest.mark.parametrize("name", ["resnet10t", "lcnet_050", "test_vit", "test_convnext", "test_byobnet"])
def test_timm_s_networks_with_values(name: str) -> None:
    """Built on the CPU, they stay as they were to the last bit, and still run."""
    net = timm().create_model(name).train()
    shape = (3, 160, 160)
    x = torch.zeros(2, *shape)
    net.eval()(x)  # what it keeps from its first pass, it has
    before = state(net)
    account(net, input=shape, strict=True)
    account(net, input=shape, batch=2, training=True)
    memory(net, shape, batch=2)
    assert state(net) == before
    assert net(x).shape == (2, 1000)
