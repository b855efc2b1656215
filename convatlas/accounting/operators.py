"""What each operator costs: the rules for those that multiply, and the names of those that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any, Literal, NamedTuple

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


def _convolution_backward(out: Any, grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    transposed, (*wanted, _) = rest[4], rest[-1]
    positions = x if transposed else grad
    return sum(wanted) * positions.shape[0] * prod(positions.shape[2:]) * weight.numel()


def _grouped_mm(out: Tensor, a: Tensor, b: Tensor, *rest: Any, **options: Any) -> int:
    """Groups of rows, of columns, or of the values that are summed, where `a` or `b` or both have no axis for them."""
    if a.dim() == b.dim() == 2:
        return a.numel() * b.shape[-1]
    return out.numel() * a.shape[-1]


def _quantized_mm(out: Tensor, a: Tensor, *rest: Any, **options: Any) -> int:
    return out.numel() * a.shape[-1]


def _attention(out: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> int:
    return prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])


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
    aten.conv_tbc: lambda out, x, weight, *rest: out.numel() * weight.shape[0] * weight.shape[1],
    aten.convolution_backward: _convolution_backward,
    aten._addmm_activation: _addmm,
    aten._grouped_mm: _grouped_mm,
    aten._scaled_grouped_mm: _grouped_mm,
    aten._int_mm: _quantized_mm,
    aten._scaled_mm: _quantized_mm,
    aten._weight_int8pack_mm: _quantized_mm,
    **dict.fromkeys(
        (
            aten._scaled_dot_product_flash_attention_for_cpu,
            aten._scaled_dot_product_flash_attention,
            aten._scaled_dot_product_efficient_attention,
            aten._scaled_dot_product_cudnn_attention,
        ),
        _attention,
    ),
}

# The positions of the tensors that they multiply; those of all others are (0, 1).
FACTORS: dict[Any, tuple[int, ...]] = {
    **dict.fromkeys((aten.addmv, aten.addr, aten.addmm, aten.baddbmm, aten.addbmm, aten._addmm_activation), (1, 2)),
    aten._trilinear: (0, 1, 2),
    aten.affine_grid_generator: (0,),
    aten.convolution_backward: (),
}


def named(names: str) -> frozenset[str]:
    return frozenset(names.split())


# What torch's own tags and signatures do not tell (`kind` asks those, too), in every operator of torch 2.13.

# Returns a view or a rearranged copy of its input, or makes a constant: nothing is computed from the image.
INERT = named("""
    view _unsafe_view reshape permute transpose t expand squeeze unsqueeze select slice split split_with_sizes
    unbind as_strided detach alias chunk unfold narrow diagonal lift_fresh zeros ones full empty zeros_like
    ones_like full_like empty_like new_zeros new_empty new_ones new_full arange scalar_tensor empty_strided fill_
    zero_ linspace eye tril_indices triu_indices movedim unflatten flatten view_as real imag unsafe_split
    unsafe_chunk rand randn rand_like randn_like transpose_ resize_as_ as_strided_ fill zero lift
    unsafe_split_with_sizes resize resize_as set empty_permuted new_empty_strided _efficientzerotensor
    _new_zeros_with_same_feature_meta bartlett_window blackman_window hann_window hamming_window kaiser_window
    logspace range fft_fftfreq fft_rfftfreq randint randint_like randperm from_file _reshape_copy _resize_output
    _pin_memory _lazy_clone _assert_async _assert_tensor_metadata _functional_assert_async _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _make_dep_token is_same_size is_pinned
    record_stream _is_all_true _is_any_true _has_same_storage_numel _nnz _dimI _dimV dense_dim sparse_dim
    is_coalesced is_set_to qscheme q_scale q_zero_point q_per_channel_axis q_per_channel_scales
    q_per_channel_zero_points int_repr empty_quantized _empty_affine_quantized _empty_per_channel_affine_quantized
    _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor
""")

# Computes each output value from the input values at the same position (and from per-channel constants).
POINTWISE = named("""
    relu relu_ hardtanh hardtanh_ tanh tanh_ sigmoid sigmoid_ silu silu_ hardswish hardswish_ hardsigmoid
    hardsigmoid_ elu elu_ gelu leaky_relu leaky_relu_ _prelu_kernel threshold native_batch_norm
    _native_batch_norm_legit _native_batch_norm_legit_no_training native_dropout bernoulli_ add add_ sub sub_ rsub
    mul mul_ div div_ neg exp log sqrt rsqrt pow square abs reciprocal clamp clamp_ clamp_min clamp_max maximum
    minimum where eq ne lt le gt ge clone copy_ copy _to_copy log_sigmoid_forward bernoulli masked_fill masked_fill_
    isnan isinf tril triu hardshrink softshrink rrelu_with_noise rrelu_with_noise_functional celu selu mish softplus
    bucketize floor_divide __ilshift__ __irshift__ __lshift__ __rshift__ complex _add_relu _fused_dropout
    _masked_scale binomial poisson normal uniform cauchy exponential geometric log_normal random normal_functional
    _standard_gamma _philox_normal _philox_uniform quantize_per_tensor quantize_per_tensor_dynamic
    quantize_per_channel fake_quantize_per_tensor_affine_cachemask
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams fake_quantize_per_channel_affine_cachemask
    _fake_quantize_learnable_per_tensor_affine _fake_quantize_learnable_per_channel_affine batch_norm_elemt polar
    dequantize
""")

# Changes the shape or combines several positions without a matrix product: concatenates, pools, pads, reduces.
FREE = named("""
    cat stack sum mean amax max amin min prod var var_mean std std_mean any all cumsum topk sort argsort argmax
    argmin linalg_vector_norm norm logsumexp _softmax _safe_softmax _log_softmax native_layer_norm _fused_rms_norm
    embedding native_group_norm max_pool2d_with_indices avg_pool2d avg_pool3d _adaptive_avg_pool2d
    adaptive_max_pool2d constant_pad_nd index index_select index_put index_put_ gather index_add scatter scatter_add
    one_hot repeat repeat_interleave roll flip upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_nearest1d upsample_linear1d upsample_nearest3d
    upsample_trilinear3d max_unpool2d max_pool3d_with_indices _adaptive_avg_pool3d adaptive_max_pool3d
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d im2col
    col2im pixel_shuffle pixel_unshuffle grid_sampler_2d native_channel_shuffle channel_shuffle
    _weight_norm_interface glu fractional_max_pool2d fractional_max_pool3d _embedding_bag
    _embedding_bag_forward_only

    _chunk_cat _stack block_diag as_strided_scatter diagonal_scatter select_scatter slice_scatter diag_embed rot90
    take put index_copy index_fill index_reduce _index_put_impl _unsafe_masked_index
    _unsafe_masked_index_put_accumulate scatter_reduce masked_scatter masked_select nonzero nonzero_static _unique
    _unique2 unique_dim unique_consecutive unique_dim_consecutive bincount histc histogram _histogramdd_bin_edges
    _histogramdd_from_bin_cts _histogramdd_from_bin_tensors multinomial segment_reduce _pack_padded_sequence
    _spdiags

    _aminmax median nanmedian mode kthvalue cummax cummin _cummax_helper _cummin_helper cumprod logcumsumexp
    _logcumsumexp trace dist renorm searchsorted isin _sample_dirichlet embedding_renorm native_norm linalg_cross
    hash_tensor lu_unpack allclose equal _local_scalar_dense softmax log_softmax _masked_softmax
    _nested_tensor_softmax_with_shape

    adaptive_avg_pool1d avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_unpool3d grid_sampler_3d
    _grid_sampler_2d_cpu_fallback cudnn_grid_sampler _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_lanczos2d_aa mkldnn_max_pool2d mkldnn_max_pool3d
    mkldnn_adaptive_avg_pool2d quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d

    batch_norm_stats batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_update_stats
    _batch_norm_no_update _batch_norm_with_update _batch_norm_with_update_functional
    _native_batch_norm_legit_functional cudnn_batch_norm miopen_batch_norm quantized_batch_norm
    _fused_moving_avg_obs_fq_helper _fused_moving_avg_obs_fq_helper_functional _thnn_fused_lstm_cell
    _thnn_fused_gru_cell

    mse_loss smooth_l1_loss huber_loss soft_margin_loss multi_margin_loss multilabel_margin_loss_forward
    nll_loss_forward nll_loss2d_forward binary_cross_entropy binary_cross_entropy_with_logits _ctc_loss
    _cudnn_ctc_loss miopen_ctc_loss

    _to_dense _to_sparse _to_sparse_csr _to_sparse_csc _to_sparse_bsr _to_sparse_bsc _coalesce _coalesced
    sparse_coo_tensor sparse_compressed_tensor _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors
    _sparse_compressed_tensor_with_dims sparse_mask _sparse_mask_projection _sparse_sum _sparse_csr_sum
    _sparse_csr_prod _sparse_softmax _sparse_log_softmax _sparse_broadcast_to sparse_resize sparse_resize_and_clear
    resize_as_sparse copy_sparse_to_sparse _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
    _validate_compressed_sparse_indices to_mkldnn _mkldnn_reshape _mkldnn_transpose mkldnn_reorder_conv2d_weight
    mkldnn_reorder_conv3d_weight to_padded_tensor _nested_from_padded _nested_from_padded_tensor
    _nested_tensor_from_mask _nested_tensor_from_tensor_list _jagged_to_padded_dense_forward
    _padded_dense_to_jagged_forward _transform_bias_rescale_qkv _unsafe_index _unsafe_index_put

    embedding_dense_backward _embedding_bag_dense_backward _embedding_bag_per_sample_weights_backward
    max_pool2d_backward batch_norm_backward batch_norm_backward_elemt batch_norm_backward_reduce
    _segment_reduce_backward glu_jvp _standard_gamma_grad _dirichlet_grad _foreach_powsum _linalg_check_errors
""")

# Makes a constant: of its input only the shape is used.
CONSTANT = named("""
    zeros_like ones_like full_like empty_like new_zeros new_empty new_ones new_full new_empty_strided rand_like
    randn_like randint_like
""")

# Replaces every value of its first argument, so none of them is read.
OVERWRITES = named("copy_ fill_ zero_ bernoulli_ normal_ uniform_ random_ exponential_ geometric_ log_normal_ cauchy_")

DETACHES = named("detach detach_")

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


Kind = Literal["product", "view", "pointwise", "free"]
LISTED: dict[str, Kind] = {
    **dict.fromkeys(INERT, "view"),
    **dict.fromkeys(POINTWISE, "pointwise"),
    **dict.fromkeys(FREE, "free"),
    **dict.fromkeys((op.__name__ for op in MACS), "product"),
}
TAGS: dict[Any, Kind] = {
    torch.Tag.pointwise: "pointwise",
    torch.Tag.view_copy: "view",
    torch.Tag.inplace_view: "view",
    torch.Tag.reduction: "free",
}


@cache
def kind(name: str) -> Kind | None:
    """What an operator does, by its name (as a node has it): listed here, or as torch tags it, or as it does to its
    arguments. An operator in place is as the one that is not, and so is one on lists. None: nobody says."""
    if name in (WRITE_VIEW, READ_VIEW):
        return "view"
    if name in LISTED:
        return LISTED[name]
    space, _, own = name.rpartition(".")
    op = getattr(getattr(torch.ops, space or "aten"), own, None)
    if op is None:
        return None
    overloads = [getattr(op, o) for o in op.overloads()]
    tagged = next((what for tag, what in TAGS.items() if any(tag in o.tags for o in overloads)), None)
    if tagged or all(map(_views, overloads)):
        return tagged or "view"
    if not space and own.endswith("_") and any(torch.Tag.inplace in o.tags for o in overloads):
        return kind(own[:-1])
    if not space and own.startswith("_foreach_"):
        each = kind(own.removeprefix("_foreach_"))
        return None if each == "product" else each
    if not space and "_backward" in own:  # of what has no product
        forward = own.partition("_backward")[0]
        kinds = {kind(forward), kind(f"{forward}_forward"), kind(f"_{forward}")} - {None}
        return "free" if kinds and "product" not in kinds else None
    return None


def _views(overload: Any) -> bool:
    """All that it returns are views of what it is given."""
    returns = overload._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def without_values(name: str) -> bool:
    """Makes no values of its own."""
    return kind(name) == "view"


def in_place(name: str) -> bool:
    """Could write its output over its input."""
    return kind(name) in ("view", "pointwise")


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
    reads: bool  # a value, to branch on
    detaches: bool  # no gradient goes through it
    macs: Callable[..., int] | None
    factors: tuple[int, ...]  # the positions of the arguments that it multiplies
    shortcut: Callable[..., Any] | None


_OPERATORS: dict[int, Operator] = {}


def _rule_of(op: Any) -> Any:
    """The operator that has its rule: an operator in place multiplies as the one that is not."""
    name = op.__name__
    return op if op in MACS or not name.endswith("_") or name.startswith("__") else getattr(aten, name[:-1], op)


def operator(func: Any) -> Operator:
    found = _OPERATORS.get(id(func))  # hashing an operator takes as long as everything looked up here
    if found is None:
        op = func.overloadpacket
        name = op.__name__ if func.namespace == "aten" else str(op)
        what, rule = kind(name), _rule_of(op)
        into = [
            a.name
            for i, a in enumerate(func._schema.arguments)
            if a.alias_info is not None and a.alias_info.is_write and (not i or a.name == "out")
        ]
        found = Operator(
            func,
            name,
            inert=what == "view",
            known=what is not None,
            constant=name in CONSTANT,
            composite=func.namespace != "prim"  # which only fake tensors call, to ask for their device
            and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"),
            writes=bool(into),
            reads=name == "_local_scalar_dense",
            overwrites=name in OVERWRITES or "out" in into,
            detaches=name in DETACHES,
            macs=MACS.get(rule),
            factors=FACTORS.get(rule, (0, 1)),
            shortcut=SHORTCUTS.get(func),
        )
        _OPERATORS[id(func)] = found
    return found
