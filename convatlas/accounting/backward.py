"""What the backward pass costs."""

from __future__ import annotations

from .trace import Trace


def backward_macs(trace: Trace) -> list[int]:
    """The multiply-accumulates of each node's gradients, of its weights and of its inputs.

    A convolution's gradients of weights and of input cost as much as its forward pass each. The input's is not computed
    where nothing upstream has parameters: in the first layer.
    """
    costs: list[int] = []
    trained: list[bool] = []  # of every node: parameters are upstream, so that its gradient is needed
    for node in trace.nodes:
        needed = [i >= 0 and trained[i] for i in node.inputs]
        trained.append(bool(node.parameters) or any(needed))
        costs.append(node.macs * (bool(node.parameters) + sum(needed)))
    return costs
