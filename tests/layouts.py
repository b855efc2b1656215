"""A pickle as torch.save has laid it out over the years."""

from __future__ import annotations

import io
import pickle
import sys
import tarfile
import zipfile


def zipped(content: bytes, compressed: bool = False, times: int = 1) -> bytes:
    """The pickle as torch.save would lay it out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as file:
        for _ in range(times):
            file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", sys.byteorder)
    return out.getvalue()


def legacy(content: bytes) -> bytes:
    """As torch.save did before its zip files: magic number, protocol, system, the object, the storages' keys."""
    head = b"".join(pickle.dumps(it, protocol=2) for it in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + content + pickle.dumps([], protocol=2)


def tarred(content: bytes) -> bytes:
    """As torch.save did before that."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()
