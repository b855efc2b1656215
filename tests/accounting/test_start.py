"""What a network starts from, measured: layers whose start is known, and what papers and programs print."""

import pytest
import torch
from torch import nn

from convatlas.accounting.start import Start, start, start_of
from convatlas.catalogue import find
from convatlas.cli import main

TORCH = "uniform, variance 1 / (3 fan-in)"


def told(net: nn.Module) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in start_of(net):
        found.setdefault(one.what, []).append(f"{one.count}: {one.start}")
    return found


def convolutions(n: int, groups: int = 1) -> list[nn.Conv2d]:
    torch.manual_seed(0)
    return [nn.Conv2d(8 * (i + 1), 48, 3, groups=groups) for i in range(n)]


@pytest.mark.parametrize(
    ("groups", "mode", "words"),
    [(1, "fan_in", "2 / fan-in"), (1, "fan_out", "2 / fan-out"), (4, "fan_out", "2 / fan-out")],
)
def test_hes_rule(groups: int, mode: str, words: str) -> None:
    convs = convolutions(4, groups)
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, mode=mode, nonlinearity="relu")
        nn.init.constant_(conv.bias, 0.2)
    assert told(nn.Sequential(*convs)) == {"Conv2d weight": [f"4: normal, variance {words}"], "Conv2d bias": ["4: 0.2"]}


def test_a_fan_out_of_a_group() -> None:
    convs = convolutions(4, groups=4)
    for conv in convs:
        nn.init.normal_(conv.weight, std=(2 / (conv.weight[:, 0].numel() / 4)) ** 0.5)
    assert told(nn.Sequential(*convs))["Conv2d weight"] == ["4: normal, variance 2 / fan-out of a group"]


def test_torchs_own() -> None:
    net = nn.Sequential(*convolutions(4), nn.Linear(100, 200), nn.BatchNorm2d(5, eps=1e-3, momentum=0.003))
    assert told(net) == {
        "Conv2d weight": [f"4: {TORCH}"],
        "Conv2d bias": ["4: drawn, variance 1 / (3 fan-in)"],  # too few to tell their shape
        "Linear weight": [f"1: {TORCH}"],
        "Linear bias": ["1: drawn, variance 1 / (3 fan-in)"],
        "BatchNorm2d weight": ["1: 1"],
        "BatchNorm2d bias": ["1: 0"],
        "BatchNorm2d eps": ["1: 0.001"],
        "BatchNorm2d momentum": ["1: 0.003"],
    }


def test_spreads_that_differ_are_told_apart() -> None:
    convs = convolutions(4)
    for conv, std in zip(convs, (0.05, 0.06, 0.05, 0.05), strict=True):
        nn.init.normal_(conv.weight, std=std)
    assert told(nn.Sequential(*convs))["Conv2d weight"] == ["3: normal, std 0.05", "1: normal, std 0.06"]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("nin", {("Conv2d weight", 9, "normal, std 0.05"), ("Conv2d weight", 3, "normal, std 0.01")}),  # the prototxt
        ("squeezenet1_1", {("Conv2d weight", 25, "uniform, variance 1 / fan-in"),  # Caffe's "xavier"
                           ("Conv2d weight", 1, "normal, std 0.01")}),
        ("plain20", {("Conv2d weight", 19, "normal, variance 2 / fan-in")}),  # He et al. (2015), eq. 10
        ("mobilenet_v1_0_25_224", {("BatchNorm2d eps", 27, "0.001")}),  # slim's arg scope
    ],
)  # fmt: skip
def test_what_programs_print(name: str, printed: set[tuple[str, int, str]]) -> None:
    state = torch.get_rng_state()
    assert printed <= {(one.what, one.count, one.start) for one in start(find(name))}
    assert torch.equal(torch.get_rng_state(), state)


def test_the_scales_of_torch7() -> None:
    (scale,) = [one for one in start(find("wrn16_2")) if one.what == "BatchNorm2d weight"]
    assert scale == Start("BatchNorm2d weight", 13, "drawn from 0.00 to 1.00, mean 0.51")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "nin", "--start"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "params 7,595,176 7,595,176 holds" in shown
    assert "Conv2d weight 9 normal, std 0.05 Conv2d weight 3 normal, std 0.01 Conv2d bias 12 0" in shown
    assert "convatlas/nets/nin.py says what is printed about them" in shown
    assert main(["claims", "--start"]) == 2
    assert "--start builds a network; give its name" in capsys.readouterr().err
