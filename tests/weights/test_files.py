"""Weights from files, put into networks by name; downloads of the right checksum and length, or none."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from convatlas.catalogue import find
from convatlas.doctor import examine
from convatlas.errors import UserError
from convatlas.weights.fetch import fetch
from convatlas.weights.files import read_weights
from convatlas.weights.match import load_weights
from tests.trained import train


def net(**options: Any) -> nn.Module:
    return find("chain_n1_m1_k0").build(**{"input": (1, 8, 8), "classes": 10, "widths": (4,), **options})


def saved(path: Path, tensors: dict[str, Tensor], nested: str = "") -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({nested: tensors, "epoch": 3, "args": ["x"]} if nested else tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".th"])
def test_weights_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    theirs, ours = net(), net()
    path = saved(tmp_path / f"w{suffix}", theirs.state_dict())
    assert read_weights(path).about == {}
    assert load_weights(path, ours).how == "by name"
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("nested", ["state_dict", "model", "model_state_dict", "state_dict_ema"])
@pytest.mark.parametrize("legacy", [False, True])
def test_what_training_scripts_save(tmp_path: Path, nested: str, legacy: bool) -> None:
    theirs, ours = net(), net()
    tensors = {f"module.{name}": nn.Parameter(t) for name, t in theirs.state_dict().items()}
    torch.save({nested: tensors, "epoch": 3}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    load_weights(tmp_path / "w.pth", ours)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()))


def test_averages_are_read_rather_than_what_they_are_of(tmp_path: Path) -> None:
    theirs, ours = net(), net()
    average = torch.optim.swa_utils.AveragedModel(theirs)
    other = {name: t + 1 for name, t in theirs.state_dict().items()}
    torch.save({"model": other, "model_ema": average.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    load_weights(tmp_path / "w.pth", ours)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()))


def test_a_runs_checkpoint_gives_the_networks_tensors_and_says_whose_they_are(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    weights = read_weights(run.folder / "last.safetensors")
    assert weights.about["network"] == "resnet20"
    assert set(weights.tensors) == set(run.load().state_dict())
    with pytest.raises(UserError, match=r"best.safetensors has weights of resnet20; give weights of ch"):
        load_weights(run.folder / "best.safetensors", net())
    whole = (run.folder / "best.safetensors").read_bytes()
    (run.folder / "best.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="its checksum does not match"):
        read_weights(run.folder / "best.safetensors")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    tensors = net().state_dict()
    first, second, *_ = tensors
    other = net()
    before = {name: t.clone() for name, t in other.state_dict().items()}
    wrong = {**tensors, "extra": torch.zeros(1), second: torch.zeros(9)}
    del wrong[first]
    path = saved(tmp_path / "w.pth", wrong)
    with pytest.raises(
        UserError,
        match=rf"w.pth does not fit chain_n1_m1_k0: missing keys: {first}, unexpected keys: extra, "
        rf"size mismatch: {second} \(9 in the file, 4 in the network\)",
    ):
        load_weights(path, other)
    assert all(torch.equal(t, before[name]) for name, t in other.state_dict().items())
    with pytest.raises(UserError, match=r"size mismatch: .* \(4x1x3x3 in the file, .*, 8x1x3x3 in the network\)"):
        load_weights(saved(tmp_path / "x.pth", net().state_dict()), net(widths=(8,)))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({}, "does not contain a state dict"),
        ([torch.zeros(1)], "does not contain a state dict"),
        ({"a": torch.zeros(1), "b": 3}, "contains int 'b' among its tensors"),
        ({1: torch.zeros(1)}, "contains Tensor '1' among its tensors"),
        (
            {"a": torch.zeros(2, 2).to_sparse()},
            r"is damaged or contains more than plain tensors \(it has a sparse tensor\)",
        ),
        (nn.Linear(2, 2), "is damaged or contains more than plain tensors"),
    ],
)
def test_other_things_are_refused(tmp_path: Path, held: Any, message: str) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(UserError, match=rf"w\.pt {message}"):
        read_weights(tmp_path / "w.pt")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.txt", b"x", r"a\.txt is not a weights file that convatlas can read; give one of \.safetensors, \.pth, "),
        ("a.pth", b"", r"a\.pth is damaged or contains more than plain tensors"),
        ("a.safetensors", b"x" * 99, r"a\.safetensors is not a complete safetensors file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_weights(tmp_path / name)
    with pytest.raises(UserError, match=r"none\.pth cannot be read \(No such file"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(UserError, match="is not a file"):
        read_weights(tmp_path)
    path = saved(tmp_path / "big.pth", {"a": torch.zeros(1000)})
    with pytest.raises(UserError, match=r"big\.pth has [\d,]+ bytes, more than the 999 allowed"):
        read_weights(path, max_bytes=999)


BAD = {
    "nan": (lambda t: t * float("nan"), "has values in .* that are not finite as float32; give other weights"),
    "infinite": (lambda t: t + float("inf"), "has values in .* that are not finite as float32"),
    "too large for float32": (lambda t: t.double() * 0 + 1e300, "has values in .* that are not finite as float32"),
    "complex": (lambda t: t * 1j + 1j, "has complex values in .*; give real weights"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("what", BAD)
def test_weights_that_would_predict_nothing_are_refused(tmp_path: Path, what: str, suffix: str) -> None:
    change, message = BAD[what]
    ours = net()
    first, *_ = before = {name: t.clone() for name, t in ours.state_dict().items()}
    path = saved(tmp_path / f"w{suffix}", {**before, first: change(before[first])})
    with pytest.raises(UserError, match=message):
        load_weights(path, ours)
    assert all(torch.equal(t, before[name]) for name, t in ours.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.int8, "int8"), (torch.int64, "int64"), (torch.uint16, "uint16"), (torch.bool, "bool"),
        (torch.complex64, "complex64"), (torch.float8_e5m2, "float8_e5m2"), (torch.float16, "float16"),
    ],
)  # fmt: skip
def test_weights_of_another_type_are_said(tmp_path: Path, dtype: torch.dtype, name: str, suffix: str) -> None:
    theirs = {key: (t > 0).to(dtype) for key, t in net().state_dict().items()}
    ours = net()
    found = load_weights(saved(tmp_path / f"w{suffix}", theirs), ours)
    assert any(note.startswith(f"{name} made float32") for note in found.notes)
    assert all(torch.equal(t != 0, theirs[key] != 0) for key, t in ours.state_dict().items() if t.dim())


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("F4", 1, r"has 'a' of type F4; give weights of type F64"),
        ("F6_E2M3", 3, r"of type F6_E2M3|is not a complete safetensors file"),
        ("F8_E8M0", 4, r"has 'a' of type F8_E8M0"),
        ("F128", 64, "is not a complete safetensors file"),
        (None, 0, "contains no tensors; give a file of weights"),
    ],
)
def test_types_that_no_network_has(tmp_path: Path, kind: str | None, size: int, message: str) -> None:
    shape = [size * 8 // int(kind[1:].split("_")[0])] if kind else []
    header = json.dumps({"a": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}} if kind else {}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(UserError, match=message):
        read_weights(path)
    assert not examine(path).intact


# downloads

module = sys.modules["convatlas.weights.fetch"]  # which the function has taken the place of
CONTENT = bytes(range(256)) * 1000
SLOW = ("slow", "trickle", "slow-header", "slow-loop")
RIGHT = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT in as many ways as a server can go wrong."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        way = self.path.strip("/").split("/")[0]
        if way in ("loop", "far", "slow-loop", "endless-loop"):
            time.sleep(0.25 * (way == "slow-loop"))
            self.send_response(302)
            self.send_header("Location", self.path if way.endswith("loop") else "file:///etc/passwd")
            self.end_headers()
            with suppress(OSError):
                while way == "endless-loop":
                    self.wfile.write(CONTENT)
            return
        if way == "slow-header":
            with suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Header: " + b"x" * 600:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            return
        self.send_response(404 if way == "missing" else 200)
        if way != "endless":
            self.send_header("Content-Length", str(len(CONTENT) + (1000 if way == "short" else 0)))
        self.end_headers()
        try:
            if way == "endless":
                while True:
                    self.wfile.write(CONTENT)
            if step := {"steady": 20_000, "slow": 1000, "trickle": 1}.get(way):
                for i in range(0, len(CONTENT), step):
                    self.wfile.write(CONTENT[i : i + step])
                    time.sleep(0.05)
            self.wfile.write(CONTENT)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    it = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.daemon_threads = True
    thread = threading.Thread(target=it.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{it.server_port}"
    it.shutdown()
    it.server_close()


def test_a_file_is_fetched_once(server: str, tmp_path: Path) -> None:
    path = fetch(f"{server}/good/w.bin", RIGHT, 10**6, tmp_path / "a")
    assert path == tmp_path / "a" / "w.bin"
    assert path.read_bytes() == CONTENT
    asked = len(Handler.asked)
    assert fetch(f"{server}/good/w.bin", RIGHT, 10**6, tmp_path / "a") == path
    assert len(Handler.asked) == asked
    path.write_bytes(b"damaged")  # then it is fetched again
    assert fetch(f"{server}/good/w.bin", RIGHT, 10**6, tmp_path / "a").read_bytes() == CONTENT
    assert [f.name for f in path.parent.iterdir()] == ["w.bin"]


@pytest.mark.parametrize(
    ("way", "more", "message"),
    [
        (
            "good",
            {"digest": f"sha256:{'0' * 64}"},
            "does not have the digest sha256:0{64}; it has changed",
        ),
        ("good", {"digest": "sha256:00000000"}, r"does not have the digest sha256:00000000"),
        ("good", {"digest": f"md5:{'0' * 32}"}, r"does not have the digest md5:0{32}"),
        ("good", {"max_bytes": len(CONTENT) - 1}, "has 256,000 bytes, more than the 255,999 allowed"),
        ("endless", {}, "sends more than the 1,000,000 bytes allowed"),
        ("short", {}, r"cannot be downloaded \(.*(IncompleteRead|broken)"),
        ("endless-loop", {}, r"cannot be downloaded \(Exceeded 10 redirects"),
        ("loop", {}, r"cannot be downloaded \(Exceeded 10 redirects"),
        ("far", {}, "cannot be downloaded"),
        ("missing", {}, r"cannot be downloaded \(404 Client Error"),
        *((way, {"deadline_s": 0.3}, r"takes longer than 0\.3 s") for way in SLOW),
    ],
)
def test_what_goes_wrong_leaves_what_was_there(
    server: str, tmp_path: Path, way: str, more: dict[str, Any], message: str
) -> None:
    settings = {"digest": RIGHT, "max_bytes": 10**6, **more}
    url = f"{server}/{way}/w.bin"
    before = time.monotonic()
    with pytest.raises(UserError, match=message):
        fetch(url, folder=tmp_path / "new", **settings)
    assert time.monotonic() - before < 10
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "w.bin").write_bytes(b"an older one")
    with pytest.raises(UserError, match=message):
        fetch(url, folder=tmp_path / "old", **settings)
    assert {f.name: f.read_bytes() for f in (tmp_path / "old").iterdir()} == {"w.bin": b"an older one"}


@pytest.mark.parametrize(("way", "sent"), [("trickle", r"[1-9]\d?"), ("slow-header", "0")])
def test_a_server_that_all_but_stops_is_left(
    server: str, tmp_path: Path, way: str, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.5)
    with pytest.raises(UserError, match=rf"has sent {sent} bytes in 0\.5 s; try again later"):
        fetch(f"{server}/{way}/w.bin", RIGHT, 10**6, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sha1", "md5"])
def test_other_digests(server: str, tmp_path: Path, kind: str) -> None:
    digest = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
    assert fetch(f"{server}/good/w.bin", digest, 10**6, tmp_path / "a").read_bytes() == CONTENT
    with pytest.raises(UserError, match=f"does not have the digest {kind}:0"):
        fetch(f"{server}/good/w.bin", f"{kind}:{'0' * len(digest.partition(':')[2])}", 10**6, tmp_path / "b")


def test_a_slow_server_has_all_the_time_that_it_needs(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.2)  # and it takes 0.6 s
    assert fetch(f"{server}/steady/w.bin", RIGHT, 10**6, tmp_path).read_bytes() == CONTENT


def test_a_name_that_nobody_can_look_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    before = time.monotonic()
    with pytest.raises(UserError, match=r"takes longer than 0\.3 s"):
        fetch("http://example.invalid/w.bin", RIGHT, 10**6, tmp_path, deadline_s=0.3)
    assert time.monotonic() - before < 3


@pytest.mark.parametrize(
    ("url", "digest", "message"),
    [
        ("file:///etc/passwd", RIGHT, "is not an http or https address"),
        ("ftp://127.0.0.1/x", RIGHT, "is not an http or https address"),
        ("http:///x", RIGHT, "is not an http or https address"),
        ("http://127.0.0.1:1/x", RIGHT, r"cannot be downloaded \(.*refused"),
        ("http://127.0.0.1:1/", RIGHT, "does not end in a plain file name"),
        ("http://127.0.0.1:1/..", RIGHT, "does not end in a plain file name"),
        ("http://127.0.0.1:1/x", "", "needs a digest"),
        ("http://127.0.0.1:1/x", "md5:1234", "needs a digest"),
    ],
)
def test_what_is_not_asked_for(tmp_path: Path, url: str, digest: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fetch(url, digest, 1000, tmp_path)
    assert list(tmp_path.iterdir()) == []
