"""Elements of any DICOM object that are absent, wrong, extreme or hostile."""

import math
import struct
import zlib
from functools import cache
from random import Random

from tests.fuzz.mutation import of_dicom
from tests.fuzz.tree import (
    ITEM,
    ITEM_END,
    RAW,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    File,
    delimiter,
    encode,
    pick,
    text,
    uid,
)

MIB = 2**20
NUMBERS = (
    "1e308", "-1e308", "1e309", "-1e400", "NaN", "nan", "inf", "-Infinity", "1e-320", "1e-300", "0", "-0", "-1",
    "1", "0.5", "9" * 16, "9" * 10_000, "-" + "9" * 400, "0." + "3" * 10_000, "", " ", "abc", "--1", "1,5", "1 2",
    "0x10", "1_000", "+1e+2", "\0", "1e", "e5", ".", "1\\2", "\\", "1\\\\2", "2147483647", "2147483648",
    "99999999999999999999", "1e18",
)  # fmt: skip
UIDS = (
    "", "0", "1", "1.2.3", "1.", ".1", "1..2", "1.2.840.10008.1.2", "01.02", "1.2." + "3" * 60,
    "1.2." + "3" * 10_000, "not-a-uid", "UUID.with.letters", "1.2\\3.4", "1.2 ", "-1.-2",
    "1.2.840.10008.5.1.4.1.1.2\0\0\0", "{6F9619FF-8B86-D011}", "1.2\n3",
)  # fmt: skip
SOP_CLASSES = (
    *(f"1.2.840.10008.5.1.4.1.1.{n}" for n in (2.1, 2.2, 4, 7, 128, 481.1, 481.2, 481.3, 481.4, 481.5, 481.8, 88.11)),
    "1.2.840.10008.1.3.10", "1.2.840.10008.1.1", "1.2.3.4", "", "CT",
)  # fmt: skip
SYNTAXES = (
    *(f"1.2.840.10008.1.2{n}" for n in ("", ".1", ".2", ".1.99", ".5", ".6.1")),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 57, 70, 80, 90, 91, 95, 100, 201)),
    "1.2.840.113619.5.2", "1.2.3", "", "junk",
)  # fmt: skip
CHARACTER_SETS = (
    "", "ISO_IR 100", "ISO_IR 6", "ISO_IR 192", "GB18030", "ISO_IR 13", "ISO 2022 IR 87", "\\ISO 2022 IR 87",
    "ISO_IR 192\\GB18030", "ISO 2022 IR 6\\ISO 2022 IR 149\\ISO 2022 IR 58", "UTF-8", "utf-7", "rot13", "base64",
    "idna", "unicode_escape", "NONE", "ISO_IR 999", "\\" * 1000, "latin_1", "hex", "ISO_IR 100\\" * 500,
)  # fmt: skip
TEXTS = (
    b"", b" ", b"\0" * 8, b"\x1b$B\x1b(B", b"\x1b" * 50, b"\xff\xfe\x80\x81", "Drüse".encode(),
    "Drüse".encode("latin-1"), "\N{RIGHT-TO-LEFT OVERRIDE}lgnal\N{ZERO WIDTH SPACE}".encode(), b"a\r\nb\tc",
    b"\x00\x01\x02\x07\x1b[31m", b"<script>alert(1)</script>", b"{{7*7}}", b"%s%n%x", b"'; DROP TABLE jobs; --",
    b"../../etc/passwd", b"\xed\xa0\x80", b"\\" * 100, b"x" * 100_000, b"\xf0\x9f\xa6\x9c" * 20, b"^^^^^^",
    b"=SUM(A1)", b"PTV", b"PTV_7000", b"PTV_99999999999999999999", b"PTV nan", b"PTV_1e308", b"PTV_0",
)  # fmt: skip
VRS = (
    *b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split(),
    b"XX", b"??", b"\0\0",
)  # fmt: skip
PACKED = {b"US": "<H", b"SS": "<h", b"UL": "<I", b"SL": "<i", b"FL": "<f", b"FD": "<d"}
LENGTHS = (0, 1, 2, 0x7FFF, 0xFFFE, 0x7FFFFFFE, 0xFFFFFFFE)
NESTED = (0x300A0010, 0x30060020, 0x00081140, 0x00090010, 0x30060010)
STRANGE_TAGS = (0x00000000, 0x00020010, 0x00090010, 0x00091001, ITEM, SEQUENCE_END, 0xFFFFFFFF)


def _number(vr: bytes, random: Random) -> bytes:
    """Make a number of a VR that nobody should have written."""
    if vr not in PACKED:
        return text(random.choice(NUMBERS))
    if vr in {b"FL", b"FD"}:
        return struct.pack(PACKED[vr], random.choice((math.nan, math.inf, -math.inf, 0.0, -1.0, 1e38, -1e38, 1e-38)))
    size = struct.calcsize(PACKED[vr])
    rest = size - 1
    return random.choice((bytes(size), b"\xff" * size, b"\x7f" * size, b"\0" * rest + b"\x80", b"\1" + b"\0" * rest))


@of_dicom("element deleted or emptied")
def delete(file: File, random: Random) -> None:
    is_emptied = random.random() < 0.5
    for _ in range(random.choice((1, 1, 1, 5, 20))):
        if file.data:
            holder, element = pick(file.data, random)
            if is_emptied:
                element.value = [] if isinstance(element.value, list) and random.random() < 0.5 else b""
            else:
                holder.remove(element)


@of_dicom("meta information damaged")
def meta(file: File, random: Random) -> None:
    match random.randrange(4):
        case 0:
            file.meta.clear()
        case 1:
            file.meta.remove(random.choice(file.meta))
        case 2:
            random.choice(file.meta).value = random.choice((b"", text("junk"), b"\xff" * 100))
        case _:
            file.meta += file.data[:3]


@of_dicom("wrong VR")
def wrong_vr(file: File, random: Random) -> None:
    pick(file.data, random)[1].vr = random.choice(VRS)


@of_dicom("value of another kind")
def retype(file: File, random: Random) -> None:
    element, other = pick(file.data, random)[1], pick(file.data, random)[1]
    element.vr, element.value = random.choice(
        (
            (b"SQ", [[Element(0x00100010, b"PN", text("A^B"))]]),
            (b"OB", random.randbytes(random.choice((1, 2, 7, 1000)))),
            (b"LO", random.choice(TEXTS)),
            (other.vr, other.value),
        )
    )


@of_dicom("absurd numbers")
def numbers(file: File, random: Random) -> None:
    for _ in range(random.choice((1, 1, 1, 3))):
        _, element = pick(file.data, random, b"DS", b"IS", *PACKED, b"UN")
        if isinstance(element.value, bytes):
            values = element.value.split(b"\\") if element.vr not in PACKED else [element.value]
            values[random.randrange(len(values))] = _number(element.vr, random)
            element.value = b"\\".join(values)


@of_dicom("wrong number of values")
def multiplicity(file: File, random: Random) -> None:
    _, element = pick(file.data, random, b"DS", b"IS", b"US", b"CS", b"UI", b"LO", b"DA", b"PN")
    if isinstance(element.value, bytes):
        separator = b"" if element.vr in PACKED else b"\\"
        values = element.value.split(b"\\") if separator else [element.value]
        values = random.choice((values[:-1], values[1:], values * 2, values * 1000, [*values, b""], [b""] * 5))
        element.value = separator.join(values)


@of_dicom("texts of hostile characters")
def texts(file: File, random: Random) -> None:
    for _ in range(random.choice((1, 1, 5))):
        _, element = pick(file.data, random, *b"LO SH CS PN ST LT DA TM UT AS".split())
        element.value = random.choice(TEXTS)
    if random.random() < 0.5:
        file.set("SpecificCharacterSet", b"CS", text(random.choice(CHARACTER_SETS)))


@of_dicom("declared length wrong")
def declared_length(file: File, random: Random) -> None:
    _, element = pick(file.data, random)
    true = len(encode([element])) - 8
    element.length = random.choice((*LENGTHS, true + 1, true + 2, max(true - 2, 0), true * 2))


@of_dicom("odd or undefined length")
def undefined_length(file: File, random: Random) -> None:
    """Only sequences may have an undefined length, and only they get a delimiter."""
    for _ in range(random.choice((1, 3))):
        _, element = pick(file.data, random, *random.choice(((), (b"SQ",))))
        if isinstance(element.value, bytes) and random.random() < 0.5:
            element.value = random.choice((element.value[:-1], element.value + b"1"))
        else:
            element.length = UNDEFINED


@of_dicom("sequences nested deeply")
def nesting(file: File, random: Random) -> None:
    tag, is_delimited, content = random.choice(NESTED), random.random() < 0.5, b""
    head = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"SQ", 0)
    for _ in range(random.choice((10, 200, 990, 5000, 20_000))):
        item = delimiter(ITEM, UNDEFINED if is_delimited else len(content)) + content
        if is_delimited:
            content = head + struct.pack("<I", UNDEFINED) + item + delimiter(ITEM_END) + delimiter(SEQUENCE_END)
        else:
            content = head + struct.pack("<I", len(item)) + item
    # The outermost header is written again
    file.put(Element(tag, b"SQ", content[12:], UNDEFINED if is_delimited else None))


@of_dicom("element repeated or out of order")
def disorder(file: File, random: Random) -> None:
    match random.randrange(3):
        case 0:
            random.shuffle(file.data)
        case 1:
            file.data.insert(random.randrange(len(file.data)), random.choice(file.data))
        case _:
            file.data += file.data


@of_dicom("element of another group")
def strange_tags(file: File, random: Random) -> None:
    for _ in range(random.choice((1, 20))):
        tag = random.choice((*STRANGE_TAGS, random.getrandbits(32)))
        element = Element(tag, random.choice(VRS), random.randbytes(random.choice((0, 2, 8))))
        file.data.insert(random.randrange(len(file.data) + 1), element)


@of_dicom("wrong UIDs")
def wrong_uids(file: File, random: Random) -> None:
    for _ in range(random.choice((1, 1, 3))):
        another = pick(file.data, random, b"UI")[1].value
        pick(file.data, random, b"UI")[1].value = random.choice((uid(random.choice(UIDS)), another))


@of_dicom("other SOP class")
def sop_class(file: File, random: Random) -> None:
    value = uid(random.choice(SOP_CLASSES))
    file.set("SOPClassUID", b"UI", value)
    if random.random() < 0.5:
        file.set("MediaStorageSOPClassUID", b"UI", value)


@of_dicom("other transfer syntax")
def transfer_syntax(file: File, random: Random) -> None:
    file.set("TransferSyntaxUID", b"UI", uid(random.choice(SYNTAXES)))


@of_dicom("deflated bomb")
def deflated_bomb(file: File, random: Random) -> None:
    """Most inflate to what the reader accepts, some to more."""
    _deflate(file, _bomb(random.choice((4 * MIB, 64 * MIB, 64 * MIB, 600 * MIB))))


@of_dicom("deflated stream damaged")
def deflated_damage(file: File, random: Random) -> None:
    stream = bytearray(_compress(encode(file.data)))
    for _ in range(random.choice((0, 1, 5))):
        stream[random.randrange(len(stream))] ^= 1 << random.randrange(8)
    kept = random.choice((len(stream), len(stream) - 3, len(stream) // 2, 1, 0))
    _deflate(file, bytes(stream[:kept]) + random.choice((b"", b"trailing")))


def _deflate(file: File, stream: bytes) -> None:
    file.set("TransferSyntaxUID", b"UI", uid("1.2.840.10008.1.2.1.99"))
    file.data = [Element(RAW, b"", stream)]


def _compress(content: bytes) -> bytes:
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


@cache
def _bomb(size: int) -> bytes:
    """One element of private data that is nothing but zeros."""
    return _compress(struct.pack("<HH4sI", 0x0009, 0x1001, b"OB\0\0", size) + bytes(size))
