"""Forward and backward of a batch: in parts as in one piece; what happens when the memory is too small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.machine.processes import World
from convatlas.recipe import SGD, Recipe
from convatlas.train.events import Event, quiet
from convatlas.train.execution import Execution, decide
from convatlas.train.fit import fit
from convatlas.train.job import Job
from convatlas.train.passes import Passes
from tests.trained import digits

CPU = torch.device("cpu")
RECIPE = Recipe(name="brief", source="a test", epochs=2, batch=16, optimizer=SGD(0.05), net=(("widths", (4,)),))
NET = "chain_n1_m1_k0"


def net() -> ConvNet:
    torch.manual_seed(0)
    return find(NET).build(input=(1, 8, 8), classes=10, widths=(4,)).double()


def passes(net: ConvNet, size: int, recipe: Recipe = RECIPE, on_event: Callable[[Event], None] = quiet) -> Passes:
    execution = Execution(precision="float32", micro_batch=size)
    return Passes(net, Job(find(NET), digits(), recipe, (1, 8, 8), 0, CPU, execution, World(), on_event))


def batch(n: int = 11) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 1, 8, 8, dtype=torch.float64, generator=generator), torch.arange(n) % 10


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 11, 99])
def test_parts_add_up_to_the_batch(size: int, soft: bool) -> None:
    x, y = batch()
    target = (0.7 * F.one_hot(y, 10) + 0.3 * F.one_hot(y.flip(0), 10)).float() if soft else y
    whole, parted = net(), net()
    expected = F.cross_entropy(whole(x).float(), target, label_smoothing=0.1)
    expected.backward()
    loss, logits = passes(parted, size, replace(RECIPE, label_smoothing=0.1))(x, target, len(x))
    torch.testing.assert_close(loss.float(), expected.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(logits, whole(x).detach())
    for ours, theirs in zip(parted.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-8)  # the loss is float32


def small_memory(net: ConvNet, limit: int) -> list[int]:
    """Makes the network run out of memory, in the backward pass, on more than so many images; lists how many came."""
    sizes: list[int] = []

    def check(_: nn.Module, __: object, gradient: tuple[Tensor, ...]) -> None:
        sizes.append(len(gradient[0]))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")

    net.head.register_full_backward_hook(check)  # type: ignore[arg-type]
    return sizes


def test_out_of_memory_halves_the_parts_for_good_and_changes_no_gradient() -> None:
    x, y = batch(16)
    plain, tight = net(), net()
    passes(plain, 16)(x, y, 16)
    events: list[Event] = []
    sizes, run = small_memory(tight, 5), passes(tight, 16, on_event=events.append)
    run(x, y, 16)
    assert sizes == [16, 8, 4, 4, 4, 4]
    assert [e["text"] for e in events] == [
        "out of memory: gradients are now accumulated over passes of 8 images",
        "out of memory: gradients are now accumulated over passes of 4 images",
    ]
    for ours, theirs in zip(tight.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    sizes.clear()
    for p in tight.parameters():
        p.grad = None
    run(x, y, 16)
    assert sizes == [4, 4, 4, 4]


def test_not_even_one_image_fits() -> None:
    tight = net()
    small_memory(tight, 0)
    with pytest.raises(UserError, match="out of memory on cpu even with one image; give a smaller --micro-batch, or"):
        passes(tight, 4)(*batch(4), 4)


def test_other_processes_could_not_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    tight = net()
    small_memory(tight, 2)
    alone = passes(tight, 4)
    alone.world = World(0, 2)
    with pytest.raises(UserError, match="even with this process's share of a batch; give a smaller --micro-batch"):
        alone(*batch(4), 8)


def test_the_steps_stay_the_recipes(tmp_path: Path) -> None:
    """A network without batch norm ends, in parts of 3 images of batches of 16, where it ends in whole batches."""
    runs = [
        fit(
            NET,
            digits(),
            RECIPE,
            out=tmp_path / str(n),
            device="cpu",
            execution=Execution(micro_batch=n, precision="float32"),
        )
        for n in (16, 3)
    ]
    whole, parted = (run.load("last").state_dict() for run in runs)
    for name, tensor in whole.items():
        torch.testing.assert_close(parted[name], tensor, rtol=1e-4, atol=1e-5)
    assert [line["step"] for line in runs[0].log()] == [line["step"] for line in runs[1].log()]
    assert runs[1].record.execution["micro_batch"] == 3


def test_segments_end_where_the_whole_ends(tmp_path: Path) -> None:
    """Batch norm's statistics and dropout included: the same bits."""
    recipe = replace(RECIPE, net=(("depth", 10), ("width", 1)))
    runs = [
        fit("wrn16_4_dropout", digits(64), recipe, out=tmp_path / str(n), device="cpu", execution=Execution(segments=n))
        for n in (0, 3)
    ]
    whole, parted = (run.load("last").state_dict() for run in runs)
    for name, tensor in whole.items():
        assert torch.equal(parted[name], tensor), name


def test_segments_that_cannot_be_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="activation checkpointing does not run the auxiliary classifiers of googlenet; train"
    ):
        decide(Execution(segments=2), find("googlenet").build(), replace(RECIPE, aux_weight=0.3), CPU, World())
    with pytest.raises(UserError, match="runs 4 modules in sequence, too few for 99 segments"):
        fit(NET, digits(), RECIPE, out=tmp_path / "run", device="cpu", execution=Execution(segments=99))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_resumed_run_keeps_its_execution(tmp_path: Path) -> None:
    """And says what is now asked for otherwise."""
    first = replace(RECIPE, epochs=1)
    fit(NET, digits(), first, out=tmp_path, device="cpu", execution=Execution(micro_batch=5))
    events: list[Event] = []
    fit(NET, digits(), first, out=tmp_path, device="cpu", resume=True, on_event=events.append)
    assert not [e for e in events if e["kind"] == "note"]
    fit(
        NET,
        digits(),
        first,
        out=tmp_path,
        device="cpu",
        execution=Execution(micro_batch=4),
        resume=True,
        on_event=events.append,
    )
    (note,) = (e["text"] for e in events if e["kind"] == "note")
    assert note == "resumed with changes, so the last bits may differ: execution.micro_batch was 5, is now 4"
