"""Blocks that three papers use alike, and ConvNet: stem -> stages -> head, the shape every network has."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .errors import UserError

Shape = tuple[int, int, int]  # C x H x W


def stack(**modules: nn.Module) -> nn.Sequential:
    """A sequence of named modules: `stack(conv=..., relu=...)`."""
    return nn.Sequential(OrderedDict(modules))


class ConvNet(nn.Module):
    """Images (N, channels, H, W) in, logits (N, classes) out. Subclasses set `stem`, `stages` and `head`."""

    stem: nn.Module
    stages: nn.Module
    head: nn.Module
    variant: str = ""  # its catalogue name, where it has one
    input: Shape | None = None  # the C x H x W it was built for
    has_unused_parameters: bool = (
        False  # whether training leaves out whole parts at random, whose parameters then get no gradient
    )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))


def shape_after(module: nn.Module, shape: Shape) -> tuple[int, ...]:
    """The shape (without the batch) that `module` makes of one image of `shape`, found on the meta device.

    Raises UserError when such an image does not pass, naming the size that `module` was built for or the smallest
    square that passes.
    """
    try:
        return _shape_after(module, shape)
    except RuntimeError as error:
        refusal = f"input {'x'.join(map(str, shape))} does not pass"
        sizes = range(1, 1025)
        at = bisect_left(sizes, True, key=lambda size: _passes(module, (shape[0], size, size)))
        if at < len(sizes):
            remedy = f"the smallest square that does is {shape[0]}x{sizes[at]}x{sizes[at]}"
        elif isinstance(module, ConvNet) and module.input:
            remedy = f"the network was built for {'x'.join(map(str, module.input))}; build it with another input"
        else:
            remedy = str(error)
        raise UserError(f"{refusal}", f"{remedy}") from error


def _shape_after(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    meta = {k: torch.empty_like(t, device="meta") for k, t in (*module.named_parameters(), *module.named_buffers())}
    dtype = next((t.dtype for t in meta.values() if t.is_floating_point()), None)
    with eval_mode(module), torch.no_grad():  # in training, batch norm refuses a single value per channel
        out = torch.func.functional_call(module, meta, torch.empty(1, *shape, dtype=dtype, device="meta"))
    return tuple(out.shape[1:])


def dense(net: ConvNet) -> ConvNet:
    """A copy of `net` with the linear layers of its head read as convolutions: logits (N, classes, 1, 1) at the size
    that `net` was built for, a map of logits on a larger image.

    The first linear layer after flattening C x H x W is a convolution of kernel H x W, any later one of kernel 1x1;
    global average pooling is an average pool of H x W. Raises UserError for a head that has no such reading.
    """
    net, shape = deepcopy(net), net.input
    assert shape is not None, "a network knows its input when the catalogue has built it"
    _, h, w = shape_after(nn.Sequential(net.stem, net.stages), shape)
    head: dict[str, nn.Module] = {}
    for name, m in net.head.named_children():
        if isinstance(m, nn.Linear):
            conv = nn.Conv2d(m.in_features // (h * w), m.out_features, (h, w), bias=m.bias is not None, device="meta")
            conv.weight, conv.bias = nn.Parameter(m.weight.detach().view(conv.weight.shape)), m.bias
            head[name], h, w = conv, 1, 1
        elif isinstance(m, nn.AdaptiveAvgPool2d) and m.output_size in (1, (1, 1)):
            head[name], h, w = nn.AvgPool2d((h, w), stride=1), 1, 1
        elif isinstance(m, (nn.ReLU, nn.Tanh, nn.Dropout)):
            head[name] = m
        elif not isinstance(m, nn.Flatten):
            raise UserError(
                f"{net.variant or type(net).__name__} has no dense reading: its head has a {type(m).__name__}"
            )
    net.head = stack(**head)
    return net


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards every submodule is in the mode it had."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """While a batch passes a second time, to be differentiated, batch norm's running statistics stay."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, batches


def _passes(module: nn.Module, shape: Shape) -> bool:
    try:
        _shape_after(module, shape)
    except RuntimeError:
        return False
    return True


class _NoFill(TorchFunctionMode):
    """Leaves tensors as they are when an initialisation would fill them with random numbers."""

    FILLS = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self.FILLS else func(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Networks built here have shapes and no values: nothing is allocated, nothing initialised."""
    with torch.device("meta"), _NoFill():
        yield


class ConvBN(nn.Sequential):
    """Convolution without bias, batch norm, activation; padded so that stride 1 keeps the size (odd kernels).

    `padding` may also be "same": TensorFlow's, as in ConvSame.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        *,
        padding: int | tuple[int, int] | Literal["same"] | None = None,
        groups: int = 1,
        eps: float = 1e-5,
        act: type[nn.Module] | None = nn.ReLU,
    ):
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (kh // 2, kw // 2) if padding is None else padding
        if pad == "same":
            conv: nn.Conv2d = ConvSame(cin, cout, (kh, kw), stride, groups=groups)
        else:
            conv = nn.Conv2d(cin, cout, (kh, kw), stride, pad, groups=groups, bias=False)
        modules: dict[str, nn.Module] = {"conv": conv, "bn": nn.BatchNorm2d(cout, eps=eps)}
        if act is not None:
            modules["act"] = act()
        super().__init__(OrderedDict(modules))


class Concat(nn.Module):
    """Branches side by side on the same input, their outputs joined along the channels in the order given."""

    def __init__(self, **branches: nn.Module):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class ConvSame(nn.Conv2d):
    """TensorFlow's "SAME" convolution: the output is ceil(size / stride), the odd pixel of padding goes after."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
    ):
        super().__init__(cin, cout, kernel, stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = pads = same_padding(x.shape[2:], self.kernel_size, self.stride)
        if left == right and top == bottom:  # the convolution itself can pad both sides alike, without a copy
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        return super().forward(F.pad(x, pads))

    def extra_repr(self) -> str:
        return super().extra_repr() + ", padding=same"


def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's "SAME" padding of an H x W map as F.pad takes it: left, right, top, bottom; the odd pixel after."""
    pads: list[int] = []
    for n, k, s in zip(reversed(size), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [total // 2, total - total // 2]
    return pads


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` (N, C, H, W) padded as TensorFlow's "SAME": the smaller half before, the larger after."""
    return F.pad(x, same_padding(x.shape[2:], kernel, stride), value=value)


class LRN(nn.Module):
    """Local response normalisation across channels: a / (k + alpha * sum of a^2 over n neighbours) ^ beta.

    The formula and constants of Krizhevsky et al. (2012), section 3.3. Caffe and torch divide alpha by n:
    `divided=True` does so too, for weights that were trained there.
    """

    def __init__(self, n: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, divided: bool = False):
        super().__init__()
        self.n, self.alpha, self.beta, self.k, self.divided = n, alpha, beta, k, divided

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha if self.divided else self.alpha * self.n
        return F.local_response_norm(x, self.n, alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"n={self.n}, alpha={self.alpha}, beta={self.beta}, k={self.k}, divided={self.divided}"


class DropPath(nn.Dropout):
    """Stochastic depth by sample: in training, each sample (of a residual branch) is zero with probability p.

    The others are divided by 1 - p. As with the dropout that it is, `p = 0` switches it off.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - self.p)
        return x * (kept / (1 - self.p) if self.p < 1 else kept)


def classifier(cin: int, classes: int, dropout: float = 0.0) -> nn.Sequential:
    """Global average pooling, dropout, one linear layer: (N, cin, H, W) -> (N, classes)."""
    return stack(
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        **({"dropout": nn.Dropout(dropout)} if dropout else {}),
        linear=nn.Linear(cin, classes),
    )


def he_(net: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """He et al. (2015) initialisation: convolutions normal with variance 2 / fan, their biases zero."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode=mode, nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
