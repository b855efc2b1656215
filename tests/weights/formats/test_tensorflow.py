"""TensorFlow's checkpoints, which it wrote itself (tests/goldens/weights/make.py), and arrays under its names."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from convatlas.errors import UserError
from convatlas.weights.files import read_weights
from convatlas.weights.formats import sstable
from tests.budget import within
from tests.weights.formats.tiny import CONVOLUTIONS, WRITTEN, computed, expected

LAYERS = ("first", "norm", "deep", "sep.depthwise", "sep.pointwise", "grouped", "head")


def slim(scope: str) -> dict[str, str]:
    return {name: f"{scope}/{name.replace('.', '/')}" for name in CONVOLUTIONS} | {"norm": f"{scope}/first/BatchNorm"}


OBJECTS = {
    name: f"model/layer_with_weights-{i}" for i, name in enumerate(("first", "norm", "deep", "sep", "inner", "head"))
}
OBJECTS |= {f"sep.{part}": f"{OBJECTS['sep']}/{part}" for part in ("depthwise", "pointwise")}
OBJECTS |= {"grouped": f"{OBJECTS['inner']}/layer_with_weights-0"}


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("slim_1.ckpt", slim("Tiny")),
        ("slim_2.ckpt", slim("Tiny")),
        ("slim_2.ckpt.index", slim("Tiny")),
        ("slim_2.ckpt.data-00000-of-00001", slim("Tiny")),
        ("trained.ckpt.index", slim("tiny")),  # the raw weights in it are other ones
        ("objects.ckpt.index", OBJECTS),
    ],
)
def test_a_network_computes_what_it_does_in_tensorflow(name: str, layers: dict[str, str]) -> None:
    weights = read_weights(WRITTEN / name)
    assert (weights.format, weights.channels_last, weights.folded) == ("tensorflow", True, False)
    assert len(weights.tensors) == 14  # no step, no optimizer, no average beside what it is of
    assert {name.rpartition(".")[0] for name in weights.tensors} == {layers[layer] for layer in LAYERS}
    torch.testing.assert_close(computed(weights, layers, 0.002), expected(), rtol=1e-4, atol=1e-4)


def test_arrays_under_its_names(tmp_path: Path) -> None:
    with np.load(WRITTEN / "expected.npz") as file:
        kernel = file["x"][:1, :3, :2, :]  # 1 x 3 x 2 x 3
    arrays = {"net/a/weights:0": kernel, "net/a/mean/EMA:0": kernel[0, 0, 0], "net/b/depthwise_weights": kernel}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "w.npz", **arrays, global_step=np.int64(3))
        found = read_weights(tmp_path / "w.npz")
        assert (found.format, found.channels_last) == ("tensorflow", True)
        assert {name: tuple(t.shape) for name, t in found.tensors.items()} == {
            "net/a.running_mean": (3,),
            "net/a.weight": (3, 2, 1, 3),
            "net/b.weight": (6, 1, 1, 3),
        }
        assert found.tensors["net/b.weight"][5, 0, 0, 2] == kernel[0, 2, 1, 2]


def test_the_arrays_of_a_released_squeezenet(real_packs: Path) -> None:
    path = real_packs / "weights" / "squeezenet1_1_caffe" / "squeezenet1_1.npz"
    found = read_weights(path)
    assert (found.format, found.channels_last) == ("npz", False)
    with np.load(path) as file:
        assert list(found.tensors) == list(file)
        assert all(torch.equal(found.tensors[name], torch.from_numpy(file[name])) for name in file)


def test_names_sort_as_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{f"conv_{i}/kernel": np.zeros((1, 1), "f4") for i in (0, 1, 10, 11, 2)})
    assert list(read_weights(tmp_path / "w.npz").tensors) == [f"conv_{i}.weight" for i in (0, 1, 2, 10, 11)]


def test_archives_that_are_more_than_they_seem(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez_compressed(path, **{"a/kernel": np.zeros((1 << 13, 1 << 13), "f4")})
    assert "unpacks to 268,435,5" in within(lambda: read_weights(path), mb=64)
    np.savez(path, **{"a/kernel": np.array([{}], object)})
    with pytest.raises(UserError, match=r"w\.npz is not an intact \.npz file \(it has Python objects"):
        read_weights(path)
    np.savez(path, **{"a/kernel": np.zeros((1, 16), "f4")})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(1, 16)", b"(9, 99)"))
    with pytest.raises(UserError, match=r"w\.npz is not an intact \.npz file"):
        read_weights(path)


def copied(folder: Path, name: str) -> Path:
    for file in WRITTEN.glob(f"{name}*"):
        shutil.copy(file, folder)
    return folder / f"{name}.index"


def test_every_byte_of_values_and_of_the_index_is_verified(tmp_path: Path) -> None:
    index = copied(tmp_path, "slim_2.ckpt")
    for path in (index, tmp_path / "slim_2.ckpt.data-00000-of-00001"):
        whole = path.read_bytes()
        end = len(whole) - (sstable.FOOTER if path == index else 8)  # the step comes last, and is not read
        for at in range(0, end, 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
            with pytest.raises(UserError, match=r"is not an intact TensorFlow checkpoint \(a checksum does not match"):
                read_weights(index)
        path.write_bytes(whole)
    assert len(read_weights(index).tensors) == 14


def test_what_is_not_there(tmp_path: Path) -> None:
    index = copied(tmp_path, "slim_2.ckpt")
    data = tmp_path / "slim_2.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-30])
    with pytest.raises(
        UserError, match=r"not an intact TensorFlow checkpoint \('Tiny/sep/pointwise_weights' is cut short"
    ):
        read_weights(index)
    data.unlink()
    with pytest.raises(UserError, match=r"data-00000-of-00001 is not there; put it beside the checkpoint's index"):
        read_weights(index)
    data.write_bytes(b"x")
    index.unlink()
    with pytest.raises(UserError, match=r"ckpt\.index is not there; put it beside the checkpoint's data"):
        read_weights(data)


def test_checksums() -> None:
    """RFC 3720, B.4; long texts go another way, and must agree with a byte at a time."""
    for content, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        assert sstable.crc32c(memoryview(content)) == crc
    text = np.random.default_rng(0).integers(0, 256, 100_003, np.uint8).tobytes()
    for size in (0, 1, 63, 64, 65, 129, 5000, len(text)):
        crc = 0xFFFFFFFF
        for byte in text[:size]:
            crc = int(sstable.TABLE[(crc ^ byte) & 255]) ^ crc >> 8
        assert sstable.crc32c(memoryview(text[:size])) == crc ^ 0xFFFFFFFF, size


def test_snappy() -> None:
    """Its format's description, by hand: a stretch, a copy that overlaps itself, copies of two and of four bytes."""
    coded = (
        bytes([20, 3 << 2])
        + b"abcd"
        + bytes([(2 << 2) | 1, 2])
        + bytes([(4 << 2) | 2, 9, 0])
        + bytes([(4 << 2) | 3, 1, 0, 0, 0])
    )
    text = b"abcd" + b"cdcdcd"
    text += text[-9:-4]
    text += text[-1:] * 5
    assert bytes(sstable.unsnapped(memoryview(coded))) == text
    for wrong in (b"\x05\x01\x09", bytes([200, 200, 200, 8, 0]), coded[:-1], b"\x05\x00a"):
        with pytest.raises(ValueError, match=r"a block|cut short"):
            sstable.unsnapped(memoryview(wrong))


def coded(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def entry(key: bytes, value: bytes, shared: int = 0) -> bytes:
    return coded(shared) + coded(len(key)) + coded(len(value)) + key + value


def table(path: Path, entries: bytes, times: int = 1) -> Path:
    """Of one block, which the index names so many times."""

    def closed(content: bytes) -> bytes:
        content += bytes([0])
        crc = sstable.crc32c(memoryview(content))
        return content + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    end = struct.pack("<II", 0, 1)
    handle = coded(0) + coded(len(entries + end))
    first, index = closed(entries + end), entry(b"k", handle) * times + end
    footer = handle + coded(len(first)) + coded(len(index))
    path.write_bytes(first + closed(index) + footer.ljust(40, b"\0") + sstable.MAGIC)
    return path


def test_a_table_that_holds_less_than_it_seems(tmp_path: Path) -> None:
    """Blocks that are there many times, and keys that are long only because they share their beginnings."""
    header = entry(b"", b"\x08\x01")
    empty = table(tmp_path / "w.index", header)
    with pytest.raises(UserError, match=r"w\.index contains no weights"):
        read_weights(empty)
    for entries, times, message in (
        (header, 100, "its keys are not in order"),
        (
            header + entry(b"k" * 4000, b"") + entry(b"z" * 96, b"", 4000) + entry(b"z" * 96, b"", 4096),
            1,
            "is cut short",
        ),
        (header + entry(b"b", b"") + entry(b"a", b""), 1, "its keys are not in order"),
    ):
        path = table(tmp_path / "w.index", entries, times)
        assert message in within(lambda: read_weights(path))  # noqa: B023 (called at once)
