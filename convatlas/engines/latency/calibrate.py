"""Learns how fast an engine is on this machine: random chains are timed until the time is up, and a regression made."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...accounting import account
from ...errors import UserError, unknown
from .. import timing
from ..net import EngineNet
from .chains import chain, reference
from .features import Features, features
from .graph import Graph
from .profile import Profile, key_here
from .regression import fitted

SECONDS = 60.0
LEAST_CHAINS = 40
TOGETHER = 8  # chains that are timed side by side
ROUNDS_S = 0.3  # of these, at least LEAST rounds
LEAST, MOST = 5, 15
SHORTEST_S = 5e-4  # a chain that takes less tells more of calls than of convolutions
CAN = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}

Opened = Callable[[Graph, Path], timing.Call]  # the chain, and where its file is


def calibrate(
    engine: str,
    precision: str = "fp32",
    threads: int = 1,
    *,
    seconds: float = SECONDS,
    seed: int = 0,
    tell: Callable[[float, int], None] = lambda share, chains: None,
    now: Callable[[], float] = time.monotonic,
    opened: Callable[[str, str, int], Opened] | None = None,
    timer: timing.Timer | None = None,
) -> Profile:
    """The profile of an engine on this machine, from `seconds` of `now`; `tell` hears the share that is over.

    One thread is timed in processor time, several in wall time. Raises UserError for an engine that is not installed,
    and where the time is enough for too few chains.
    """
    check(engine, precision)
    key = key_here(engine, precision, threads)
    found, reference_s = timed_chains(
        engine, precision, threads, seconds=seconds, seed=seed, tell=tell, now=now, opened=opened, timer=timer
    )
    if len(found) < LEAST_CHAINS:
        raise UserError(f"{seconds:g} seconds are enough for {len(found)} chains", f"give time for {LEAST_CHAINS}")
    made = fitted(*zip(*found, strict=True))
    return Profile(key, made.seconds, made.low, made.high, len(found), seed, reference_s)


def timed_chains(
    engine: str,
    precision: str,
    threads: int = 1,
    *,
    seconds: float = SECONDS,
    seed: int = 0,
    tell: Callable[[float, int], None] = lambda share, chains: None,
    now: Callable[[], float] = time.monotonic,
    opened: Callable[[str, str, int], Opened] | None = None,
    timer: timing.Timer | None = None,
) -> tuple[list[tuple[Features, float]], float]:
    """The features and seconds of random chains, and the seconds of the reference.

    Chains that were timed while the reference took longer than usual are taken to have been slowed down as it was.
    """
    opens = (opened or engine_opener)(engine, precision, threads)
    timer = timer or timing.timer_for(threads)
    rng = np.random.default_rng(seed)
    begin, longest = now(), 0.0
    found: list[tuple[Features, float, float]] = []  # features, seconds, seconds of the reference
    with TemporaryDirectory(prefix="convatlas-") as folder:
        while now() + longest < begin + seconds:
            start = now()
            found += timed(rng, engine if precision == "int8" else "", opens, Path(folder), timer, now)
            longest = max(longest, now() - start)
            tell(min(1.0, (now() - begin) / seconds), len(found))
    usual = float(np.median([beside for *_, beside in found])) if found else 0.0
    return [(one, took * usual / beside) for one, took, beside in found if took > SHORTEST_S], usual


def timed(
    rng: np.random.Generator,
    int8: str,
    opens: Opened,
    folder: Path,
    timer: timing.Timer,
    now: Callable[[], float],
) -> list[tuple[Features, float, float]]:
    """Some chains timed in turns with the reference, whose time tells how busy the machine is."""
    chains = [*(chain(rng, int8) for _ in range(TOGETHER)), reference(int8)]
    calls, found = [], []
    for i, made in enumerate(chains):
        file = folder / f"{i}.onnx"
        file.write_bytes(made.bytes())
        found.append(features(account(str(file), batch=1).rows, made.input))
        calls.append(opens(made, file))
    *times, beside = timing.rounds(calls, ROUNDS_S, timer, least=LEAST, most=MOST, now=now)
    return [(one, t.median, beside.median) for one, t in zip(found, times, strict=False)]


def engine_opener(engine: str, precision: str, threads: int) -> Opened:
    """Chains as sessions of the engine, whose files may be deleted while they run."""
    import torch

    from ..on_onnxruntime import OnnxRuntimeNet
    from ..on_openvino import OpenVinoNet

    def opens(made: Graph, file: Path) -> timing.Call:
        if engine == "onnxruntime":
            net: EngineNet = OnnxRuntimeNet(file, precision, threads)
        else:
            net = OpenVinoNet(file, precision, threads, 1)
        images = torch.zeros(1, *made.input)
        return lambda: net(images)

    return opens


def check(engine: str, precision: str) -> None:
    """Raises UserError for an engine that runs no ONNX graphs, and for a precision that it does not have."""
    if engine not in CAN:
        raise unknown("engine", engine, CAN)
    if precision not in CAN[engine]:
        raise UserError(f"{engine} does not compute in {precision}", f"give {', '.join(CAN[engine])}")
