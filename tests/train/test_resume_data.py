"""Resuming on other data than before: for every kind of source, whatever was exchanged in it is noticed and named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convatlas.data.sources import load_data
from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.runs.folder import open_run
from convatlas.train.events import Event
from convatlas.train.fit import fit
from tests.data.sources.sets import CLASSES, IMAGES, SETS, write
from tests.train.short_runs import CHAIN, TINY

EXCHANGED = {
    "labels": (IMAGES, [1, 0, *CLASSES[2:]]),  # of the first two images
    "contents": ([IMAGES[2], IMAGES[1], IMAGES[0], *IMAGES[3:]], CLASSES),  # of two images of one class and size
    "one image": ([*IMAGES[:5], IMAGES[0]], CLASSES),
}


class Killed(Exception):
    pass


def train(data: Data, out: Path, resume: bool = False, at_step: Callable[[Event], None] = lambda event: None) -> None:
    size = (len(data.mean), 8, 8)
    fit(TINY, data, CHAIN, out=out, input=size, device="cpu", resume=resume, on_event=at_step)


def killed_after_an_epoch(data: Data, out: Path, before: Callable[[], Any] = lambda: None) -> None:
    def on_event(event: Event) -> None:
        if event["kind"] == "step" and event["epoch"] == 2:
            before()
            raise Killed

    with pytest.raises(Killed):
        train(data, out, at_step=on_event)


@pytest.fixture(scope="module", params=SETS)
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A kind of source, and a folder with data of that kind and a run that was killed after one of two epochs."""
    at = tmp_path_factory.mktemp("begun")
    killed_after_an_epoch(load_data(f"{request.param}:{write(request.param, at / 'data')}"), at / "run")
    return request.param, at


@pytest.mark.parametrize("what", EXCHANGED)
def test_what_was_exchanged_is_named(begun: tuple[str, Path], tmp_path: Path, what: str) -> None:
    kind, at = begun
    shutil.copytree(at / "run", tmp_path / "run")
    data = load_data(f"{kind}:{write(kind, tmp_path / 'data', *EXCHANGED[what])}")
    digest = "labels" if what == "labels" and kind not in ("folder", "pack") else ".*"  # there the order is by class
    with pytest.raises(UserError, match=rf"different settings: .*data\.train\.sha256_of_{digest} was .*, is now "):
        train(data, tmp_path / "run", resume=True)
    assert len(open_run(tmp_path / "run").epochs()) == 1


def test_the_same_data_elsewhere_go_on(begun: tuple[str, Path], tmp_path: Path) -> None:
    kind, at = begun
    if kind == "pack":
        pytest.skip("it is packed again, from elsewhere")
    shutil.copytree(at / "run", tmp_path / "run")
    data = load_data(f"{kind}:{write(kind, tmp_path / 'elsewhere' / 'data')}")
    train(data, tmp_path / "run", resume=True)
    assert len(open_run(tmp_path / "run").epochs()) == 2


@pytest.mark.parametrize("kind", SETS)
def test_what_is_replaced_in_mid_training_is_noticed(tmp_path: Path, kind: str) -> None:
    """At once, where images are read as they are needed; and when training is resumed, whatever the source."""
    place = write(kind, tmp_path / "data")
    data, done = load_data(f"{kind}:{place}"), []

    def replace(event: Event) -> None:
        if event["kind"] == "step" and not done:
            done.append(write(kind, place, *EXCHANGED["one image"]))
            later = 2_000_000_000  # in seconds, if the clock is coarse
            for file in place.rglob("*"):
                os.utime(file, (later, later))

    if isinstance(data.train, MemorySplit):
        train(data, tmp_path / "run", at_step=replace)
    else:
        with pytest.raises(UserError, match=r"has changed since it was found; start again: training with --resu"):
            train(data, tmp_path / "run", at_step=replace)
    assert done
    with pytest.raises(UserError, match=r"different settings: .*data\.train\.sha256_of_contents was .*, is now "):
        train(load_data(f"{kind}:{place}"), tmp_path / "run", resume=True)
