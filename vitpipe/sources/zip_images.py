"""Pictures in a zip by sample id, in memory that hardly grows with their number.

`zipfile` makes objects of the whole directory, 150 MB for CelebA's 202,599 pictures. Here 12 bytes a picture say
where its entry in the directory lies, which is read when the picture is asked for.
"""

import hashlib
import io
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from threading import Lock
from zipfile import ZipFile, ZipInfo

import numpy as np
from PIL import Image

from vitpipe.errors import InputError
from vitpipe.sources.archive import LARGEST_MEMBER, UNREADABLE, not_a_zip
from vitpipe.sources.images import UnreadableImage, decode

# PKWARE's APPNOTE.TXT, sections 4.3.12, 4.3.14 and 4.3.16: an entry of the directory, and what ends the file
ENTRY, END, END_64 = Struct("<4s6H3L5H2L"), Struct("<4s4H2LH"), Struct("<4sQ2H2L4Q")
LOCATOR_64 = 20  # bytes between the two ends
LONGEST_COMMENT = 2**16 - 1
NO_MEMBERS = END.pack(b"PK\5\6", *[0] * 7)


class ZipImages:
    """Pictures in a zip by sample id, safe to share between threads.

    Args:
        path: the zip.
        sample_of: the sample id by member name, None where a member is no sample; without it names are ids.

    Raises:
        InputError: the file is no zip, or its directory is damaged.
    """

    def __init__(self, path: Path, sample_of: Callable[[str], str | None] = str) -> None:
        self.sample_of, self.lock = sample_of, Lock()
        self.file = path.open("rb")
        self.start, size, self.shift = find_directory(self.file, path)
        keys, places = array("Q"), array("I")
        for place, name in entries(self.file, self.start, size, path):
            if (sample := sample_of(name)) is not None:
                keys.append(key(sample))
                places.append(place)
        order = np.argsort(np.frombuffer(keys, np.uint64), kind="stable")
        self.keys, self.places = np.frombuffer(keys, np.uint64)[order], np.frombuffer(places, np.uint32)[order]
        self.zip = ZipFile(io.BytesIO(NO_MEMBERS))  # reads members that it is told of, so it need not list them
        self.zip.fp = path.open("rb")

    def read(self, sample: str) -> Image.Image:
        """The picture as RGB, upright.

        Raises:
            UnreadableImage: see `vitpipe.sources.images.decode`; also when the bytes fail their CRC.
            KeyError: there is no such sample.
        """
        return decode(self.content(sample))

    def content(self, sample: str) -> bytes:
        """The bytes of the image file, CRC checked. Raises as `read` does."""
        info = self.find(sample)
        if info.file_size > LARGEST_MEMBER:
            raise UnreadableImage(f"claims to be {info.file_size} bytes long")
        try:
            return self.zip.read(info)
        except UNREADABLE as error:
            raise UnreadableImage(f"is damaged in the zip: {error}") from None

    def find(self, sample: str) -> ZipInfo:
        """Where the member of a sample lies, and how it is stored."""
        wanted = np.uint64(key(sample))
        for number in range(int(np.searchsorted(self.keys, wanted)), len(self.keys)):
            if self.keys[number] != wanted:
                break
            with self.lock:
                self.file.seek(self.start + int(self.places[number]))
                info, _ = read_entry(self.file)
            if self.sample_of(info.filename) == sample:
                info.header_offset += self.shift
                return info
        raise KeyError(f"no picture {sample!r} in {self.file.name}")


def key(sample: str) -> int:
    """64 bits that stand for a sample id."""
    return int.from_bytes(hashlib.blake2b(sample.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def member_names(path: Path) -> Iterator[str]:
    """The names in a zip, in the order of its directory. Raises as `ZipImages` does."""
    with path.open("rb") as file:
        start, size, _ = find_directory(file, path)
        for _, name in entries(file, start, size, path):
            yield name


def find_directory(file: io.BufferedReader, path: Path) -> tuple[int, int, int]:
    """Where the directory of a zip starts, its size, and by how much the positions in it are off, all in bytes.

    They are off where something was put before the zip.
    """
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - LONGEST_COMMENT - END.size - LOCATOR_64 - END_64.size))
    tail_at, tail = file.tell(), file.read()
    at = tail.rfind(b"PK\5\6")
    if not 0 <= at <= len(tail) - END.size:
        raise InputError(not_a_zip(path))
    size, offset = END.unpack_from(tail, at)[5:7]
    at_64 = at - LOCATOR_64 - END_64.size
    if at_64 >= 0 and tail[at_64:].startswith(b"PK\6\6"):
        at = at_64
        size, offset = END_64.unpack_from(tail, at)[8:10]
    start = tail_at + at - size
    return start, size, start - offset


def entries(file: io.BufferedReader, start: int, size: int, path: Path) -> Iterator[tuple[int, str]]:
    """Position in the directory and member name of all entries."""
    place = 0
    while place < size:
        try:
            file.seek(start + place)
            info, length = read_entry(file)
        except (ValueError, OSError):
            raise InputError(not_a_zip(path)) from None
        yield place, info.filename
        place += length


def read_entry(file: io.BufferedReader) -> tuple[ZipInfo, int]:
    """The entry of the directory that `file` stands at, and its length in bytes. Raises ValueError if it is none."""
    fixed = file.read(ENTRY.size)
    if len(fixed) < ENTRY.size or not fixed.startswith(b"PK\1\2"):
        raise ValueError("no entry of a zip's directory")
    flags, method, crc, *rest = (ENTRY.unpack(fixed)[i] for i in (3, 4, 7, 8, 9, 10, 11, 12, 16))
    packed_size, size, name_length, extra_length, comment_length, offset = rest
    name, extra = file.read(name_length), file.read(extra_length)
    info = ZipInfo(name.decode("utf-8" if flags & 0x800 else "cp437", errors="replace"))
    info.flag_bits, info.compress_type, info.CRC = flags, method, crc
    info.file_size, info.compress_size, info.header_offset = large([size, packed_size, offset], extra)
    return info, ENTRY.size + name_length + extra_length + comment_length


def large(values: list[int], extra: bytes) -> list[int]:
    """Sizes and position, where those that need more than 32 bits are found in the extra field (section 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        if kind == 1:
            numbers = memoryview(extra[at + 4 : at + 4 + length // 8 * 8]).cast("Q").tolist()
            return [numbers.pop(0) if value == 2**32 - 1 and numbers else value for value in values]
        at += 4 + length
    return values
