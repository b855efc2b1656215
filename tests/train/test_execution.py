"""What the engine decides before a run starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.accounting.memory.predict import memory
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import ConvNet, on_meta
from convatlas.machine.processes import World
from convatlas.recipe import SGD, Recipe
from convatlas.recipes import find_recipe
from convatlas.train import execution as room
from convatlas.train.execution import Execution, computes_bfloat16, decide
from convatlas.train.fit import fit
from tests.trained import digits

CPU = torch.device("cpu")
RECIPE = find_recipe("resnet_cifar")  # batch 128


def net(name: str) -> ConvNet:
    with on_meta():
        return find(name).build()


def free(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(room, "virtual_memory", lambda: type("Free", (), {"available": n}))


@pytest.mark.parametrize(("has", "name", "expected"), [(True, "resnet20", "bfloat16"), (True, "lenet5", "float32")])
def test_bfloat16_where_it_pays(monkeypatch: pytest.MonkeyPatch, has: bool, name: str, expected: str) -> None:
    monkeypatch.setattr(room, "computes_bfloat16", lambda _: has)
    assert decide(Execution(), net(name), RECIPE, CPU, World()).precision == expected


def test_no_bfloat16_without_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "computes_bfloat16", lambda _: False)
    assert decide(Execution(), net("resnet20"), RECIPE, CPU, World()).precision == "float32"
    with pytest.raises(UserError, match="this cpu does not support bfloat16; give --precision float32"):
        decide(Execution(precision="bfloat16"), net("resnet20"), RECIPE, CPU, World())


def test_the_processor_is_asked() -> None:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    flags = next((line for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("only Linux on x86 lists the processor's instructions so")
    assert computes_bfloat16(CPU) == bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))


def test_a_batch_passes_whole_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**12)
    assert decide(Execution(), net("resnet20"), RECIPE, CPU, World()).micro_batch == 128
    assert decide(Execution(), net("resnet20"), RECIPE, CPU, World(0, 3)).micro_batch == 43  # the largest share
    assert decide(Execution(micro_batch=16), net("resnet20"), RECIPE, CPU, World()).micro_batch == 16
    assert decide(Execution(micro_batch=999), net("resnet20"), RECIPE, CPU, World()).micro_batch == 128


def test_as_many_images_at_once_as_the_predicted_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    need = memory(net("resnet20")).training
    free(monkeypatch, int(need.of(50) / room.SHARE_OF_MEMORY) + 1)
    assert decide(Execution(), net("resnet20"), RECIPE, CPU, World()).micro_batch == 50
    assert decide(Execution(), net("resnet20"), RECIPE, CPU, World(0, 2)).micro_batch < 25  # they share the memory


def test_not_even_one_image_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**6)
    with pytest.raises(UserError, match=r"resnet20 needs 0.0 GB to train on one image, and 0.0 GB is free; give a"):
        decide(Execution(), net("resnet20"), RECIPE, CPU, World())
    assert decide(Execution(segments=5), net("resnet20"), RECIPE, CPU, World()).micro_batch == 128  # not predicted


def test_what_cannot_be() -> None:
    with pytest.raises(UserError, match=r"no precision named 'bfloat'; did you mean bfloat16, float32\?"):
        Execution(precision="bfloat")
    with pytest.raises(UserError, match="segments=-1 is out of range; give at least 0"):
        Execution(segments=-1)
    with pytest.raises(UserError, match="sync_bn needs a GPU"):
        decide(Execution(sync_bn=True), net("resnet20"), RECIPE, CPU, World())
    with pytest.raises(UserError, match="no execution field named 'segment'; did you mean segments"):
        Execution.from_json({"segment": 1})


def test_an_engine_goes_through_json() -> None:
    execution = replace(Execution(), precision="float32", segments=3)
    assert Execution.from_json(execution.to_json()) == execution


def test_a_deterministic_run_says_so_and_uses_no_other_algorithm(tmp_path: Path) -> None:
    enabled: list[bool] = []
    run = fit(
        "chain_n1_m1_k0",
        digits(64),
        Recipe(name="brief", source="a test", epochs=1, batch=16, optimizer=SGD(0.05), net=(("widths", (4,)),)),
        out=tmp_path,
        device="cpu",
        execution=Execution(deterministic=True),
        on_event=lambda event: enabled.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert run.record.execution["deterministic"] is True
    assert set(enabled) == {True}
    assert not torch.are_deterministic_algorithms_enabled()
