"""The closed forms of the lectures: output size, cost, receptive field, gradients; layers as matrices. No torch.

A `Window` slides along one side of an image; `Conv`, `Pool`, `Transposed` and `FC` are layers, and
`Conv(96, 11, 4).on((3, 227, 227))` is its output and cost there; the matrices take a layer and an image.
"""

from .gradients import GradientProduct, gradient_product
from .layers import (
    FC,
    Conv,
    Cost,
    Layer,
    Pool,
    Scaling,
    Transposed,
    compound_scaling,
    separable_fraction,
    stack_weights,
    stacked,
)
from .matrices import (
    avg_pool_matrix,
    conv_matrix,
    conv_weight_jacobian,
    lrn,
    lrn_jacobian,
    max_pool_matrix,
    relu_jacobian,
    softmax,
    softmax_jacobian,
)
from .sides import Field, Window, output_size, receptive_field, transposed_size
from .stacks import Stack, parse_layer, stack

__all__ = [
    "FC",
    "Conv",
    "Cost",
    "Field",
    "GradientProduct",
    "Layer",
    "Pool",
    "Scaling",
    "Stack",
    "Transposed",
    "Window",
    "avg_pool_matrix",
    "compound_scaling",
    "conv_matrix",
    "conv_weight_jacobian",
    "gradient_product",
    "lrn",
    "lrn_jacobian",
    "max_pool_matrix",
    "output_size",
    "parse_layer",
    "receptive_field",
    "relu_jacobian",
    "separable_fraction",
    "softmax",
    "softmax_jacobian",
    "stack",
    "stack_weights",
    "stacked",
    "transposed_size",
]
