"""What the backward pass costs."""

from __future__ import annotations

from .trace import Trace


def backward_macs(trace: Trace) -> list[int]:
    """The multiply-accumulates of each node's backward pass: the gradients of its weights and of its inputs.

    A convolution's weight gradient and input gradient each cost as much as its forward pass. The input gradient is not
    computed where nothing upstream has parameters, as in the first layer.
    """
    costs: list[int] = []
    trained: list[bool] = []  # per node: there are parameters upstream, so its gradient is needed
    for node in trace.nodes:
        needed = [i >= 0 and trained[i] for i in node.inputs]
        trained.append(bool(node.parameters) or any(needed))
        costs.append(node.macs * (bool(node.parameters) + sum(needed)))
    return costs
