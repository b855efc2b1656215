"""TrainState: a network, its optimizer and its averages, saved to and restored from checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from ..data.normalise import normalise
from ..data.types import Split
from ..errors import UserError
from ..layers import ConvNet
from ..machine.processes import World
from ..recipe import Recipe
from ..runs import checkpoint
from ..runs.checkpoint import NORMALIZER
from ..runs.folder import Run
from . import optimizers
from .average import MovingAverage, SlowWeights
from .events import OnEvent, note
from .execution import Execution
from .state import Position
from .warm_start import start_from


class TrainState:
    """The run's network on its device, freshly initialised, with its optimizer and the averages of its weights."""

    def __init__(
        self,
        run: Run,
        split: Split,
        recipe: Recipe,
        execution: Execution,
        device: torch.device,
        world: World,
        on_event: OnEvent,
    ):
        net = run.record.build()
        if net.init_images:
            first = split.fetch(torch.arange(min(net.init_images, len(split))), run.preprocess)
            net.init_from_data(normalise(first, run.normalizer))
        net.to(device=device, memory_format=execution.strides)  # type: ignore[call-overload]
        saved = any((run.folder / name).exists() for name in (checkpoint.LAST, checkpoint.PREVIOUS))
        if run.record.init and not saved:
            on_event(note(start_from(net, run.record.init)))
        self.net: ConvNet = net
        self.optimizer = optimizers.make_optimizer(net, recipe.optimizer)
        self.average = MovingAverage(net, recipe.ema.decay) if recipe.ema else None
        self.lookahead = SlowWeights(net, recipe.lookahead.decay) if recipe.lookahead else None
        self.run, self.device, self.world = run, device, world
        buffers = list(net.buffers())
        alike = [[b for b in buffers if b.dtype == dtype] for dtype in {b.dtype for b in buffers}]  # for _foreach_copy_
        self.statistics = [(of, [b.clone() for b in of]) for of in alike]  # batch norm's, with room for a copy

    @property
    def judged(self) -> ConvNet:
        """The network that is evaluated: the average where there is one."""
        return self.average.net if self.average else self.net  # type: ignore[return-value]

    def follow(self, steps: int, of: int) -> None:
        """Updates the averages after the optimizer's step number `steps` of `of`."""
        if self.lookahead:
            self.lookahead.update(steps, of)
        if self.average:
            self.average.update(steps)

    def snapshot(self) -> Callable[[], None]:
        """Returns a function that undoes what the passes of an abandoned step changed: buffers and random state."""
        for buffers, before in self.statistics:
            torch._foreach_copy_(before, buffers)
        random = torch.get_rng_state()
        on_gpu = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

        def undo() -> None:
            for buffers, before in self.statistics:
                torch._foreach_copy_(buffers, before)
            torch.set_rng_state(random)
            if on_gpu is not None:
                torch.cuda.set_rng_state(on_gpu, self.device)

        return undo

    def weights(self) -> dict[str, Tensor]:
        """The network's tensors by name, and their averages if there are any."""
        return {**self.net.state_dict(), **(self.average.tensors() if self.average else {})}

    def all_tensors(self) -> dict[str, Tensor]:
        """The weights, the optimizer's state, and the random state of every process."""
        tensors = self.weights() | optimizers.optimizer_state(self.net, self.optimizer)
        if self.lookahead:
            tensors |= self.lookahead.tensors()
        for rank, random in enumerate(self.world.gather(torch.get_rng_state())):
            tensors[random_of("cpu", rank)] = random
        if self.device.type == "cuda":
            for rank, random in enumerate(self.world.gather(torch.cuda.get_rng_state(self.device))):
                tensors[random_of("cuda", rank)] = random
        return tensors

    def save_best(self, state: Position) -> None:
        self.save(checkpoint.BEST, self.weights(), state)

    def save_last(self, state: Position) -> None:
        """Called on all ranks, each of which contributes its random state; rank 0 writes."""
        self.save(checkpoint.LAST, self.all_tensors(), state)

    def save(self, name: str, tensors: dict[str, Tensor], state: Position) -> None:
        """Writes one checkpoint: the tensors, the training progress, and the identity of the run."""
        if self.world.leads:
            tensors = tensors | {f"{NORMALIZER}{key}": t for key, t in self.run.normalizer.tensors.items()}
            keep = self.run.folder / checkpoint.PREVIOUS if name == checkpoint.LAST else None
            checkpoint.save(self.run.folder / name, tensors, {**self.run.record.identity, "state": asdict(state)}, keep)

    def restore(self, on_event: OnEvent) -> Position:
        """Restores the newest checkpoint; without one, training starts from the first step."""
        found = self.world.in_turn(lambda: checkpoint.newest(self.run.folder))  # may move broken ones aside
        if found is None:
            if self.run.log():
                on_event(note(f"{self.run.folder} has no checkpoint; training starts from the first step"))
            return Position()
        for text in found.notes:
            on_event(note(text))
        tensors, about = found.tensors, found.state
        if any(about.get(key) != value for key, value in self.run.record.identity.items()):
            raise UserError(
                f"{found.path} belongs to another run", "restore this run's own, or start again with another --out"
            )
        self.net.load_state_dict({name: t for name, t in tensors.items() if "/" not in name})
        optimizers.load_optimizer_state(self.net, self.optimizer, tensors)
        if self.average:
            self.average.restore(tensors)
        if self.lookahead:
            self.lookahead.restore(tensors)
        self.restore_random(tensors)
        try:
            state = Position.from_json(about["state"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{found.path} was written by another version of convatlas ({error!r})",
                "resume it with that version",
            ) from error
        if state.best_epoch:
            try:
                checkpoint.load(self.run.folder / checkpoint.BEST)
            except UserError as error:
                on_event(note(f"{error.what}; the best of the remaining epochs will replace it"))
                state.best_top1, state.best_epoch = -1.0, 0
        return state

    def restore_random(self, tensors: dict[str, Tensor]) -> None:
        """Restores this rank's random state; a rank not in the checkpoint keeps its seed."""
        rank = self.world.rank
        if (random := tensors.get(random_of("cpu", rank))) is not None:
            torch.set_rng_state(random)
        if self.device.type == "cuda" and (random := tensors.get(random_of("cuda", rank))) is not None:
            torch.cuda.set_rng_state(random, self.device)


def random_of(device: str, rank: int) -> str:
    return f"random/{device}" + (f"/{rank}" if rank else "")
