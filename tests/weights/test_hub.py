"""The hub, as far as its client asks a server for a repository's weights: one that runs here."""

from __future__ import annotations

import hashlib
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.errors import UserError
from convatlas.weights.model import load

constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed (extra `hub`)")


class Hub(BaseHTTPRequestHandler):
    """Answers for repositories by their contents; anything but weights must not be asked for."""

    held: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[tuple[str, str | None]] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(self.held.get(self.path.replace("/resolve/main", ""), b""))

    def answer(self, body: bytes) -> None:
        if "/resolve/" in self.path:
            self.asked.append((self.path, self.headers.get("Authorization")))
        content = self.held.get(self.path.replace("/resolve/main", ""))
        self.send_response(404 if content is None else 200)
        if content is None:
            known = any(path.startswith(self.path.partition("/resolve")[0] + "/") for path in self.held)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    for name in ("CONVATLAS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
    content = save(find("squeezenet1_1").build(classes=5).state_dict())
    Hub.held = {"/me/photos/model.safetensors": content, "/me/notes/README.md": b"x"}
    Hub.held["/timm/resnet18.a1_in1k/model.safetensors"] = b"no weights"
    Hub.asked = []
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_repository_is_a_model(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "squeezenet1_1@hf:me/photos"
    model = load(name, preprocess="half")
    assert (model.network, len(model.classes)) == ("squeezenet1_1", 5)
    assert {path for path, _ in hub.asked} == {"/me/photos/resolve/main/model.safetensors"}
    assert {token for _, token in hub.asked} == {"Bearer hf_mine"}
    with pytest.raises(UserError, match="weights of squeezenet1_1, but does not say how its images were prepared"):
        load(name)
    with pytest.raises(UserError, match="does not fit resnet18"):
        load("resnet18@hf:me/photos", preprocess="half")

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for variable in ("CONVATLAS_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as context:
            context.setenv(variable, "1")
            assert load(name, preprocess="half").source == model.source
            with pytest.raises(UserError, match="me/other is not in the hub's cache, and CONVATLAS_OFFLINE or HF_HUB"):
                load("squeezenet1_1@hf:me/other")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("squeezenet1_1@hf:me/none", "the hub has no repository me/none, or not for everybody; log in with"),
        ("squeezenet1_1@hf:me/notes", "me/notes has neither model.safetensors nor pytorch_model.bin; give the file"),
        ("squeezenet1_1@hf:../../etc", "names no repository; write NETWORK@hf:OWNER/REPOSITORY"),
        ("@hf:me/photos", "'@hf:me/photos' names no repository"),
        ("resnet18@hf:timm/resnet18.a1_in1k", "is not a complete safetensors file|is not a weights file"),
        ("resnet5O@hf:me/photos", "no network named 'resnet5O'; did you mean"),
    ],
)
def test_what_is_no_model(hub: type[Hub], name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(name)


def test_the_command_line(hub: type[Hub], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "get", "squeezenet1_1@hf:me/photos"]) == 0
    file = Path(capsys.readouterr().out.strip())
    assert file.read_bytes() == hub.held["/me/photos/model.safetensors"]
    assert main(["show", "squeezenet1_1@hf:me/photos"]) == 0
    assert main(["evaluate", "squeezenet1_1@hf:me/none", "--data", "digits"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_the_client(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"weights of the hub need huggingface_hub; pip install 'convatlas\[hub\]'"):
        load("squeezenet1_1@hf:me/photos")
