"""measure() on small networks: what its records say, against what is counted, evaluated and timed elsewhere."""

from __future__ import annotations

import json
import resource
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from convatlas.accounting import account
from convatlas.accounting.memory.predict import memory
from convatlas.catalogue import build
from convatlas.engines import measure as room
from convatlas.engines.alone import Alone, alone, told
from convatlas.engines.job import Job, untrained
from convatlas.engines.measure import Guarded, measure
from convatlas.engines.results import Record
from convatlas.engines.subject import Asked, Subject, accuracy, size_on_disk
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.runs.folder import open_run
from tests import trained

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.fixture
def nobody_alone(monkeypatch: pytest.MonkeyPatch) -> dict[str, Alone]:
    """No process of its own is started; what it would have told, by model, may be put here."""
    instead: dict[str, Alone] = {}

    def told(job: Job, input: object, file: object, batches: Sequence[int]) -> Alone:
        every = dict.fromkeys(batches, 2_000_000)
        return instead.get(job.model, Alone(1_000_000, dict.fromkeys(batches, 0.5), dict.fromkeys(batches, 0.1), every))

    monkeypatch.setattr(room, "alone", told)
    return instead


def test_a_network_in_a_process_of_its_own() -> None:
    """ResNet-18's weights are 47 MB: the process takes them and the activations predicted, and not twice that."""
    kept: list[Record] = []
    found = measure([Job("resnet18")], [2, 2], seconds=0.05, keep=kept.extend)
    assert [record.batch for record in found] == [2]
    assert kept == found
    counted, predicted = account("resnet18"), memory("resnet18")
    for record in found:
        assert record.network == "resnet18"
        assert (record.params, record.macs) == (counted.totals.params, counted.totals.macs)
        assert record.estimated_bytes == predicted.inference.of(record.batch)
        assert record.base_bytes is not None
        assert record.peak_bytes is not None
        taken = record.peak_bytes - record.base_bytes - record.estimated_bytes  # by kernels
        assert 0 < taken < predicted.parameters
        assert record.disk_bytes == predicted.parameters + predicted.buffers
        assert record.accuracy.kind == "untrained"
        assert record.seconds is not None
        assert record.seconds.n is not None
        assert record.seconds.n >= 5
        assert record.load_s is not None
        assert record.load_s > record.step_s  # type: ignore[operator]
        assert record.first_s is not None
        assert record.ratio is None
        assert record.image_joules is None or record.image_joules > 0
        assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_the_seconds_are_those_of_another_clock(nobody_alone: dict[str, Alone]) -> None:
    """What the system charges this process for a loop of the same network, on the same images."""
    (record,) = measure([Job("resnet20")], [4], seconds=1)
    assert record.seconds is not None
    net = untrained("resnet20").net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        net(x)
        start = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(30):
            net(x)
    end = resource.getrusage(resource.RUSAGE_SELF)
    other = (end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime) / 30
    low, _, high = record.seconds.spread
    assert 0.6 * low < other < 1.6 * high


def test_sessions_are_compared_with_the_first(nobody_alone: dict[str, Alone]) -> None:
    jobs = [Job("lenet5"), Job("resnet20"), Job("lenet5", precision="bf16"), Job("lenet5")]
    lenet5, resnet20, bf16 = measure(jobs, [1], seconds=0.2)
    assert lenet5.ratio is None
    assert resnet20.ratio is not None
    assert resnet20.ratio.to == "lenet5 on torch in fp32"
    assert resnet20.ratio.low <= resnet20.ratio.median <= resnet20.ratio.high
    assert resnet20.ratio.median > 2
    assert resnet20.ratio.n == resnet20.seconds.n == lenet5.seconds.n  # type: ignore[union-attr]
    assert lenet5.estimated_bytes
    assert bf16.estimated_bytes is None  # predicted in fp32 alone


def test_what_an_engine_cannot_do_is_a_row_that_says_so(nobody_alone: dict[str, Alone]) -> None:
    jobs = [Job("lenet5", "onnxruntime", "bf16"), Job("lenet5")]
    refused, timed = measure(jobs, [1], seconds=0.01)
    assert refused.failed.startswith("ONNX Runtime has no bf16 arithmetic on CPUs; give --engine torch or openvino")
    assert refused.seconds is None
    assert timed.seconds is not None
    assert timed.ratio is None


def test_out_of_memory_alone_is_a_row_that_says_so(nobody_alone: dict[str, Alone]) -> None:
    killed = Alone(1, {1: 0.5}, {1: 0.1}, {1: 2}, failed={64: "out of memory: the system killed the process"})
    nobody_alone["lenet5"] = killed
    found = measure([Job("lenet5"), Job("lenet5_tanh")], [1, 64], seconds=0.01)
    assert [bool(record.seconds) for record in found] == [True, True, False, True]
    assert found[2].failed == "out of memory: the system killed the process"
    assert found[3].ratio is None  # the first that runs


def test_out_of_memory_beside_the_others(nobody_alone: dict[str, Alone], monkeypatch: pytest.MonkeyPatch) -> None:
    each = {1: 0.1}
    nobody_alone["lenet5"] = Alone(0, each, each, {1: 6 << 30})
    nobody_alone["lenet5_tanh"] = Alone(0, each, each, {1: 3 << 30})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5 << 30, total=8 << 30))
    large, small = measure([Job("lenet5"), Job("lenet5_tanh")], [1], seconds=0.01)
    assert large.failed == "out of memory beside the others: measure it alone"
    assert small.seconds is not None


def test_a_call_that_runs_out_of_memory_while_it_is_timed() -> None:
    ran: list[int] = []

    def call() -> None:
        ran.append(1)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes.\nmore")

    guarded = Guarded(call)
    guarded()
    guarded()
    assert ran == [1]
    assert (
        guarded.failed == "out of memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes."
    )

    def other() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Guarded(other)()


LINES = [
    {"base_bytes": 100},
    {"batch": 1, "load_s": 0.5, "first_s": 0.1, "peak_bytes": 200},
    {"batch": 8, "load_s": 0.6, "first_s": 0.7, "peak_bytes": 300, "allocated_bytes": 50},
]


@pytest.mark.parametrize(
    ("last", "err", "status", "why"),
    [
        ("", "", -signal.SIGKILL, "out of memory: the system killed the process"),
        ('{"batch": 64, "loa', "", -signal.SIGKILL, "out of memory: the system killed the process"),
        ("", "", -signal.SIGSEGV, "the process ended by SIGSEGV"),
        ("", "Traceback ...\nOops: it broke\n", 1, "the process ended with status 1: Oops: it broke"),
        ("", "", 3, "the process ended with status 3: without a word"),
        ('{"failed": "out of memory: bad_alloc"}', "", 0, "out of memory: bad_alloc"),
    ],
)
def test_what_a_process_told_before_it_ended(last: str, err: str, status: int, why: str) -> None:
    out = "".join(f"{json.dumps(line)}\n" for line in LINES) + last
    found = told(out, err, status, [1, 8, 64, 128])
    assert found.base_bytes == 100
    assert found.peak_bytes == {1: 200, 8: 300}
    assert found.load_s == {1: 0.5, 8: 0.6}
    assert found.allocated_bytes == {8: 50}
    assert found.failed == {64: why, 128: why}


def test_accuracy_is_measured_on_data(nobody_alone: dict[str, Alone]) -> None:
    run = open_run(GOLDENS / "run")
    scores = evaluate(run, trained.digits())
    (record,) = measure([Job(str(run.folder))], [1], seconds=0.01, data=trained.digits(), data_name="digits")
    found = record.accuracy
    assert (found.kind, found.n, found.source, found.protocol) == ("measured", 64, "digits", "center")
    assert found.top1 == pytest.approx(100 * scores.top1)
    assert found.top5 == pytest.approx(100 * scores.top(5))
    assert (found.low, found.high) == pytest.approx(tuple(100 * end for end in scores.interval()))
    assert record.input == (1, 8, 8)
    tensors = run.load().state_dict().values()
    assert record.disk_bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_published_accuracy_is_that_of_the_weights_in_fp32() -> None:
    from convatlas.weights.published import find_published

    row = find_published("resnet18@torchvision")
    model = replace(untrained("lenet5"), published=row)
    found = accuracy(Job(row.name), model, None, "")
    assert (found.kind, found.top1, found.top5, found.source) == ("published", 69.758, 89.078, "resnet18@torchvision")
    assert found.protocol == row.protocol
    assert accuracy(Job(row.name, precision="bf16"), model, None, "").kind == "unknown"
    assert accuracy(Job("lenet5"), untrained("lenet5"), trained.digits(), "digits").kind == "untrained"


def test_an_untrained_network_is_the_same_one_each_time() -> None:
    before = torch.get_rng_state()
    one, other = (untrained("lenet5").net.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)
    assert Subject(Job("LeNet-5"), Asked((1,), 1.0)).account.totals == account(build("lenet5")).totals


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "fp32"), ("onnxruntime", "int8")])
def test_an_onnx_file_is_run_as_it_is(engine: str, precision: str) -> None:
    with pytest.raises(UserError, match=r"net\.onnx is run as it is, by ONNX Runtime; leave out --engine and --prec"):
        Job("net.onnx", engine, precision).open(untrained("lenet5"), 1)
    model = untrained("lenet5")
    assert Job("net.onnx").open(model, 1) is model


def test_sizes_on_disk(tmp_path: Path) -> None:
    for name, size in (("a.onnx", 5), ("a.onnx.md", 70), ("b.xml", 3), ("b.bin", 8)):
        (tmp_path / name).write_bytes(bytes(size))
    assert (size_on_disk(tmp_path / "a.onnx"), size_on_disk(tmp_path / "b.xml")) == (5, 11)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (dict(jobs=[]), "there is nothing to measure"),
    (dict(batches=[]), "there is nothing to measure"),
    (dict(batches=[0, 1]), "there is nothing to measure; give a model, and batch sizes of at least 1"),
    (dict(jobs=[Job("lenet5", "onnxrt")]), "no engine named 'onnxrt'; did you mean onnxruntime"),
    (dict(jobs=[Job("lenet5", "torch", "fp23")]), "no precision named 'fp23'; did you mean fp32"),
    (dict(jobs=[Job("lenet5", threads=10_000)]), "10000 threads are more than the .* cores of this process"),
    (dict(jobs=[Job("nowhere/run")]), "there is no model nowhere/run"),
    (dict(jobs=[Job("lenet5@nobody")]), "no source of weights named 'nobody'"),
]


@pytest.mark.parametrize(("changed", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_is_refused(changed: dict[str, Any], why: str, nobody_alone: dict[str, Alone]) -> None:
    with pytest.raises(UserError, match=why):
        measure(**{"jobs": [Job("lenet5")], "batches": [1], **changed})


def test_several_threads_are_timed_by_the_wall_and_a_busy_machine_is_flagged(
    nobody_alone: dict[str, Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.facts, "cores", lambda: 4)
    for load, threads, busy in ((3.4, 1, False), (1.2, 2, False), (3.4, 2, True), (None, 2, False)):
        monkeypatch.setattr(room.facts, "load", lambda load=load: load)
        (record,) = measure([Job("lenet5", threads=threads)], [1], seconds=0.01)
        assert record.seconds is not None
        assert record.seconds.clock == ("wall" if threads > 1 else "processor")
        assert record.busy is busy
        assert record.load == (() if load is None else (load, load))
    assert torch.get_num_threads() == 1


def test_progress_and_the_budget(nobody_alone: dict[str, Alone]) -> None:
    heard: list[tuple[float, str]] = []
    start = time.monotonic()
    measure([Job("lenet5"), Job("lenet5_tanh")], [1, 2], seconds=0.3, tell=lambda *now: heard.append(now))
    assert 1.2 <= time.monotonic() - start < 6
    shares = [done for done, _ in heard]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert {what for _, what in heard} == {
        *(f"{name} on torch in fp32, in a process of its own" for name in ("lenet5", "lenet5_tanh")),
        *("batch 1", "batch 2"),
    }


def test_energy_where_the_machine_counts_it(nobody_alone: dict[str, Alone], monkeypatch: pytest.MonkeyPatch) -> None:
    def watts(given: float) -> Callable[[str], Callable[[], float]]:
        return lambda device: lambda: given * time.monotonic()

    monkeypatch.setattr(room, "ENERGY_S", 0.05)
    monkeypatch.setattr(room, "meter", watts(100))
    (record,) = measure([Job("lenet5")], [4], seconds=0.1)
    assert record.image_joules is not None
    assert record.seconds is not None
    assert record.image_joules > 0.5 * 100 * record.seconds.p10 / 4  # type: ignore[operator]
    monkeypatch.setattr(room, "meter", lambda device: None)
    (record,) = measure([Job("lenet5")], [4], seconds=0.1)
    assert record.image_joules is None


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_processes_take_what_is_predicted(engine: str) -> None:
    """VGG-11 and AlexNet, 530 and 250 MB, on batches of 1 and 8: an engine keeps the weights once, or twice at most."""
    for name in ("vgg11", "alexnet_single"):
        predicted = memory(name)
        model = untrained(name)
        file = getattr(Job(name, engine).open(model, 1).net, "file", None)
        found = alone(Job(name, engine), model.preprocess.input, file, [1, 8])
        assert not found.failed
        assert found.base_bytes is not None
        for batch, peak in found.peak_bytes.items():
            share = (peak - found.base_bytes) / predicted.inference.of(batch)
            assert 0.95 < share < (1.15 if engine == "torch" else 2.6), (name, batch, share)


def test_auto_is_chosen_for_each_batch_size(monkeypatch: pytest.MonkeyPatch, nobody_alone: dict[str, Alone]) -> None:
    fastest = {1: "onnxruntime", 2: "openvino", 3: "torch"}
    monkeypatch.setattr(room, "chosen", lambda job, subject, batch: fastest[batch])
    auto, torchs = Job("lenet5", "auto"), Job("lenet5")
    alone, beside = (measure(jobs, [1, 2, 3], seconds=0.02) for jobs in ([auto], [torchs, auto]))
    assert {record.batch: record.engine for record in alone} == fastest
    assert [(record.batch, record.engine) for record in beside] == [
        *((1, "torch"), (1, "onnxruntime"), (2, "torch"), (2, "openvino"), (3, "torch"))
    ]


@pytest.mark.slow
def test_int8_and_the_fastest_engine(tmp_path: Path) -> None:
    run = str(trained.train(tmp_path / "run").folder)
    jobs = [Job(run, "onnxruntime"), Job(run, "onnxruntime", "int8"), Job(run, "openvino", "int8"), Job(run, "auto")]
    data = trained.digits()
    fp32, int8, other, *chosen = measure(jobs, [4], seconds=0.2, data=data, data_name="digits", calibrate=data)
    assert not [record.failed for record in (fp32, int8, other, *chosen) if record.failed]
    assert [record.engine for record in (fp32, int8, other)] == ["onnxruntime", "onnxruntime", "openvino"]
    assert not chosen or chosen[0].engine in ("torch", "openvino")
    for record in (int8, other):
        assert record.disk_bytes < fp32.disk_bytes  # type: ignore[operator]
        assert record.accuracy.kind == "measured"
        assert record.accuracy.top1 is not None
        assert abs(record.accuracy.top1 - fp32.accuracy.top1) < 20  # type: ignore[operator]
        assert record.estimated_bytes is None
