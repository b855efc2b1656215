"""Files of torch.save: the tensors that torch itself loads, bit for bit, in both layouts."""

from __future__ import annotations

import collections
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.weights.files import read_weights

BASE = torch.arange(100.0)
SHARED = nn.Parameter(torch.arange(12.0).view(3, 4))
TENSORS: dict[str, Tensor] = {
    "a part, turned": BASE[5:35].view(5, 6).t(),
    "every second row": BASE.view(10, 10)[::2],
    "a parameter": SHARED,
    "the same one": SHARED,
    "one value": torch.tensor(7),
    "no value": torch.empty(0, 3),
    "channels last": torch.arange(120.0).view(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    **{
        str(dtype): torch.arange(5).to(dtype)
        for dtype in (
            torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
            torch.uint8, torch.bool, torch.complex64, torch.complex128,
        )
    },
}  # fmt: skip
NEWER = {str(dtype): torch.arange(5).to(dtype) for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16)}


@pytest.mark.parametrize("older", [False, True])
def test_the_tensors_are_those_that_torch_loads(tmp_path: Path, older: bool) -> None:
    tensors = TENSORS if older else {**TENSORS, **NEWER}
    beside = {
        "epoch": 3,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.99)}]},
        "others": [{1, 2}, torch.Size([1, 2]), torch.device("cpu"), torch.float32, collections.Counter("aab"), b"\xff"],
        "lists": collections.defaultdict(list),
    }
    path = tmp_path / "w.pth"
    held = {"state_dict": collections.OrderedDict(tensors), **beside}
    torch.save(held, path, _use_new_zipfile_serialization=not older)
    theirs, ours = torch.load(path, weights_only=False)["state_dict"], read_weights(path).tensors
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape
        assert ours[name].tolist() == tensor.tolist() or torch.equal(ours[name], tensor), name


def test_what_torch_trains_with_is_read(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    adam = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    adam.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [3, 5])
    record = {"model": net.state_dict(), "adam": adam.state_dict(), "schedule": schedule.state_dict()}
    torch.save(record, tmp_path / "w.pth")
    ours = read_weights(tmp_path / "w.pth").tensors
    assert all(torch.equal(tensor, ours[name]) for name, tensor in net.state_dict().items())
    assert len(ours) == 7


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("at", [0.3, 0.6, 0.999])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, at: float, older: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=not older)
    path.write_bytes(path.read_bytes()[: int(at * path.stat().st_size)])
    with pytest.raises(UserError, match=r"w\.pth (is damaged|contains '.*', which should have|is not a)"):
        read_weights(path)


def test_a_program_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as file:
        for name in ("data.pkl", "constants.pkl", "code/net.py"):
            file.writestr(f"net/{name}", b"\x80\x02N.")
    with pytest.raises(UserError, match="it is a TorchScript archive, which is a program"):
        read_weights(tmp_path / "w.pt")
