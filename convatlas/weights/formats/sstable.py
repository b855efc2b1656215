"""LevelDB's tables of sorted keys, as TensorFlow's checkpoints use them: blocks of entries whose keys share beginnings.

https://github.com/google/leveldb/blob/main/doc/table_format.md; every block is verified by its CRC-32C.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .protobuf import varint

MAGIC = bytes.fromhex("57fb808b247547db")  # at the end of a table
FOOTER, TRAILER = 48, 5  # bytes at the end of a table, and of a block
PLAIN, SNAPPY = 0, 1
POLYNOMIAL = 0x82F63B78
MOST_TIMES = 4  # what a table's blocks may be of its own size, for Snappy
LONGEST_KEY = 1 << 12
SHORT = 1 << 12  # bytes
LANES = 1 << 14  # of a long text, whose checksums are computed side by side


def entries(table: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values, in order. ValueError if the table is damaged."""
    if len(table) < FOOTER or bytes(table[-8:]) != MAGIC:
        raise ValueError("its end is missing")
    footer = table[-FOOTER:]
    places, at = [], 0
    for _ in range(4):
        place, at = varint(footer, at)
        places.append(place)
    block(table, *places[:2])  # what is said about the table, which is nothing
    left, last = MOST_TIMES * len(table), None
    for _, handle in block_entries(block(table, *places[2:])):
        content = block(table, *pair(handle))
        left -= len(content)
        if left < 0:
            raise ValueError("it unpacks to more than a table does")
        for key, value in block_entries(content):
            if last is not None and key <= last:
                raise ValueError("its keys are not in order")
            yield key, value
            last = key


def pair(message: memoryview) -> tuple[int, int]:
    first, at = varint(message, 0)
    return first, varint(message, at)[0]


def block(table: memoryview, offset: int, size: int) -> memoryview:
    if size > len(table) or offset > len(table) - size - TRAILER:
        raise ValueError("a block is cut short")
    content, kind = table[offset : offset + size], table[offset + size]
    verify(table[offset : offset + size + 1], int.from_bytes(table[offset + size + 1 : offset + size + 5], "little"))
    if kind == PLAIN:
        return content
    if kind == SNAPPY:
        return unsnapped(content)
    raise ValueError(f"a block is compressed in an unknown way ({kind})")


def block_entries(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """A block's entries, each with the number of bytes that its key shares with the one before; then restart points."""
    if len(content) < 4:
        raise ValueError("a block is cut short")
    restarts = int.from_bytes(content[-4:], "little")
    end = len(content) - 4 - 4 * restarts
    at, key = 0, b""
    while at < end:
        shared, at = varint(content, at)
        more, at = varint(content, at)
        size, at = varint(content, at)
        if shared > len(key) or more + size > end - at or shared + more > LONGEST_KEY:
            raise ValueError("an entry is cut short")
        key = key[:shared] + bytes(content[at : at + more])
        yield key, content[at + more : at + more + size]
        at += more + size
    if at != end:
        raise ValueError("a block is cut short")


def unsnapped(content: memoryview) -> memoryview:
    """Snappy: stretches of bytes, and copies of what came before; 64 bytes at most for two that were read.

    https://github.com/google/snappy/blob/main/format_description.txt
    """
    size, at = varint(content, 0)
    if size > 64 * len(content):
        raise ValueError("a block claims to be longer than it can be")
    out = bytearray()
    while at < len(content):
        tag = content[at]
        at += 1
        if tag & 3 == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length, at = int.from_bytes(content[at : at + extra], "little"), at + extra
            length += 1
            if length > len(content) - at:
                raise ValueError("a block is cut short")
            out += content[at : at + length]
            at += length
        else:
            if tag & 3 == 1:
                length, extra, high = 4 + (tag >> 2 & 7), 1, (tag >> 5) << 8
            else:
                length, extra, high = 1 + (tag >> 2), 2 if tag & 3 == 2 else 4, 0
            back = high + int.from_bytes(content[at : at + extra], "little")
            at += extra
            if at > len(content) or not 0 < back <= len(out):
                raise ValueError("a block refers to before its beginning")
            while length > 0:
                piece = out[-back:][:length]
                out += piece
                length -= len(piece)
        if len(out) > size:
            break
    if len(out) != size:
        raise ValueError("a block is not as long as it says")
    return memoryview(bytes(out))


def verify(content: memoryview | np.ndarray, masked: int) -> None:
    """The checksum is stored turned by 15 bits and moved by a constant."""
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    if crc32c(content) != (turned >> 17 | turned << 15) & 0xFFFFFFFF:
        raise ValueError("a checksum does not match")


def crc32c(content: memoryview | np.ndarray) -> int:
    """CRC-32C; of long texts in lanes side by side, which are then joined two by two."""
    data = np.frombuffer(content, np.uint8)
    if data.size <= SHORT:
        crc, table = 0xFFFFFFFF, BYTES
        for byte in data.tolist():
            crc = table[(crc ^ byte) & 255] ^ crc >> 8
        return crc ^ 0xFFFFFFFF
    lanes = 1
    while lanes < LANES and data.size > 64 * lanes:
        lanes *= 2
    length = -(-data.size // (2 * lanes)) * 2
    padded = np.zeros(lanes * length, np.uint8)  # zeros in front change nothing
    padded[lanes * length - data.size :] = data
    state = np.zeros(lanes, np.uint32)
    for two in padded.view("<u2").reshape(lanes, length // 2).T:
        state = TABLE_2[(state ^ two) & 0xFFFF] ^ state >> 16
    shift = zeros_after(length)
    while len(state) > 1:
        state = applied(shift, state[::2]) ^ state[1::2]
        shift = applied(shift, shift)
    start = applied(zeros_after(data.size), np.array([0xFFFFFFFF], np.uint32))
    return int(start[0] ^ state[0]) ^ 0xFFFFFFFF


def applied(shift: np.ndarray, states: np.ndarray) -> np.ndarray:
    """A linear map of 32 bits, given by what it makes of each of them."""
    out = np.zeros_like(states)
    for bit in range(32):
        out ^= np.where(states >> bit & 1, shift[bit], 0).astype(np.uint32)
    return out


def zeros_after(length: int) -> np.ndarray:
    """What so many bytes of 0 make of a checksum, as a linear map: squares of that of one byte."""
    one = np.uint32(1) << np.arange(32, dtype=np.uint32)
    result, power = one, TABLE[one & 255] ^ one >> 8
    while length:
        if length & 1:
            result = applied(power, result)
        power, length = applied(power, power), length >> 1
    return result


def table_of(bits: int) -> np.ndarray:
    """What so many bits make of a checksum of 0."""
    state = np.arange(1 << bits, dtype=np.uint32)
    for _ in range(bits):
        state = np.where(state & 1, state >> 1 ^ POLYNOMIAL, state >> 1).astype(np.uint32)
    return state


TABLE, TABLE_2 = table_of(8), table_of(16)
BYTES = TABLE.tolist()
