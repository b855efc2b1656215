"""TrainState: a network, its optimizer and its averages, saved to and restored from checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn

from ..accounting.rows import stage_of
from ..data.normalise import normalise
from ..errors import UserError
from ..files.lock import check_held
from ..layers import ConvNet
from ..runs import checkpoint
from ..runs.checkpoint import NORMALIZER
from ..runs.folder import Run
from ..runs.record import FILE
from . import optimizers
from .average import MovingAverage, SlowWeights
from .events import note
from .job import Job
from .learning import Learning
from .state import Position
from .warm_start import start_from


class TrainState:
    """The run's network on its device, freshly initialised, with its optimizer and the averages of its weights."""

    def __init__(self, job: Job, run: Run):
        net, recipe, device = run.record.build(), job.recipe, job.device
        if net.init_images:
            first = job.data.train.fetch(torch.arange(min(net.init_images, len(job.data.train))), run.preprocess)
            net.init_from_data(normalise(first, run.normalizer))
        net.to(device=device, memory_format=job.execution.strides)  # type: ignore[call-overload]
        saved = any((run.folder / name).exists() for name in (checkpoint.LAST, checkpoint.PREVIOUS))
        if run.record.init and not saved:
            job.on_event(note(start_from(net, run.record.init)))
        self.job, self.run, self.net, self.parameters = job, run, net, list(net.parameters())
        self.stages: dict[str, list[nn.Parameter]] = {}
        for name, parameter in net.named_parameters():
            self.stages.setdefault(stage_of(name), []).append(parameter)
        kept = net.state_dict()  # without constants
        changing = [buffer for name, buffer in net.named_buffers() if name in kept]
        self.statistics = [Flat(of) for of in by_dtype(changing)]  # batch norm's; the averages alias them
        self.bad = torch.zeros((), device=device)  # 1 from the first step on that is not finite: see meter.py
        self.learning = Learning(net, recipe.tuning)
        self.learning.begin_epoch(0)  # before anything asks which parameters learn
        self.optimizer = optimizers.make_optimizer(net, recipe.optimizer, self.bad, self.learning.rates)
        self.average = MovingAverage(net, recipe.ema.decay) if recipe.ema else None
        self.lookahead = SlowWeights(net, recipe.lookahead.decay) if recipe.lookahead else None
        self.random: list[tuple[Tensor, ...]] = []  # the random state before each step since the last reading
        self.in_step = False  # whether what the passes of a step have changed can be undone
        self.whole = True  # whether this is a state to continue from
        self.saved = (0, 0)  # epochs, and steps in the current one, of the last checkpoint

    @property
    def judged(self) -> ConvNet:
        """The network that is evaluated: the average where there is one."""
        return self.average.net if self.average else self.net  # type: ignore[return-value]

    def begin_epoch(self, epoch: int) -> None:
        """Chooses what learns in this epoch, counted from 0."""
        self.learning.begin_epoch(epoch)
        optimizers.fill_momenta(self.optimizer)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """An error within the block leaves a state that is not whole."""
        self.whole = False
        yield
        self.whole = True

    def begin_step(self, lr: float, progress: float) -> None:
        """Sets the learning rate and the training progress (0 to 1), and keeps what the passes may change."""
        optimizers.set_rate(self.optimizer, lr)
        self.net.set_progress(progress)
        self.learning.freeze()
        self.forget_gradients()  # their memory is free before the activations are allocated
        for flat in self.statistics:
            flat.keep(self.bad)
        self.random.append(self.random_state())
        self.in_step = True

    def forget_gradients(self) -> None:
        for p in self.parameters:
            p.grad = None

    def abandon_step(self) -> None:
        """Undoes what the passes of a step under way, if any, have changed."""
        if self.in_step:
            self.rewind(-1)
            self.random.pop()
            self.in_step = False

    def rewind(self, step: int) -> None:
        """Restores the buffers and the random state from before a step that changed no weights.

        `step` counts from the last reading; every step since then was bad as well.
        """
        for flat in self.statistics:
            flat.put_back()
        torch.set_rng_state(self.random[step][0])
        if self.job.device.type == "cuda":
            torch.cuda.set_rng_state(self.random[step][1], self.job.device)

    def random_state(self) -> tuple[Tensor, ...]:
        on_gpu = (torch.cuda.get_rng_state(self.job.device),) if self.job.device.type == "cuda" else ()
        return torch.get_rng_state(), *on_gpu

    def update(self) -> None:
        """Updates the weights; changes nothing after a bad step."""
        self.in_step = False
        optimizers.fill_gradients(self.net)
        if clip := self.job.recipe.optimizer.clip:
            optimizers.clip_(self.optimizer, clip)
        self.optimizer.step()

    def end_step(self, steps: int) -> None:
        """Updates the averages of the weights, after step number `steps` of the run."""
        if self.lookahead:
            self.lookahead.update(steps, self.job.total_steps, self.bad)
        if self.average:
            self.average.update(steps)
        self.in_step = False  # where the step was a CUDA graph

    def gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    def weights(self) -> dict[str, Tensor]:
        """The network's tensors by name, and their averages if there are any."""
        return {**self.net.state_dict(), **(self.average.tensors() if self.average else {})}

    def all_tensors(self) -> dict[str, Tensor]:
        """The weights, the optimizer's state, and the random state of every process."""
        tensors = self.weights() | optimizers.optimizer_state(self.net, self.optimizer)
        if self.lookahead:
            tensors |= self.lookahead.tensors()
        for rank, random in enumerate(self.job.world.gather(torch.get_rng_state())):
            tensors[random_of("cpu", rank)] = random
        if self.job.device.type == "cuda":
            for rank, random in enumerate(self.job.world.gather(torch.cuda.get_rng_state(self.job.device))):
                tensors[random_of("cuda", rank)] = random
        return tensors

    def save_best(self, state: Position) -> None:
        """As `save_last`."""
        weights = self.weights()
        self.job.world.lead(lambda: self.save(checkpoint.BEST, weights, state))

    def save_last(self, state: Position) -> None:
        """Called on all ranks, each of which contributes its random state; rank 0 writes, and all fail if it fails."""
        tensors = self.all_tensors()
        self.job.world.lead(lambda: self.save(checkpoint.LAST, tensors, state))
        self.saved = state.epoch, state.step

    def save(self, name: str, tensors: dict[str, Tensor], state: Position) -> None:
        """Writes one checkpoint: the tensors, the training progress, and the identity of the run."""
        folder = self.run.folder
        check_held(folder)
        if not (folder / FILE).exists():
            self.run.record.write(folder)
            self.job.on_event(note(f"{folder / FILE} was deleted during training; it is written again"))
        tensors = tensors | {f"{NORMALIZER}{key}": t for key, t in self.run.normalizer.tensors.items()}
        keep = folder / checkpoint.PREVIOUS if name == checkpoint.LAST else None
        checkpoint.save(folder / name, tensors, {**self.run.record.identity, "state": asdict(state)}, keep)

    def restore(self) -> Position:
        """Restores the newest checkpoint; without one, training starts from the first step."""
        found = self.job.world.in_turn(lambda: checkpoint.newest(self.run.folder))  # may move broken ones aside
        if found is None:
            self.job.on_event(note(f"{self.run.folder} has no checkpoint; training starts from the first step"))
            return Position()
        for text in found.notes:
            self.job.on_event(note(text))
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
            except (checkpoint.Missing, checkpoint.Damaged) as error:
                self.job.on_event(note(f"{error.what}; the best of the remaining epochs will replace it"))
                state.best_top1, state.best_epoch = -1.0, 0
        self.saved = state.epoch, state.step
        return state

    def restore_random(self, tensors: dict[str, Tensor]) -> None:
        """Restores this rank's random state; a rank not in the checkpoint keeps its seed."""
        rank = self.job.world.rank
        if (random := tensors.get(random_of("cpu", rank))) is not None:
            torch.set_rng_state(random)
        if self.job.device.type == "cuda" and (random := tensors.get(random_of("cuda", rank))) is not None:
            torch.cuda.set_rng_state(random, self.job.device)


def random_of(device: str, rank: int) -> str:
    return f"random/{device}" + (f"/{rank}" if rank else "")


class Flat:
    """Tensors of one dtype as parts of one, so that all are kept, and put back, at once."""

    def __init__(self, tensors: list[Tensor]):
        self.now = torch.cat([t.flatten() for t in tensors])
        self.kept = self.now.clone()
        for tensor, part in zip(tensors, self.now.split([t.numel() for t in tensors]), strict=True):
            tensor.data = part.view(tensor.shape)

    def keep(self, bad: Tensor) -> None:
        """Keeps the values, unless `bad` is not 0: without waiting for it."""
        torch.where(bad > 0, self.kept, self.now, out=self.kept)

    def put_back(self) -> None:
        self.now.copy_(self.kept)


def by_dtype(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())
