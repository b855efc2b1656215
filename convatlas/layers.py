"""Blocks shared by at least three papers, and ConvNet: stem -> stages -> head, the structure of every network."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial, reduce
from operator import add
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .errors import UserError

Shape = tuple[int, int, int]  # C x H x W


def stack(**modules: nn.Module) -> nn.Sequential:
    """A sequence of named modules: `stack(conv=..., relu=...)`."""
    return nn.Sequential(OrderedDict(modules))


class Feature(NamedTuple):
    """The feature map of a stage."""

    name: str  # of the stage
    channels: int
    stride: int  # image pixels between neighbouring positions of the map


class ConvNet(nn.Module):
    """Images (N, channels, H, W) in, logits (N, classes) out. Subclasses set `stem`, `stages` and `head`."""

    stem: nn.Module
    stages: nn.Module
    head: nn.Module
    variant: str = ""  # its catalogue name, where it has one
    input: Shape | None = None  # the C x H x W it was built for
    has_unused_parameters: bool = False  # training skips whole parts at random, so their parameters may get no gradient
    init_images: int = 0  # how many training images `init_from_data` looks at

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))

    def features(self, x: Tensor) -> list[Tensor]:
        """The output map (N, C, H, W) of each stage, in order; `feature_info` describes them."""
        maps: list[Tensor] = []
        x = self.stem(x)
        for stage in self.stages.children():
            x = stage(x)
            maps.append(x[-1] if isinstance(x, tuple) else x)  # a stage that passes on earlier maps puts its own last
        return maps

    @property
    def feature_info(self) -> tuple[Feature, ...]:
        """Each stage's name, channels and stride, found on the meta device for images of `input`."""
        if self.input is None:
            raise UserError(f"the input size of {type(self).__name__} is unknown", "set its input, (channels, H, W)")
        c, h, w = self.input
        small, large = (meta_output(FeaturesOf(self), (c, h + more, w + more)) for more in (0, GROWTH_PX))
        names = [name for name, _ in self.stages.named_children()]
        return tuple(
            Feature(name, one.shape[1], GROWTH_PX // (two.shape[2] - one.shape[2]))
            for name, one, two in zip(names, small, large, strict=True)
        )

    def trunk(self, last: str | None = None) -> nn.Sequential:
        """The stem and the stages as one module; with `last`, only the stages up to and including it."""
        if last is None:
            return nn.Sequential(self.stem, self.stages)
        names = [name for name, _ in self.stages.named_children()]
        return nn.Sequential(self.stem, *list(self.stages.children())[: names.index(last) + 1])

    @property
    def has_aux(self) -> bool:
        """Whether there are auxiliary classifiers, which are used only in training, by `forward_aux`."""
        return False

    def forward_aux(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits, and those of each auxiliary classifier, keyed by the stage that it reads."""
        return self(x), {}

    def reset_head(self, classes: int) -> None:
        """Replaces the final linear layer (and that of each auxiliary classifier) by a new one for `classes`.

        The new layers are initialised as in the paper. With 0 classes the network returns features (N, F) instead of
        logits, the F numbers that its classifier reads, averaged over the map where that is a convolution; so does
        each auxiliary classifier in `forward_aux`. A later call with classes puts classifiers back.
        Raises UserError for an invalid number of classes.
        """
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
            raise UserError(f"classes={classes!r} is not a number of classes", "give at least 1, or 0 for features")
        for path in self.logits_layers:
            self.set_submodule(path, self._new_logits_layer(self.get_submodule(path), classes))

    @property
    def logits_layers(self) -> list[str]:
        """The paths of the final layers: the last linear layer of the head and of each auxiliary head.

        Where what follows the layer is by class, too, as batch norm is, they are together one final layer.
        """
        aux = [f"aux.{name}" for name, _ in self.get_submodule("aux").named_children()] if self.has_aux else []
        return [last_linear(self, head) for head in ("head", *aux)]

    def init_classifier(self, layer: nn.Module) -> None:
        """Initialises a final layer as the paper does. By default torch's initialisation is kept."""

    def init_from_data(self, images: Tensor) -> None:
        """Initialises what depends on the data from `init_images` normalised training images (n, channels, H, W)."""

    def set_progress(self, progress: float) -> None:
        """Called before each step with the fraction of training done, in [0, 1]: scheduled settings follow it."""

    def _new_logits_layer(self, old: nn.Module, classes: int) -> nn.Module:
        make = old.make if isinstance(old, NoLogits) else self._logits_maker(old)
        if classes == 0:
            return NoLogits(make)
        like = next(self.parameters())
        with torch.device(like.device):
            new = make(classes)
        self.init_classifier(new)
        return new.to(like.dtype).train(old.training)

    def _logits_maker(self, old: nn.Module) -> Callable[[int], nn.Module]:
        """A function that makes a final layer like this one, given the number of classes."""
        match old:
            case nn.Linear():
                return partial(type(old), old.in_features, bias=old.bias is not None)
            case nn.Conv2d():
                assert old.kernel_size == (1, 1), "logits at each position"
                return partial(nn.Conv2d, old.in_channels, kernel_size=1, padding=old.padding)  # type: ignore[arg-type]
        raise TypeError(f"{type(old).__name__} is not a final layer")


GROWTH_PX = 2**6 * 3**3 * 5 * 7  # a multiple of any stride: this many more pixels make this / stride more positions


class FeaturesOf(nn.Module):
    def __init__(self, net: ConvNet):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net.features(x)


class NoLogits(nn.Identity):
    """Replaces a final layer and passes its input through; `make` creates such a layer again, for some classes."""

    def __init__(self, make: Callable[[int], nn.Module]):
        super().__init__()
        self.make = make


def last_linear(net: nn.Module, head: str) -> str:
    """The path of the last linear layer of the module at `head`."""
    modules = net.get_submodule(head).named_modules(prefix=head)
    return [path for path, m in modules if isinstance(m, nn.Linear | NoLogits)][-1]


def shape_after(module: nn.Module, shape: Shape) -> tuple[int, ...]:
    """The output shape (without the batch) of `module` for one image of `shape`, computed on the meta device.

    Raises UserError for an image that `module` cannot take, naming the size that it was built for or the smallest
    square that it takes.
    """
    try:
        return _shape_after(module, shape)
    except RuntimeError as error:
        refusal = f"input {'x'.join(map(str, shape))} does not fit the network"
        sizes = range(1, 1025)
        at = bisect_left(sizes, True, key=lambda size: _passes(module, (shape[0], size, size)))
        if at < len(sizes):
            remedy = f"the smallest square that does is {shape[0]}x{sizes[at]}x{sizes[at]}"
        elif isinstance(module, ConvNet) and module.input:
            remedy = f"the network was built for {'x'.join(map(str, module.input))}; build it with another input"
        else:
            remedy = str(error)
        raise UserError(refusal, remedy) from error


def _shape_after(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(meta_output(module, shape).shape[1:])


def meta_output(module: nn.Module, shape: tuple[int, ...]) -> Any:
    """The output of `module` for one image of `shape`, on the meta device."""
    meta = {k: torch.empty_like(t, device="meta") for k, t in (*module.named_parameters(), *module.named_buffers())}
    dtype = next((t.dtype for t in meta.values() if t.is_floating_point()), None)
    with eval_mode(module), torch.no_grad():  # in training, batch norm rejects a single value per channel
        return torch.func.functional_call(module, meta, torch.empty(1, *shape, dtype=dtype, device="meta"))


def dense(net: ConvNet) -> ConvNet:
    """A copy of `net` with the linear layers of its head converted to convolutions: logits (N, classes, 1, 1) at the
    size that `net` was built for, a map of logits on a larger image.

    The first linear layer after flattening C x H x W becomes a convolution with an H x W kernel, any later one a 1x1;
    global average pooling becomes an H x W average pool. Raises UserError for a head that cannot be converted.
    """
    net, shape = deepcopy(net), net.input
    assert shape is not None, "the input of a network is set when the catalogue builds it"
    _, h, w = shape_after(net.trunk(), shape)
    head: dict[str, nn.Module] = {}
    for name, m in net.head.named_children():
        if isinstance(m, nn.Linear):
            conv = nn.Conv2d(m.in_features // (h * w), m.out_features, (h, w), bias=m.bias is not None, device="meta")
            conv.weight, conv.bias = nn.Parameter(m.weight.detach().view(conv.weight.shape)), m.bias
            head[name], h, w = conv, 1, 1
        elif isinstance(m, nn.AdaptiveAvgPool2d) and m.output_size in (1, (1, 1)):
            head[name], h, w = nn.AvgPool2d((h, w), stride=1), 1, 1
        elif isinstance(m, (nn.ReLU, nn.Tanh, nn.Dropout, nn.BatchNorm2d)) or is_pointwise(m):
            head[name] = m
        elif not isinstance(m, nn.Flatten):
            raise UserError(
                f"{net.variant or type(net).__name__} cannot be applied densely: its head has a {type(m).__name__}"
            )
    net.head = stack(**head)
    return net


def is_pointwise(m: nn.Module) -> bool:
    return isinstance(m, nn.Conv2d) and (m.kernel_size, m.stride, m.padding) == ((1, 1), (1, 1), (0, 0))


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within the context; afterwards every submodule is back in its previous mode."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keeps batch norm's running statistics while a batch is run a second time, for its gradient."""
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
    """Leaves tensors unchanged when an initialisation would fill them with random numbers."""

    FILLS = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_)
    INITS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)  # torch announces these as a whole

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.INITS:
            return kwargs["tensor"]
        return args[0] if func in self.FILLS else func(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Networks built within have shapes but no values: nothing is allocated or initialised."""
    with torch.device("meta"), _NoFill():
        yield


class ConvBN(nn.Sequential):
    """Convolution without bias, batch norm, activation; padded so that stride 1 keeps the size (odd kernels).

    `padding` may also be "same": TensorFlow's, as in ConvSame. `eps` and `momentum` are batch norm's; TensorFlow and
    Caffe give 1 - momentum, the decay of its moving averages.
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
        momentum: float = 0.1,
        act: type[nn.Module] | None = nn.ReLU,
    ):
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (kh // 2, kw // 2) if padding is None else padding
        if pad == "same":
            conv: nn.Conv2d = ConvSame(cin, cout, (kh, kw), stride, groups=groups)
        else:
            conv = nn.Conv2d(cin, cout, (kh, kw), stride, pad, groups=groups, bias=False)
        modules: dict[str, nn.Module] = {"conv": conv, "bn": nn.BatchNorm2d(cout, eps, momentum)}
        if act is not None:
            modules["act"] = act()
        super().__init__(OrderedDict(modules))


def unscaled_(net: nn.Module) -> None:
    """Takes the scale (gamma) out of every batch norm: tf-slim's only shifts, unless told otherwise.

    `affine` is then false, which torch and other libraries ask before they reset or count a scale.
    """
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_parameter("weight", None)
            m.affine = False


class Concat(nn.Module):
    """Parallel branches on the same input, their outputs concatenated along the channels in the order given."""

    def __init__(self, **branches: nn.Module):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class ConvSame(nn.Conv2d):
    """TensorFlow's "SAME" convolution: the output is ceil(size / stride); an odd pixel of padding goes at the end."""

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
        return conv_same(x, self.weight, self.bias, self.stride, self.groups)

    def extra_repr(self) -> str:
        return super().extra_repr() + ", padding=same"


@torch.fx.wrap  # a graph keeps the call: how it pads depends on the size
def conv_same(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], groups: int) -> Tensor:
    left, right, top, bottom = pads = same_padding(x.shape[2:], weight.shape[2:], stride)
    if left == right and top == bottom:  # the convolution itself can pad both sides equally, without a copy
        return F.conv2d(x, weight, bias, stride, (top, left), groups=groups)
    return F.conv2d(F.pad(x, pads), weight, bias, stride, groups=groups)


@torch.fx.wrap
def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's "SAME" padding of an H x W map, ordered as for F.pad; an odd pixel goes right or at the bottom."""
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
    `divided=True` does so too, for weights trained there. torch's own, equal to the bit, has no bfloat16 on CPUs.
    """

    def __init__(self, n: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, divided: bool = False):
        super().__init__()
        self.n, self.alpha, self.beta, self.k, self.divided = n, alpha, beta, k, divided

    def forward(self, x: Tensor) -> Tensor:
        squares = F.pad(x * x, (0, 0, 0, 0, self.n // 2, (self.n - 1) // 2))  # n - 1 more channels, of zeros
        mean = reduce(add, [squares[:, i : i + x.shape[1]] for i in range(self.n)]) / self.n
        alpha = self.alpha if self.divided else self.alpha * self.n
        return x / (mean * alpha + self.k) ** self.beta

    def extra_repr(self) -> str:
        return f"n={self.n}, alpha={self.alpha}, beta={self.beta}, k={self.k}, divided={self.divided}"


class DropPath(nn.Dropout):
    """Stochastic depth by sample: in training, each of N maps (N, C, H, W) of a branch is zero with probability p.

    The others are divided by 1 - p. As with dropout, `p = 0` switches it off.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.p)
        return x * (kept / (1 - self.p) if self.p < 1 else kept)


def classifier(cin: int, classes: int, dropout: float = 0.0) -> nn.Sequential:
    """Global average pooling, dropout, one linear layer: (N, cin, H, W) -> (N, classes)."""
    return stack(
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        **({"dropout": nn.Dropout(dropout)} if dropout else {}),
        linear=nn.Linear(cin, classes),
    )


def zero_bias_(layer: Any) -> None:
    """Biases of 0 for a final layer, whose weights keep torch's initialisation."""
    nn.init.zeros_(layer.bias)


def torch7_(net: nn.Module) -> None:
    """Torch7's initial batch norm: scales uniform in (0, 1). Convolutions and linear layers start as in PyTorch."""
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(m.weight)


def he_(net: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """He et al. (2015) initialisation: convolutions normal with variance 2 / fan, their biases zero."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode=mode, nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
