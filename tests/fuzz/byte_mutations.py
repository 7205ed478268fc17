"""Faults of bytes, as disks, networks and careless programs make them."""

import struct
from random import Random

from tests.fuzz.mutation import of_files
from tests.fuzz.studies import Files

HEADER_BYTES = 2048
"""Faults of a CT image nearly always hit its pixels unless they are told to hit its beginning."""
LIMITS = (0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def _pick(files: Files, random: Random) -> str:
    """Pick a file; the few that are not CT images more often than all that are."""
    others = [name for name in sorted(files) if not name.startswith("CT")]
    return random.choice(others if others and random.random() < 0.6 else sorted(files))


def _place(content: bytes, random: Random) -> int:
    within = min(HEADER_BYTES, len(content)) if random.random() < 0.6 else len(content)
    return random.randrange(within + 1)


def _length(random: Random) -> int:
    return int(2 ** random.uniform(0, 14))


@of_files("bits flipped", "bytes")
def flip(files: Files, random: Random) -> None:
    name = _pick(files, random)
    content = bytearray(files[name])
    for _ in range(random.choice((1, 1, 2, 8, 64, 1000)) if content else 0):
        content[_place(content, random) % len(content)] ^= 1 << random.randrange(8)
    files[name] = bytes(content)


@of_files("truncated", "bytes")
def truncate(files: Files, random: Random) -> None:
    for _ in range(random.choice((1, 1, 3))):
        name = _pick(files, random)
        files[name] = files[name][: _place(files[name], random)]


@of_files("bytes inserted, deleted or repeated", "bytes")
def displace(files: Files, random: Random) -> None:
    name = _pick(files, random)
    place, length = _place(files[name], random), _length(random)
    piece = files[name][place : place + length]
    instead = random.choice((random.randbytes(length) + piece, b"", piece * 2, piece * 50))
    files[name] = files[name][:place] + instead + files[name][place + length :]


@of_files("two files spliced", "bytes")
def splice(files: Files, random: Random) -> None:
    first, second = _pick(files, random), _pick(files, random)
    files[first] = files[first][: _place(files[first], random)] + files[second][_place(files[second], random) :]


@of_files("range overwritten", "bytes")
def overwrite(files: Files, random: Random) -> None:
    name = _pick(files, random)
    place = _place(files[name], random)
    length = min(_length(random), len(files[name]) - place)
    filling = random.choice((b"\0", b"\xff", b"\\", b" ", b"A")) * length
    files[name] = files[name][:place] + filling + files[name][place + length :]


@of_files("lengths overwritten", "bytes")
def lengths(files: Files, random: Random) -> None:
    name = _pick(files, random)
    content = bytearray(files[name])
    for _ in range(random.choice((1, 2, 5))):
        place = _place(content, random) & ~1
        content[place : place + 4] = struct.pack("<I", random.choice(LIMITS))
    files[name] = bytes(content)


@of_files("line ends converted", "bytes")
def convert_line_ends(files: Files, random: Random) -> None:
    """As by a transfer that takes a binary file for a text."""
    old, new = random.choice(((b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\r", b"\n")))
    for name in [_pick(files, random)] if random.random() < 0.7 else list(files):
        files[name] = files[name].replace(old, new)


@of_files("random bytes", "bytes")
def noise(files: Files, random: Random) -> None:
    preamble = bytes(128) + b"DICM" if random.random() < 0.7 else b""
    files[_pick(files, random)] = preamble + random.randbytes(_length(random))


@of_files("empty files", "bytes")
def empty(files: Files, random: Random) -> None:
    for name in random.sample(sorted(files), random.choice((1, 2, len(files)))):
        files[name] = b""
