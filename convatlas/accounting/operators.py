"""What each operator costs: the rules for those that multiply, and the names of those that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    transposed = rest[4]
    positions = x if transposed else out
    return positions.shape[0] * prod(positions.shape[2:]) * weight.numel()


def _mm(out: Tensor, a: Tensor, b: Tensor) -> int:
    return out.numel() * a.shape[-1]


def _addmm(out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **scales: Any) -> int:
    return out.numel() * a.shape[-1]


def _trilinear(out: Tensor, a: Tensor, b: Tensor, c: Tensor, *axes: Any) -> int:
    """The product of the broadcast shapes; `axes` are the ones that each tensor lacks."""
    shapes = []
    for t, missing in zip((a, b, c), axes):
        for axis in missing:
            t = t.unsqueeze(axis)
        shapes.append(t.shape)
    return prod(torch.broadcast_shapes(*shapes))


MACS: dict[Any, Callable[..., int]] = {
    aten.convolution: _convolution,
    aten.mm: _mm,
    aten.bmm: _mm,
    aten.mv: _mm,
    aten.dot: lambda out, a, b: a.numel(),
    aten.vdot: lambda out, a, b: a.numel(),
    aten.addmv: lambda out, bias, a, b, **scales: a.numel(),
    aten.addr: lambda out, bias, a, b, **scales: out.numel(),
    aten.addmm: _addmm,
    aten.baddbmm: _addmm,
    aten.addbmm: lambda out, bias, a, b, **scales: a.shape[0] * out.numel() * a.shape[-1],
    aten._trilinear: _trilinear,  # nn.Bilinear
    aten.affine_grid_generator: lambda out, theta, *size: out.numel() * theta.shape[-1],
}

# The positions of the tensors that they multiply; those of all others are (0, 1).
FACTORS: dict[Any, tuple[int, ...]] = {
    **dict.fromkeys((aten.addmv, aten.addr, aten.addmm, aten.baddbmm, aten.addbmm), (1, 2)),
    aten._trilinear: (0, 1, 2),
    aten.affine_grid_generator: (0,),
}


def _named(names: str) -> frozenset[Any]:
    return frozenset(getattr(aten, name) for name in names.split())


# Returns a view or a rearranged copy of its input, or makes a constant: nothing is computed from the image.
INERT = _named("""
    view _unsafe_view reshape permute transpose t expand squeeze unsqueeze select slice split split_with_sizes unbind
    as_strided detach alias chunk unfold narrow diagonal lift_fresh zeros ones full empty zeros_like ones_like full_like
    empty_like new_zeros new_empty new_ones new_full arange scalar_tensor empty_strided fill_ zero_ linspace eye
    tril_indices triu_indices movedim unflatten flatten view_as real imag unsafe_split unsafe_chunk rand randn rand_like
    randn_like transpose_ resize_as_ as_strided_
""")

# Computes each output value from the input values at the same position (and from per-channel constants).
POINTWISE = _named("""
    relu relu_ hardtanh hardtanh_ tanh tanh_ sigmoid sigmoid_ silu silu_ hardswish hardswish_ hardsigmoid hardsigmoid_
    elu elu_ gelu leaky_relu leaky_relu_ _prelu_kernel threshold native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training native_dropout bernoulli_ add add_ sub sub_ rsub mul mul_ div div_ neg exp log
    sqrt rsqrt pow square abs reciprocal clamp clamp_ clamp_min clamp_max maximum minimum where eq ne lt le gt ge clone
    copy_ _to_copy sin cos tan erf log1p log2 log10 expm1 softplus mish log_sigmoid_forward floor ceil round sign exp_
    log_ sqrt_ neg_ pow_ remainder fmod logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not
    masked_fill masked_fill_ isnan isinf nan_to_num tril triu celu selu addcmul addcdiv lerp hardshrink softshrink
    rrelu_with_noise clamp_min_ clamp_max_ atan2 sinh cosh asinh sign_ log1p_ celu_ selu_ mish_ gelu_ bernoulli xlogy
""")

# Changes the shape or combines several positions without a matrix product: concatenates, pools, pads, reduces.
FREE = _named("""
    cat stack sum mean amax max amin min prod var var_mean std std_mean any all cumsum topk sort argsort argmax argmin
    linalg_vector_norm norm logsumexp _softmax _safe_softmax _log_softmax native_layer_norm _fused_rms_norm embedding
    native_group_norm max_pool2d_with_indices avg_pool2d avg_pool3d _adaptive_avg_pool2d adaptive_max_pool2d
    constant_pad_nd index index_select index_put index_put_ gather index_add scatter scatter_add one_hot repeat
    repeat_interleave roll flip upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa
    _upsample_bicubic2d_aa upsample_nearest1d upsample_linear1d upsample_nearest3d upsample_trilinear3d max_unpool2d
    max_pool3d_with_indices _adaptive_avg_pool3d adaptive_max_pool3d reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d im2col col2im pixel_shuffle pixel_unshuffle grid_sampler_2d
    native_channel_shuffle channel_shuffle _weight_norm_interface glu fractional_max_pool2d fractional_max_pool3d
    _embedding_bag _embedding_bag_forward_only
""")


# Makes a constant: of its input only the shape is used.
CONSTANT = _named(
    "zeros_like ones_like full_like empty_like new_zeros new_empty new_ones new_full rand_like randn_like"
)

# Replaces every value of its first argument, so none of them is read.
OVERWRITES = _named("copy_ fill_ zero_ bernoulli_ normal_ uniform_")

DETACHES = _named("detach detach_")

# What a trace adds where a write through a view is read elsewhere: in the whole tensor, or in another view of it.
WRITE_VIEW, READ_VIEW = "write_view", "read_view"


def like(t: Tensor, device: Any = None) -> Tensor:
    """torch.empty_like, 20 times faster on the meta device."""
    if t.layout != torch.strided or not t.is_contiguous():
        return torch.empty_like(t, device=device)
    return torch.empty(t.shape, dtype=t.dtype, device=device or t.device)


def _conv_shape(
    x: Tensor,
    weight: Tensor,
    bias: Any,
    strides: list[int],
    paddings: list[int],
    dilations: list[int],
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor | None:
    if transposed or x.dim() != weight.dim() or x.shape[1] != weight.shape[1] * groups or x.dtype != weight.dtype:
        return None
    sizes = list(zip(x.shape[2:], weight.shape[2:], strides, paddings, dilations))
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]
    if len(sizes) < len(x.shape) - 2 or min(out) < 1 or not (x.is_contiguous() and weight.is_contiguous()):
        return None
    return torch.empty((x.shape[0], weight.shape[0], *out), dtype=x.dtype, device=x.device)


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *rest: Any) -> Any:
    kept = torch.empty(x.shape[1] if training else 0, dtype=x.dtype, device=x.device)
    return like(x), kept, kept


def _same_shape(x: Any, *others: Any, **options: Any) -> Tensor | None:
    """The first tensor's shape, when every other operand is a number or matches it (or is 1) along each axis."""
    for o in others:
        if isinstance(o, float | int) or (o.shape == x.shape and o.dtype == x.dtype):
            continue
        if o.dtype != x.dtype or o.dim() != x.dim() or not all(m in (1, n) for m, n in zip(o.shape, x.shape)):
            return None
    return like(x) if not options and x.is_floating_point() else None


def _mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None) -> Tensor | None:
    if not dims or dtype is not None or not x.is_floating_point() or not x.is_contiguous():
        return None
    over = {dim % x.dim() for dim in dims}
    shape = [1 if i in over else n for i, n in enumerate(x.shape) if keepdim or i not in over]
    return torch.empty(shape, dtype=x.dtype, device=x.device)


def _cat(tensors: list[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    if any(t.dim() != first.dim() or t.dtype != first.dtype for t in tensors):
        return None
    shape = list(first.shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    return torch.empty(shape, dtype=first.dtype, device=first.device)


KNOWN = frozenset(MACS) | INERT | POINTWISE | FREE


def names_of(operators: frozenset[Any]) -> frozenset[str]:
    return frozenset(op.__name__ for op in operators)


# The outputs of these on meta tensors, 50 times faster than torch's own shape functions; None: ask torch.
SHORTCUTS: dict[Any, Callable[..., Any]] = {
    aten.convolution.default: _conv_shape,
    aten.native_batch_norm.default: _batch_norm,
    aten.cat.default: _cat,
    aten.mean.dim: _mean,
    aten.add.Tensor: _same_shape,
    aten.mul.Tensor: _same_shape,
    aten.relu.default: _same_shape,
    aten.relu_.default: lambda x: x,
    aten.silu_.default: lambda x: x,
    aten.silu.default: _same_shape,
    aten.sigmoid.default: _same_shape,
}


# What only traced modules call, and eager ones by another name with fewer arguments.
RENAMED: dict[Any, tuple[Any, int]] = {
    aten._convolution.default: (aten.convolution.default, 9),
    aten._convolution.deprecated: (aten.convolution.default, 9),
}


class Operator(NamedTuple):
    """Everything known about an operator."""

    func: Any
    name: str
    inert: bool
    known: bool
    constant: bool
    composite: bool  # arrives only in inference mode; elsewhere torch has decomposed it
    writes: bool  # into its first argument, or into `out`
    overwrites: bool
    detaches: bool  # no gradient goes through it
    macs: Callable[..., int] | None
    factors: tuple[int, ...]  # the positions of the arguments that it multiplies
    shortcut: Callable[..., Any] | None


_OPERATORS: dict[int, Operator] = {}


def operator(func: Any) -> Operator:
    found = _OPERATORS.get(id(func))  # hashing an operator takes as long as everything looked up here
    if found is None:
        op = func.overloadpacket
        into = [
            a.name
            for i, a in enumerate(func._schema.arguments)
            if a.alias_info is not None and a.alias_info.is_write and (not i or a.name == "out")
        ]
        found = Operator(
            func,
            op.__name__,
            inert=op in INERT,
            known=op in KNOWN,
            constant=op in CONSTANT,
            composite=torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"),
            writes=bool(into),
            overwrites=op in OVERWRITES or "out" in into,
            detaches=op in DETACHES,
            macs=MACS.get(op),
            factors=FACTORS.get(op, (0, 1)),
            shortcut=SHORTCUTS.get(func),
        )
        _OPERATORS[id(func)] = found
    return found
