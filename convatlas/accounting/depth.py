"""How deep a network is, as papers count it."""

from __future__ import annotations

from .trace import Trace


def gates(trace: Trace) -> frozenset[tuple[int, int]]:
    """The (node, input) pairs that scale a map by values averaged over the whole map, as SE does."""
    pooled: list[bool] = []  # per node: comes from an average over the whole map
    found: set[tuple[int, int]] = set()
    for index, node in enumerate(trace.nodes):
        origins = [(i, i >= 0 and pooled[i]) for i in node.inputs]
        if node.op in ("mul", "mul_") and len({of_all for _, of_all in origins}) == 2:
            found.update((index, i) for i, of_all in origins if of_all)
            pooled.append(False)
        else:
            averaged = node.op in ("mean", "_adaptive_avg_pool2d") and all(n == 1 for n in node.shape[2:])
            pooled.append(averaged or any(of_all for _, of_all in origins))
    return frozenset(found)


def depth(trace: Trace) -> int:
    """The longest path of layers with weights: convolutions and matrix products of something that is computed from the
    input by something that is a parameter, or is computed from parameters alone (normalised or masked weights).

    Parallel branches count once, as in GoogLeNet's 22 (Szegedy et al., 2014, section 5). The layers that only compute
    a gate (SE) do not count: SE-ResNet-50 is 50 layers deep, as its name says.
    """
    skipped = gates(trace)
    of_input: list[bool] = []  # per node: computed from the input
    of_weights: list[bool] = []  # per node: computed from parameters, and not from the input
    after: list[int] = []
    for index, node in enumerate(trace.nodes):
        of_input.append(any(i < 0 or of_input[i] for i in node.inputs))
        derived = bool(node.parameters) or any(of_weights[i] for i in node.inputs if i >= 0)
        of_weights.append(derived and not of_input[-1])
        made = [f.made for f in node.factors if f.made is not None]
        weighted = any(i < 0 or of_input[i] for i in made) and (
            any(f.parameter for f in node.factors) or any(i >= 0 and of_weights[i] for i in made)
        )
        before = max((after[i] for i in node.inputs if i >= 0 and (index, i) not in skipped), default=0)
        after.append(before + weighted)
    read = {i for node in trace.nodes for i in node.inputs}
    return max((n for index, n in enumerate(after) if index not in read), default=0)
