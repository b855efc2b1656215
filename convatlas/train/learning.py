"""Which parts of a network learn, and how fast: what a recipe's Tuning means for one network."""

from __future__ import annotations

from math import floor

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..errors import UserError, unknown
from ..layers import ConvNet
from ..recipe import Tuning


class Learning:
    """`begin_epoch` puts each part of the network into training or evaluation mode; `freeze` keeps what is frozen.

    A frozen part keeps its weights, and its batch norms their statistics; its dropout is off. Raises UserError for a
    part that the network does not have, and where nothing is left to learn.
    """

    def __init__(self, net: ConvNet, tuning: Tuning | None):
        self.net, self.tuning = net, tuning or Tuning()
        self.parts = parts_of(net)
        self.learns = [(name, p) for name, p in net.named_parameters() if p.requires_grad]  # by the network's own rule
        self.always = {named(net, name) for name in self.tuning.frozen}
        self.norms = [m for m in net.modules() if isinstance(m, _NormBase)] if self.tuning.norm == "frozen" else []
        self.of_norms = {id(p) for m in self.norms for p in m.parameters(recurse=False)}
        self.kept: list[nn.Parameter] = []
        self.rates = {name: self.rate(name) for name, _ in self.learns}
        if all(self.is_frozen(name, p, self.always) for name, p in self.learns):
            raise UserError(f"all of {net.variant or type(net).__name__} is frozen", "leave a part to learn")

    def rate(self, name: str) -> float:
        """The learning rate of a parameter, in multiples of the recipe's."""
        distance = len(self.parts) - 1 - self.parts.index(part_of(name, self.parts))
        rate = self.tuning.decay**distance
        for entry in self.tuning.rates:
            place, _, factor = entry.rpartition(":")
            if below(name, named(self.net, place)):
                rate *= float(factor)
        return rate

    def begin_epoch(self, epoch: int) -> None:
        """Sets the modes and chooses what is frozen in this epoch, counted from 0."""
        frozen = self.always | self.not_yet(epoch)
        self.net.train()
        for path in frozen:
            self.net.get_submodule(path).eval()
        for norm in self.norms:
            norm.eval()
        for _, p in self.learns:
            p.requires_grad_(True)
        self.kept = [p for name, p in self.learns if self.is_frozen(name, p, frozen)]
        self.freeze()

    def freeze(self) -> None:
        """After the network's own `set_progress`, which may let parameters learn."""
        for p in self.kept:
            p.requires_grad_(False)

    def not_yet(self, epoch: int) -> set[str]:
        """The parts whose turn has not come: one more learns every `unfreeze` epochs, from the head to the stem."""
        if not self.tuning.unfreeze:
            return set()
        learning = 1 + floor(epoch / self.tuning.unfreeze + 1e-9)
        return set(self.parts[: max(0, len(self.parts) - learning)])

    def is_frozen(self, name: str, p: nn.Parameter, frozen: set[str]) -> bool:
        return id(p) in self.of_norms or any(below(name, path) for path in frozen)


def parts_of(net: ConvNet) -> list[str]:
    """The paths of the parts that have parameters: the stem, the stages, the head; NiN's head has none."""
    paths = ["stem", *(f"stages.{name}" for name, _ in net.stages.named_children()), "head"]
    return [path for path in paths if any(True for _ in net.get_submodule(path).parameters())]


def part_of(name: str, parts: list[str]) -> str:
    """The part that a parameter belongs to; what is in none, as auxiliary classifiers are, goes with the last."""
    return next((part for part in parts if below(name, part)), parts[-1])


def named(net: ConvNet, name: str) -> str:
    """The path of the part or module of that name. Raises UserError with the near names."""
    stages = [stage for stage, _ in net.stages.named_children()]
    if name in stages:
        return f"stages.{name}"
    if name not in dict(net.named_modules()) or not name:
        raise unknown(f"part of {net.variant or type(net).__name__}", name, ["stem", *stages, "head"])
    return name


def below(name: str, path: str) -> bool:
    return name.startswith(f"{path}.")
