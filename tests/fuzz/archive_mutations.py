"""Archives that are broken, that lie, or that mean harm."""

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterable
from functools import cache
from random import Random

from tests.fuzz.mutation import of_archive
from tests.fuzz.posts import archive
from tests.fuzz.studies import Files

MIB = 2**20
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
SIZES = {LOCAL: 30, CENTRAL: 46, END: 22}
LIMITS = (0, 1, 2, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
BOMBS = ((70 * MIB, 1), (8 * MIB, 20), (300 * MIB, 1), (4 * MIB, 100))
OTHER_KINDS = (b"\x1f\x8b\x08\0\0\0\0\0", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh9", b"%PDF-1.7")
LINKS = (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR)
FIELDS = (
    ("<H", 6, 8, (0x0001, 0x0041, 0x2001)), ("<H", 8, 10, (1, 6, 9, 12, 14, 93, 95, 99, 0xFFFF)),
    ("<I", 14, 16, LIMITS), ("<I", 18, 20, LIMITS), ("<I", 22, 24, LIMITS),
)  # fmt: skip
"""Flags, method, checksum, packed and unpacked size: where they are in a local header and in the directory."""
NAMES = (
    "/etc/%s", "../../../../tmp/%s", "..\\..\\%s", "C:\\%s", "//server/%s", "." * 200 + "%s", "CON/%s", "a\x00%s", " ",
    "a\r\nX-Injected: yes\r\n%s", "\N{RIGHT-TO-LEFT OVERRIDE}%s", "00000.zip", "00000.dcm", "d/" * 1000 + "%s",
    "n" * 256 + "%s", "n" * 5000 + "%s", "n" * 65_000 + "%s",
)  # fmt: skip


def _places(content: bytes, signature: bytes) -> list[int]:
    places, place = [], content.find(signature)
    while place >= 0:
        places.append(place)
        place = content.find(signature, place + 4)
    return places


def _pack(entries: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method, compresslevel=1) as opened:
        # Names that come twice are meant
        warnings.simplefilter("ignore", UserWarning)
        for name, content in entries:
            opened.writestr(name, content)
    return buffer.getvalue()


@of_archive("records of the archive changed")
def records(files: Files, random: Random) -> bytes:
    content = archive(files)
    changed = bytearray(content)
    signature = random.choice((LOCAL, CENTRAL, END))
    places = _places(content, signature)
    for place in random.sample(places, min(len(places), random.choice((1, 1, 5, 100)))):
        offset, value = random.randrange(4, SIZES[signature] - 3), random.choice(LIMITS)
        changed[place + offset : place + offset + 4] = struct.pack("<I", value)[: random.choice((2, 4))]
    return bytes(changed)


@of_archive("archive bits flipped")
def flip(files: Files, random: Random) -> bytes:
    content = bytearray(archive(files))
    for _ in range(random.choice((1, 3, 20))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(content)


@of_archive("archive truncated")
def truncate(files: Files, random: Random) -> bytes:
    content = archive(files)
    return content[: random.randrange(len(content))]


@of_archive("archive within other bytes")
def surround(files: Files, random: Random) -> bytes:
    before = random.choice((b"", b"PK", LOCAL, b"#!/bin/sh\n", random.randbytes(100)))
    return before + archive(files) + random.choice((b"", random.randbytes(100), bytes(70_000), END + bytes(18)))


@of_archive("fields of all entries wrong")
def fields(files: Files, random: Random) -> bytes:
    """Encrypted, packed in another way, with a wrong checksum or with sizes that lie."""
    content = bytearray(archive(files))
    structure, local, central, values = random.choice(FIELDS)
    value = random.choice(values)
    for signature, offset in ((LOCAL, local), (CENTRAL, central)):
        for place in _places(content, signature):
            struct.pack_into(structure, content, place + offset, value)
    return bytes(content)


@of_archive("packed in another way")
def method(files: Files, random: Random) -> bytes:
    return _pack(files.items(), random.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED)))


@of_archive("bomb")
def bomb(files: Files, random: Random) -> bytes:
    return _zeros(*random.choice(BOMBS))


@of_archive("entries that share their bytes")
def overlap(files: Files, random: Random) -> bytes:
    content = bytearray(_zeros(8 * MIB, 20))
    for place in _places(content, CENTRAL):
        struct.pack_into("<I", content, place + 42, 0)
    return bytes(content)


@cache
def _zeros(size: int, count: int) -> bytes:
    return _pack((f"{number}.dcm", bytes(size)) for number in range(count))


@of_archive("archives in archives")
def nest(files: Files, random: Random) -> bytes:
    content = archive(files)
    for depth in range(random.choice((1, 2, 30))):
        content = _pack([(f"{depth}.zip", content)])
    return _pack([*files.items(), ("more.zip", content)]) if random.random() < 0.3 else content


@of_archive("hostile or overlong names")
def names(files: Files, random: Random) -> bytes:
    return _pack((random.choice(NAMES).replace("%s", name), content) for name, content in files.items())


@of_archive("names of bytes that are no text")
def undecodable_names(files: Files, random: Random) -> bytes:
    content = bytearray(_pack((f"ü{name}", c) for name, c in files.items()))
    for signature in (LOCAL, CENTRAL):
        for place in _places(content, signature):
            content[place + SIZES[signature]] = random.choice((0xFF, 0xC0, 0x00, 0x80))
    return bytes(content)


@of_archive("names that come twice")
def same_names(files: Files, random: Random) -> bytes:
    entries = list(files.items())
    if random.random() < 0.5:
        return _pack(("same.dcm", content) for _, content in entries)
    return _pack(entries + random.sample(entries, random.randint(1, len(entries))))


@of_archive("symbolic links and devices")
def links(files: Files, random: Random) -> bytes:
    entries: list[tuple[str | zipfile.ZipInfo, bytes]] = list(files.items())
    for number in range(random.choice((1, 5))):
        entry = zipfile.ZipInfo(f"link{number}.dcm")
        entry.create_system = 3
        entry.external_attr = (random.choice(LINKS) | 0o777) << 16
        entries.insert(random.randrange(len(entries) + 1), (entry, random.choice((b"/etc/passwd", b"/dev/zero", b"."))))
    return _pack(entries)


@of_archive("thousands of tiny entries")
def many(files: Files, random: Random) -> bytes:
    if random.random() < 0.3:
        return _pack([*files.items(), *((f"{n}", b"") for n in range(3000))])
    return _tiny(*random.choice(((4000, b""), (4000, b"x"), (6000, b""), (60_000, b""))))


@cache
def _tiny(count: int, content: bytes) -> bytes:
    return _pack(((str(number), content) for number in range(count)), zipfile.ZIP_STORED)


@of_archive("extra fields and comments")
def extras(files: Files, random: Random) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            filling = random.randbytes(random.choice((0, 1, 4, 8, 16, 100)))
            kind, length = random.choice((0x0001, 0x5455, 0x7075, 0x9901)), random.choice((len(filling), 0, 0xFFFF, 8))
            entry.extra = struct.pack("<HH", kind, length) + filling
            entry.comment = random.randbytes(random.choice((0, 1000)))
            opened.writestr(entry, content)
        opened.comment = random.choice((b"", random.randbytes(1000), END + bytes(18), CENTRAL + bytes(60)))
    return buffer.getvalue()


@of_archive("another kind of archive")
def other_kind(files: Files, random: Random) -> bytes:
    return random.choice(OTHER_KINDS) + random.randbytes(1000)
