"""A calibration on a clock and an engine of our own, whose times are known in closed form."""

from pathlib import Path

import pytest

from convatlas import account
from convatlas.engines.latency import calibrate as module
from convatlas.engines.latency.calibrate import TOGETHER, calibrate, timed_chains
from convatlas.engines.latency.estimate import estimate
from convatlas.engines.latency.features import features
from convatlas.engines.latency.graph import Graph
from convatlas.errors import UserError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


class Clock:
    """Moves on by what calls take: a known number of seconds for each feature, and now and then something else's."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def now(self) -> float:
        return self.seconds

    def timer(self, call) -> float:
        begin = self.seconds
        call()
        return self.seconds - begin

    def opener(self, engine: str, precision: str, threads: int):
        def opens(made: Graph, file: Path):
            own = sum(features(account(str(file), batch=1).rows, made.input).values())

            def call() -> None:
                self.calls += 1
                self.seconds += own * (3 if self.calls % 11 == 0 else 1)  # another process

            return call

        return opens


def test_what_is_learnt_predicts_networks() -> None:
    clock, heard = Clock(), []
    profile = calibrate(
        "onnxruntime",
        seconds=14,
        now=clock.now,
        timer=clock.timer,
        opened=clock.opener,
        tell=lambda share, chains: heard.append((share, chains)),
    )
    assert clock.seconds <= 14 * 1.3
    assert heard[-1][1] >= profile.chains >= 40
    assert [share for share, _ in heard] == sorted(share for share, _ in heard)
    assert profile.low <= 1 <= profile.high
    for name in ("resnet18", "mobilenet_v2", "densenet121", "vgg16"):
        found = estimate(name, profile)
        counts = account(name)
        true = sum(features(counts.rows, counts.input).values())
        assert found.median_s == pytest.approx(true, rel=0.1), name
        assert found.low_s <= found.median_s <= found.high_s


def test_too_short_a_time_is_refused() -> None:
    clock = Clock()
    with pytest.raises(UserError, match=r"^0.5 seconds are enough for \d+ chains; give time for 40$"):
        calibrate("onnxruntime", seconds=0.5, now=clock.now, timer=clock.timer, opened=clock.opener)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onnxruntme", "fp32", "^no engine named 'onnxruntme'; did you mean onnxruntime"),
        ("torch", "fp32", "^no engine named 'torch'"),
        ("onnxruntime", "bf16", "^onnxruntime does not compute in bf16; give fp32, int8$"),
    ],
)
def test_what_cannot_be_calibrated(engine: str, precision: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        calibrate(engine, precision)


def test_one_reference_for_all_groups() -> None:
    assert module.reference().bytes() == module.reference().bytes()


def test_real_chains_are_timed() -> None:
    """On a real engine. The time is over after the first group, some of whose chains may be too short to tell."""
    found, reference_s = timed_chains("onnxruntime", "fp32", seconds=1e-3)
    assert 0 < len(found) <= TOGETHER
    assert reference_s > 0
    assert all(took > 0 for _, took in found)
