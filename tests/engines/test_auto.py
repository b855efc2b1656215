"""The fastest engine is found by measurement, once for each network, way of running and machine."""

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from convatlas.engines import auto
from convatlas.engines.net import EngineNet
from convatlas.engines.sessions import ENGINES, on
from convatlas.errors import UserError
from tests.engines import nets


class Busy(EngineNet):
    """Computes for so many seconds."""

    def __init__(self, name: str, seconds: float):
        super().__init__(name, "fp32", 1, "")
        self.seconds = seconds

    def logits(self, x: Tensor) -> Tensor:
        end = time.process_time() + self.seconds
        while time.process_time() < end:
            pass
        return x


@pytest.fixture(autouse=True)
def a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "SECONDS", 0.1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("cache")
def test_the_fastest_is_chosen_and_remembered() -> None:
    sessions = {name: Busy(name, s) for name, s in (("slow", 0.006), ("fast", 0.002), ("middle", 0.004))}
    choice = auto.timed(sessions, (1, 8, 8), threads=1, batch=2, key="some")
    assert choice.engine == "fast"
    assert choice.milliseconds["fast"] == pytest.approx(1, rel=0.3)
    assert auto.remembered("some") == choice
    assert str(choice).startswith("fast (fast 1")
    assert auto.remembered("other") is None


def test_what_a_choice_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one, same, other = nets.model("lenet5").net, nets.model("lenet5").net, nets.model("lenet5_tanh").net
    with torch.no_grad():
        next(same.parameters()).zero_()
    given = ((1, 32, 32), "fp32", 1, 1)
    keys = {
        auto.key_of(one, *given),
        auto.key_of(other, *given),
        auto.key_of(one, (1, 36, 36), "fp32", 1, 1),
        auto.key_of(one, (1, 32, 32), "bf16", 1, 1),
        auto.key_of(one, (1, 32, 32), "fp32", 2, 1),
        auto.key_of(one, (1, 32, 32), "fp32", 1, 8),
    }
    assert len(keys) == 6
    assert auto.key_of(same, *given) in keys
    monkeypatch.setattr(auto.facts, "flags", lambda: ("avx2",))
    assert auto.key_of(one, *given) not in keys


def test_a_damaged_choice_is_named(cache: Path) -> None:
    (cache / "engines").mkdir()
    for text in ("{", "[]", '{"engine": "torch", "milliseconds": {"torch": "fast"}}'):
        (cache / "engines" / "some.json").write_text(text)
        with pytest.raises(UserError, match=r"some\.json is damaged; delete it; the engines are then timed again"):
            auto.remembered("some")


@pytest.mark.usefixtures("exports")
def test_auto_runs_one_of_the_engines_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    model, said = nets.model("lenet5"), list[str]()
    x = nets.images(model, 3)
    first = on(model, "auto", tell=said.append)
    monkeypatch.setattr(auto, "timed", None)
    second = on(model, "auto", tell=said.append)
    assert first.net.engine == second.net.engine in ENGINES
    assert said[0].startswith(f"{first.net.engine} (")
    assert all(f"{name} " in said[0] for name in ENGINES)
    assert said[1] == f"{said[0]}, as measured before"
    with torch.no_grad():
        assert nets.error(first.net(x), model.net(x)) <= 1e-4
