"""What the graph of a traced pass says: how deep it is, and what its backward pass costs."""

from __future__ import annotations

from dataclasses import dataclass

from .operators import MACS, names_of
from .trace import Trace

MULTIPLIES = names_of(frozenset(MACS))


def gates(trace: Trace) -> frozenset[tuple[int, int]]:
    """The (node, input) pairs by which a map is scaled with what was averaged over the whole of it, as SE does."""
    pooled: list[bool] = []  # of every node: comes from an average over the whole map
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


def depth(trace: Trace, *, with_gates: bool = False) -> int:
    """The longest path of layers with weights (convolutions and matrix products that read parameters).

    Parallel branches count once, as in GoogLeNet's 22 (Szegedy et al., 2014, section 5). The layers that only compute
    a gate (SE) are not on a path unless `with_gates`: SE-ResNet-50 is 50 deep, as its name says.
    """
    skipped = frozenset() if with_gates else gates(trace)
    after: list[int] = []
    for index, node in enumerate(trace.nodes):
        before = max((after[i] for i in node.inputs if i >= 0 and (index, i) not in skipped), default=0)
        after.append(before + (node.op in MULTIPLIES and bool(node.parameters)))
    read = {i for node in trace.nodes for i in node.inputs}
    return max((n for index, n in enumerate(after) if index not in read), default=0)


@dataclass(frozen=True)
class Training:
    """Multiply-adds of one training step: the forward pass, and the gradients of weights and of inputs."""

    forward: int = 0
    weight_gradients: int = 0
    input_gradients: int = 0

    @property
    def backward(self) -> int:
        return self.weight_gradients + self.input_gradients

    @property
    def macs(self) -> int:
        return self.forward + self.backward

    def __add__(self, other: Training) -> Training:
        return Training(
            self.forward + other.forward,
            self.weight_gradients + other.weight_gradients,
            self.input_gradients + other.input_gradients,
        )

    def __mul__(self, times: int) -> Training:
        """The same work so often: one image's costs x the images are an epoch's."""
        return Training(self.forward * times, self.weight_gradients * times, self.input_gradients * times)


def training_nodes(trace: Trace) -> list[Training]:
    """What each node costs in training.

    A convolution's gradients of weights and of input cost as much as its forward pass each. The input's is not computed
    where nothing before has parameters: in the first layer.
    """
    costs: list[Training] = []
    nothing = Training()
    trained: list[bool] = []  # of every node: parameters are upstream, so that its gradient is wanted
    for node in trace.nodes:
        wanted = [i >= 0 and trained[i] for i in node.inputs]
        trained.append(bool(node.parameters) or any(wanted))
        macs = node.macs
        costs.append(Training(macs, macs * bool(node.parameters), macs * sum(wanted)) if macs else nothing)
    return costs


def training_rows(trace: Trace) -> dict[str, Training]:
    """What each layer costs in training, by the path of the module that runs it; layers that multiply alone."""
    rows: dict[str, Training] = {}
    for node, cost in zip(trace.nodes, training_nodes(trace), strict=True):
        if node.macs:
            path = trace.calls[node.call].path
            rows[path] = rows.get(path, Training()) + cost
    return rows


def training(trace: Trace) -> Training:
    """What one step costs on the batch that was traced."""
    return sum(training_rows(trace).values(), Training())
