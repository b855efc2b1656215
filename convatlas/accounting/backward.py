"""What the backward pass costs."""

from __future__ import annotations

from .trace import Trace


def backward_macs(trace: Trace) -> list[int]:
    """The multiply-accumulates of each node's backward pass, from the sum of all that the network returns.

    The gradient of each factor of a convolution or a matrix product costs as much as the product. It is computed where
    a parameter that requires a gradient lies upstream, unless the result reaches no output that is not detached.
    """
    takes: list[bool] = []  # per node: its output takes a gradient
    for node in trace.nodes:
        takes.append(node.recorded and (node.trained or any(i >= 0 and takes[i] for i in node.inputs)))
    reached = [False] * len(trace.nodes)
    for i in trace.returned:
        if i >= 0:
            reached[i] = True
    costs = [0] * len(trace.nodes)
    for index in reversed(range(len(trace.nodes))):
        node = trace.nodes[index]
        if not (reached[index] and takes[index]):
            continue
        for i in node.inputs:
            if i >= 0:
                reached[i] = True
        wanted = (f.trained or (f.made is not None and f.made >= 0 and takes[f.made]) for f in node.factors)
        costs[index] = node.macs * sum(wanted)
    return costs
