"""CIFAR's batches in both versions, and its pickles, which are never run."""

import hashlib
import pickle
import pickletools
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data.sources import load_data
from convatlas.data.sources.pickled import read_pickle
from convatlas.errors import UserError

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HUNDRED = [f"fine{i}" for i in range(100)]


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)


# Python 2's pickles of the published files, protocol 2, instruction by instruction.


def text(raw: bytes) -> bytes:
    return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw


def array(data: np.ndarray) -> bytes:
    rows, columns = (b"M" + struct.pack("<H", n) for n in data.shape)
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    return reconstruct + b"(K\x01" + rows + columns + b"\x86" + dtype + b"\x89" + text(data.tobytes()) + b"tb"


def listed(items: list[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def python2(record: dict[bytes, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(text(k) + v for k, v in record.items()) + b"u."


def batch(data: np.ndarray, labels: list[int]) -> bytes:
    small = [b"K" + bytes([label]) for label in labels]
    return python2({b"batch_label": text(b"batch 1 of 5"), b"labels": listed(small), b"data": array(data)})


def write_python(folder: Path, n: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, 6):
        (folder / f"data_batch_{i}").write_bytes(batch(pixels(n, i), [(i + j) % 10 for j in range(n)]))
    (folder / "test_batch").write_bytes(batch(pixels(n, 9), list(range(n))))
    (folder / "batches.meta").write_bytes(python2({b"label_names": listed([text(c.encode()) for c in TEN])}))
    return folder


def write_binary(folder: Path, n: int = 4) -> Path:
    def rows(data: np.ndarray, labels: list[int]) -> bytes:
        return b"".join(bytes([label]) + row.tobytes() for row, label in zip(data, labels))

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, 6):
        (folder / f"data_batch_{i}.bin").write_bytes(rows(pixels(n, i), [(i + j) % 10 for j in range(n)]))
    (folder / "test_batch.bin").write_bytes(rows(pixels(n, 9), list(range(n))))
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")  # the published file ends in an empty line
    return folder


def write_hundred(folder: Path, binary: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, n in (("train", 5), ("test", 3)):
        data, fine, coarse = pixels(n, n), [90 + j for j in range(n)], [7] * n
        if binary:
            rows = (bytes([c, f]) + row.tobytes() for row, f, c in zip(data, fine, coarse))
            (folder / f"{name}.bin").write_bytes(b"".join(rows))
        else:
            record = {"data": data, "fine_labels": fine, "coarse_labels": coarse}
            (folder / name).write_bytes(pickle.dumps(record, 4))
    if binary:
        (folder / "fine_label_names.txt").write_text("\n".join(HUNDRED))
    else:
        (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": HUNDRED, "coarse_label_names": ["x"] * 20}, 2))
    return folder


def test_the_pickles_of_these_tests_are_pickles() -> None:
    record = pickle.loads(batch(pixels(4, 0), [1, 2, 3, 4]), encoding="bytes")
    assert record[b"labels"] == [1, 2, 3, 4]
    assert np.array_equal(record[b"data"], pixels(4, 0))


@pytest.mark.parametrize("source", ["cifar10:{}", "{}"])
@pytest.mark.parametrize("where", ["", "cifar-10-batches-py", "cifar-10-batches-bin"])
@pytest.mark.parametrize("write", [write_python, write_binary])
def test_cifar10_in_both_versions_and_from_the_folder_above(tmp_path: Path, write, where: str, source: str) -> None:
    if where.endswith("bin") != (write is write_binary):
        where = ""
    write(tmp_path / where)
    data = load_data(source.format(tmp_path))
    assert (data.name, data.shape, data.classes) == ("cifar10", (3, 32, 32), tuple(TEN))
    assert (len(data.train), len(data.test)) == (20, 4)
    assert data.train.labels.tolist() == [(i + j) % 10 for i in range(1, 6) for j in range(4)]
    assert torch.equal(data.test.images.flatten(1), torch.from_numpy(pixels(4, 9)))
    red, green = data.test.images[2, 0], data.test.images[2, 1]
    assert (red[0, 5], red[1, 0], green[0, 0]) == tuple(pixels(4, 9)[2, [5, 32, 1024]])


def test_both_versions_have_the_same_checksum_but_another_provenance(tmp_path: Path) -> None:
    python, binary = load_data(str(write_python(tmp_path / "p"))), load_data(str(write_binary(tmp_path / "b")))
    for digest in ("sha256_of_labels", "sha256_of_contents"):
        assert python.provenance["train"][digest] == binary.provenance["train"][digest]
        assert python.provenance["train"][digest] != python.provenance["test"][digest]
    assert python.provenance["train"]["source"] == "CIFAR-10, python version"
    assert binary.provenance["train"]["source"] == "CIFAR-10, binary version"


@pytest.mark.parametrize("source", ["cifar100:{}", "{}"])
@pytest.mark.parametrize(
    ("where", "binary"), [("cifar-100-python", False), ("", False), ("cifar-100-binary", True), ("", True)]
)
def test_cifar100_has_its_fine_labels(tmp_path: Path, where: str, binary: bool, source: str) -> None:
    write_hundred(tmp_path / where, binary)
    data = load_data(source.format(tmp_path))
    assert (data.name, data.classes) == ("cifar100", tuple(HUNDRED))
    assert data.train.labels.tolist() == [90, 91, 92, 93, 94]
    assert torch.equal(data.test.images.flatten(1), torch.from_numpy(pixels(3, 3)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("labels", [[3, 1, 2, 0], np.array([3, 1, 2, 0]), np.array([3, 1, 2, 0], ">i4")])
@pytest.mark.parametrize("order", ["C", "F"])
def test_batches_pickled_again_are_read_in_every_protocol(tmp_path: Path, protocol: int, labels, order: str) -> None:
    write_python(tmp_path)
    record = {"data": np.array(pixels(4, 1), order=order), "labels": labels, "filenames": [b"a", b"\xff"]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(record, protocol))
    data = load_data(f"cifar10:{tmp_path}")
    assert torch.equal(data.test.images.flatten(1), torch.from_numpy(pixels(4, 1)))
    assert data.test.labels.tolist() == [3, 1, 2, 0]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=9), PLAIN), st.integers(0, 5), st.booleans())
def test_plain_data_comes_back_as_pickle_reads_it(record: dict, protocol: int, optimised: bool) -> None:
    content = pickle.dumps(record, protocol)
    assert read_pickle(content, "x") == record
    if optimised:
        assert read_pickle(pickletools.optimize(content), "x") == record


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@given(st.integers(0, 400), st.integers(0, 255), st.integers(0, 400))
def test_a_mangled_pickle_gives_a_table_or_one_clear_error(at: int, value: int, cut: int) -> None:
    content = bytearray(batch(np.zeros((2, 64), np.uint8), [1, 2]))
    content[at % len(content)] = value
    for mangled in (content, content[:cut]):
        record, message = None, ""
        try:
            record = read_pickle(bytes(mangled), "batch")
        except UserError as error:
            message = str(error)
        assert isinstance(record, dict) or message.startswith("batch ")


# Hostile pickles. Each would call CANARY if it were run.

SPRUNG: list[str] = []


def canary(*_: object) -> dict:
    SPRUNG.append("!")
    return {}


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object, state: object = None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.reduced


class Canary:
    def __new__(cls, *_: object) -> object:
        canary()
        return super().__new__(cls)


HERE = f"{__name__}\ncanary".encode()
CLASS = f"{__name__}\nCanary".encode()
RUN = f"__import__('sys').modules[{__name__!r}].canary()"


def named(module: str, name: str) -> bytes:
    return b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93"


HOSTILE = {
    "a call, protocol 0": pickle.dumps(Calls(canary), 0),
    "a call, protocol 2": pickle.dumps(Calls(canary), 2),
    "a call by the stack, protocol 4": pickle.dumps(Calls(canary), 4),
    "eval": pickle.dumps(Calls(eval, RUN), 2),
    "exec": pickle.dumps(Calls(exec, RUN), 4),
    "Python 2's builtins": b"\x80\x02c__builtin__\neval\n" + text(RUN.encode()) + b"\x85R.",
    "deep in a table": pickle.dumps({"data": [({"labels": [Calls(canary)]},)]}, 4),
    "after a good batch": batch(pixels(1, 0), [1])[:-1] + b"0" + pickle.dumps(Calls(canary), 2)[2:],
    "beside a good array": pickle.dumps({"data": np.zeros(3, np.uint8), "labels": Calls(canary)}, 2),
    "a class's own call (INST)": b"(i" + HERE + b"\n.",
    "a class's own call (OBJ)": b"(c" + HERE + b"\no.",
    "a class's own call (NEWOBJ)": b"\x80\x02c" + CLASS + b"\n)\x81.",
    "a class's own call (NEWOBJ_EX)": b"\x80\x04c" + CLASS + b"\n)}\x92.",
    "a name through the memo": b"\x80\x04" + named(__name__, "canary") + b"\x94h\x00)R.",
    "attributes": b"\x80\x04" + named("os", "path.os.system") + b"\x8c\x04true\x85R.",
    "an import": pickle.dumps(Calls(__import__, "os"), 2),
    "numpy's own evaluator": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + text(RUN.encode()) + b"}\x86R.",
    "numpy.load": b"\x80\x02cnumpy\nload\n" + text(b"evil.npy") + b"\x85R.",
    "an array of another class": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc"
    + CLASS
    + b"\nK\x00\x85U\x01b\x87R.",
    "an array of objects": pickle.dumps({"data": np.array([Calls(canary)], object)}, 2),
    "a codec that is code": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "a persistent name": b"\x80\x02P" + HERE.replace(b"\n", b".") + b"\n.",
    "a registered extension": b"\x80\x02\x82\x01)R.",
    "state for plain data": b"\x80\x02](U\x01a}b.",
    "a call of what is not a name": b"\x80\x02U\x06system)R.",
    "a buffer from outside": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, content: bytes) -> None:
    SPRUNG.clear()
    (write_python(tmp_path) / "data_batch_3").write_bytes(content)
    with pytest.raises(UserError, match=r"data_batch_3 .*it was not executed") as caught:
        load_data(f"cifar10:{tmp_path}")
    assert not SPRUNG
    assert "\n" not in str(caught.value)


def test_the_canary_sings_when_a_pickle_is_run() -> None:
    """Else the test above could not fail."""
    silent = []
    for name, content in HOSTILE.items():
        SPRUNG.clear()
        with suppress(Exception):
            pickle.loads(content, encoding="bytes")
        if not SPRUNG:
            silent.append(name)
    assert silent == [
        "attributes",
        "an import",
        "numpy.load",
        "an array of another class",
        "a codec that is code",
        "a persistent name",
        "a registered extension",
        "state for plain data",
        "a call of what is not a name",
        "a buffer from outside",
    ]


def test_deep_nesting_neither_recurses_nor_hangs() -> None:
    deep = b"\x80\x02" + b"}U\x01a" + b"(" * 100_000 + b"t" * 100_000 + b"s."
    assert list(read_pickle(deep, "x")) == ["a"]


# Files that are missing, broken, or of another set.


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_4", "test_batch", "batches.meta"])
@pytest.mark.parametrize(("write", "suffix"), [(write_python, ""), (write_binary, ".bin")])
def test_a_missing_file_is_named(tmp_path: Path, write, suffix: str, name: str) -> None:
    name = {"batches.meta.bin": "batches.meta.txt"}.get(name + suffix, name + suffix)
    (write(tmp_path) / name).unlink()
    with pytest.raises(UserError, match=name):
        load_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data_batch_2 is damaged or not a pickle"),
        (b"hello", "data_batch_2 is damaged or not a pickle"),
        (batch(pixels(4, 1), [1, 2, 3, 4])[:-900], "data_batch_2 is damaged or not a pickle"),
        (pickle.dumps([1, 2]), "data_batch_2 does not hold a dict"),
        (pickle.dumps({"data": 1}), "data_batch_2 has no 'labels'; it is not a batch of CIFAR-10"),
        (pickle.dumps({"labels": []}), "data_batch_2 has no 'data'"),
        (pickle.dumps({"data": 1, "labels": []}), "does not hold RGB images of 32 x 32 pixels"),
        (pickle.dumps({"data": pixels(2, 0)[:, :99], "labels": [1, 2]}), "does not hold RGB images of 32 x 32"),
        (
            pickle.dumps({"data": pixels(2, 0).astype(np.int64), "labels": [1, 2]}),
            "does not hold RGB images of 32 x 32",
        ),
        (pickle.dumps({"data": pixels(2, 0)[:0], "labels": []}), "does not hold RGB images of 32 x 32"),
        (pickle.dumps({"data": pixels(2, 0), "labels": [1]}), "one label for each of its 2 images"),
        (pickle.dumps({"data": pixels(2, 0), "labels": [1, "two"]}), "one label for each of its 2 images"),
        (pickle.dumps({"data": pixels(2, 0), "labels": [1, [2]]}), "one label for each of its 2 images"),
        (pickle.dumps({"data": pixels(2, 0), "labels": [1, 10]}), "labels from 1 to 10; CIFAR-10 has 0 to 9"),
        (pickle.dumps({"data": pixels(2, 0), "labels": [-1, 3]}), "labels from -1 to 3"),
    ],
)
def test_a_broken_batch_is_named_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    (write_python(tmp_path) / "data_batch_2").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_data(f"cifar10:{tmp_path}")


def test_a_broken_binary_batch_is_named_with_the_reason(tmp_path: Path) -> None:
    path = write_binary(tmp_path) / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"data_batch_2\.bin has 12,291 bytes, not a multiple of 3,073"):
        load_data(f"cifar10:{tmp_path}")
    path.write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(UserError, match="labels from 10 to 10"):
        load_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("names", [TEN[:9], 7, None])
def test_class_names_must_be_ten(tmp_path: Path, names: object) -> None:
    (write_python(tmp_path) / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    with pytest.raises(UserError, match=r"batches\.meta does not name the 10 classes"):
        load_data(f"cifar10:{tmp_path}")


def test_another_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not hold CIFAR-100: no train and meta or train"):
        load_data(f"cifar100:{write_python(tmp_path)}")


@pytest.mark.parametrize("folder", ["cifar-10-batches-py", "cifar-10-batches-bin"])
def test_the_real_cifar10(real_data: Path, folder: str) -> None:
    data = load_data(str(real_data / folder))
    assert (len(data.train), len(data.test), data.shape) == (50_000, 10_000, (3, 32, 32))
    assert data.classes == tuple(TEN)
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)
    assert data.train.labels.bincount().tolist() == [5000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    for split in (data.train, data.test):
        whole = np.tile((3, 32, 32), (len(split), 1)).tobytes() + split.images.numpy().tobytes()
        assert data.provenance[split.name]["sha256_of_contents"] == hashlib.sha256(whole).hexdigest()
    binary = (real_data / "cifar-10-batches-bin" / "test_batch.bin").read_bytes()
    assert bytes(data.test.images[1].flatten().tolist()) == binary[3074:6146]
