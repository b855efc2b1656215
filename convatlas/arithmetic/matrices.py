"""Convolution and pooling as matrices, and the Jacobians of the layers between them. All float64.

A matrix maps the flattened C x H x W to the flattened output, channel by channel and row by row. The matrix of a linear
layer is also its Jacobian.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ..errors import UserError
from .layers import Conv, Pool, Shape, image, per_group
from .sides import Window, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

LARGEST = 2**27  # entries; 1 GiB


def conv_matrix(weight: ArrayLike, shape: Shape, layer: Conv) -> Array:
    """The matrix of a convolution on C x H x W: (filters*H'*W', C*H*W); its transpose is the transposed convolution.

    `weight` is (filters, C/groups, kernel, kernel). Raises UserError for another shape.
    """
    import numpy as np

    (cin, h, w), (rows, columns) = image(shape), layer.windows
    reads = per_group(layer.filters, cin, layer.groups)
    weight = np.asarray(weight, dtype=np.float64)
    if weight.shape != (expected := (layer.filters, reads, rows.kernel, columns.kernel)):
        raise UserError(f"the weight is {_by(weight.shape)}", f"this convolution needs {_by(expected)}")
    outputs = layer.filters * rows.output(h) * columns.output(w)
    _room(outputs, cin * h * w)
    full = np.zeros((layer.filters, cin, rows.kernel, columns.kernel))  # zero where a filter belongs to another group
    for f, first in enumerate(_first_channels(layer, reads)):
        full[f, first : first + reads] = weight[f]
    matrix = np.einsum("fcab,iay,jbx->fijcyx", full, _taps(rows, h), _taps(columns, w), optimize=True)
    return matrix.reshape(outputs, cin * h * w)


def conv_weight_jacobian(x: ArrayLike, layer: Conv) -> Array:
    """The Jacobian of a convolution of `x` (C, H, W) with respect to its weights: (filters*H'*W', weights).

    A row holds the patch of `x` that the output reads, in the columns of its own filter.
    """
    import numpy as np

    x = np.asarray(x, dtype=np.float64)
    (cin, h, w), (rows, columns) = image(x.shape), layer.windows
    reads = per_group(layer.filters, cin, layer.groups)
    outputs, weights = rows.output(h) * columns.output(w), reads * rows.kernel * columns.kernel
    _room(layer.filters * outputs, layer.filters * weights)
    patches = np.einsum("iay,jbx,cyx->ijcab", _taps(rows, h), _taps(columns, w), x, optimize=True)
    jacobian = np.zeros((layer.filters, outputs, layer.filters, weights))
    for f, first in enumerate(_first_channels(layer, reads)):
        jacobian[f, :, f] = patches[:, :, first : first + reads].reshape(outputs, weights)
    return jacobian.reshape(layer.filters * outputs, layer.filters * weights)


def avg_pool_matrix(shape: Shape, layer: Pool, *, count_padding: bool = True) -> Array:
    """The matrix of average pooling on C x H x W: (C*H'*W', C*H*W).

    With `count_padding` the mean includes the zeros of the padding, as in torch and Caffe; without, as in TensorFlow.
    """
    import numpy as np

    cin, *sides = image(shape)
    outputs = cin * prod(window.output(n) for window, n in zip(layer.windows, sides))
    _room(outputs, prod(shape))
    means: list[Array] = []
    for window, n in zip(layer.windows, sides):
        before, after = window.pads(n) if count_padding else (0, 0)
        counted = np.array([sum(-before <= p < n + after for p in reads) for reads in window.reads(n)])
        if not counted.all():
            raise _all_padding(layer)
        means.append(_taps(window, n).sum(1) / counted[:, None])
    matrix: Array = np.kron(np.eye(cin), np.kron(*means))
    return matrix


def max_pool_matrix(x: ArrayLike, layer: Pool) -> Array:
    """The selection that maximum pooling makes of `x` (C, H, W): (C*H'*W', C*H*W), one 1 in each row.

    It depends on `x`, and is the Jacobian there. Among equal values the first in a window is taken, as in torch.
    """
    import numpy as np

    x = np.asarray(x, dtype=np.float64)
    (cin, h, w), (rows, columns) = image(x.shape), layer.windows
    ys, xs = np.array(rows.reads(h)), np.array(columns.reads(w))  # (H', kernel), (W', kernel)
    _room(cin * len(ys) * len(xs), x.size)
    y, z = ys[:, None, :, None], xs[None, :, None, :]
    inside = (y >= 0) & (y < h) & (z >= 0) & (z < w)
    if not inside.any((2, 3)).all():
        raise _all_padding(layer)
    seen = np.where(inside, x[:, y.clip(0, h - 1), z.clip(0, w - 1)], -np.inf).reshape(cin, len(ys), len(xs), -1)
    places = np.broadcast_to((y * w + z).reshape(1, len(ys), len(xs), -1), seen.shape)
    chosen = np.take_along_axis(places, seen.argmax(-1)[..., None], -1).reshape(cin, -1)
    matrix = np.zeros((chosen.size, x.size))
    matrix[np.arange(chosen.size), (chosen + np.arange(cin)[:, None] * h * w).ravel()] = 1
    return matrix


def relu_jacobian(x: ArrayLike) -> Array:
    """Ones on the diagonal where `x` is positive."""
    import numpy as np

    return np.diag((np.asarray(x).ravel() > 0).astype(np.float64))


def softmax(x: ArrayLike) -> Array:
    """exp(x) / sum of exp(x), for one vector of scores."""
    import numpy as np

    x = np.asarray(x, dtype=np.float64)
    e = np.exp(x - x.max())
    return e / e.sum()


def softmax_jacobian(x: ArrayLike) -> Array:
    """diag(p) - p p^T, where p = softmax(x)."""
    import numpy as np

    p = softmax(x)
    return np.diag(p) - np.outer(p, p)


def lrn(x: ArrayLike, n: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """Local response normalisation of `x` (C, H, W): x / (k + alpha * sum of x^2 over n neighbouring channels)^beta.

    (Krizhevsky et al., 2012, section 3.3; torch and Caffe divide alpha by n, the paper does not.)
    """
    import numpy as np

    x = np.asarray(x, dtype=np.float64)
    return x / (k + alpha * np.tensordot(_neighbours(len(x), n), x**2, 1)) ** beta


def lrn_jacobian(x: ArrayLike, n: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """The Jacobian of `lrn` at `x` (C, H, W): (C*H*W, C*H*W); positions do not mix.

    d b_i / d x_j = [i = j] s_i^-beta - 2 alpha beta x_i x_j s_i^(-beta - 1) for j among the n neighbours of i, where
    s = k + alpha * sum of x^2.
    """
    import numpy as np

    x = np.asarray(x, dtype=np.float64)
    _room(x.size, x.size)
    near = _neighbours(len(x), n)
    a = x.reshape(len(x), -1)
    s = k + alpha * near @ a**2
    own = np.einsum("ij,ip->ijp", np.eye(len(a)), s**-beta)
    others = 2 * alpha * beta * np.einsum("ij,ip,jp->ijp", near, a * s ** (-beta - 1), a)
    return np.einsum("ijp,pq->ipjq", own - others, np.eye(a.shape[1])).reshape(x.size, x.size)


def _taps(window: Window, n: int) -> Array:
    """(outputs, kernel, n): 1 where tap a of window i reads position y; padding is left out."""
    import numpy as np

    return (np.array(window.reads(n))[:, :, None] == np.arange(n)).astype(np.float64)


def _first_channels(layer: Conv, reads: int) -> list[int]:
    """The first channel of each filter's group."""
    return [f // (layer.filters // layer.groups) * reads for f in range(layer.filters)]


def _neighbours(channels: int, n: int) -> Array:
    """(channels, channels): 1 where channel j is one of the n around i."""
    import numpy as np

    whole("n", n, 1)
    ahead = np.arange(channels)[None] - np.arange(channels)[:, None]
    return ((ahead >= -(n // 2)) & (ahead <= (n - 1) // 2)).astype(np.float64)


def _room(rows: int, columns: int) -> None:
    if rows * columns > LARGEST:
        raise UserError(
            f"a {rows:,} x {columns:,} matrix takes {rows * columns * 8 / 1e9:,.1f} GB", "take a smaller image"
        )


def _all_padding(layer: Pool) -> UserError:
    return UserError(f"a window of {layer} holds only padding", "reduce the dilation, padding or stride")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
