"""DICOM files as trees of elements that can be written back with any fault (PS3.5 section 7, PS3.10 section 7).

pydicom would refuse or mend most of what a fuzzer wants to write. Here an element is a tag, a VR and bytes or items,
and what is written is exactly that, whether or not it makes sense.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Self

from pydicom.datadict import tag_for_keyword

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG_VRS = set(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
RAW = -1
"""Tag of bytes that are written without a header."""
PREAMBLE = bytes(128) + b"DICM"

Items = list["Elements"]
Elements = list["Element"]


@dataclass
class Element:
    """One element: its value as it stands in the file, or the items of a sequence, and the length to declare.

    Without a length the true one is declared; `UNDEFINED` gives a sequence its delimiter.
    """

    tag: int
    vr: bytes
    value: bytes | Items
    length: int | None = None


@dataclass
class File:
    """A DICOM file: meta information and data set."""

    meta: Elements
    data: Elements

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parse a file in explicit VR little endian."""
        elements, _ = _parse_elements(content, len(PREAMBLE), len(content))
        meta = [element for element in elements if element.tag >> 16 == 2]
        return cls(meta, elements[len(meta) :])

    def encode(self, *, implicit: bool = False) -> bytes:
        """Write the file; with implicit VRs nothing but the data set changes, not even the transfer syntax."""
        return PREAMBLE + encode(self.meta) + encode(self.data, implicit=implicit)

    def get(self, keyword: str) -> Element | None:
        """Top-level element of the data set."""
        return find(self.data, keyword)

    def set(self, keyword: str, vr: bytes, value: bytes | Items, length: int | None = None) -> None:
        """Replace a top-level element, or add it in its place."""
        tag = tag_for_keyword(keyword) or 0
        put(self.meta if tag >> 16 == 2 else self.data, Element(tag, vr, value, length))

    def put(self, element: Element) -> None:
        """Replace a top-level element of the data set, or add it in its place."""
        put(self.data, element)

    def items(self, keyword: str) -> Items:
        """Items of a top-level sequence; none if it is not there."""
        element = self.get(keyword)
        return children(element) if element else []


def find(elements: Elements, keyword: str) -> Element | None:
    """Element of a data set or item."""
    tag = tag_for_keyword(keyword)
    return next((element for element in elements if element.tag == tag), None)


def put(elements: Elements, element: Element) -> None:
    """Replace an element of a data set or item, or add it in its place."""
    elements[:] = sorted([e for e in elements if e.tag != element.tag] + [element], key=lambda e: e.tag)


def children(element: Element) -> Items:
    """Items of a sequence; none of anything else."""
    return element.value if isinstance(element.value, list) else []


def walk(elements: Elements) -> Iterator[tuple[Elements, Element]]:
    """All elements at any depth, each with the data set or item that holds it."""
    for element in elements:
        yield elements, element
        for item in children(element):
            yield from walk(item)


def pick(elements: Elements, random: Random, *vrs: bytes) -> tuple[Elements, Element]:
    """Pick an element at any depth, of one of these VRs if there is one, with what holds it.

    First which kind, then which one: or it would nearly always be a contour's.
    """
    kinds: dict[int, list[tuple[Elements, Element]]] = defaultdict(list)
    everything = list(walk(elements))
    for holder, element in [found for found in everything if found[1].vr in vrs] or everything:
        kinds[element.tag].append((holder, element))
    return random.choice(kinds[random.choice(sorted(kinds))])


def text(value: str) -> bytes:
    """Value of an element of text, of even length."""
    encoded = value.encode()
    return encoded + b" " * (len(encoded) % 2)


def uid(value: str) -> bytes:
    """Value of a UID, of even length."""
    return value.encode() + b"\0" * (len(value) % 2)


def decimals(element: Element | None) -> list[float]:
    """Numbers of an element of decimal strings."""
    return [float(number) for number in element.value.split(b"\\")] if element is not None and element.value else []


def encode(elements: Elements, *, implicit: bool = False) -> bytes:
    """Write elements."""
    return b"".join(_encode_element(element, implicit=implicit) for element in elements)


def encode_value(element: Element, *, implicit: bool = False) -> bytes:
    """Write the value of an element."""
    if isinstance(element.value, bytes):
        return element.value
    items = (encode(item, implicit=implicit) for item in element.value)
    value = b"".join(delimiter(ITEM, len(item)) + item for item in items)
    return value + delimiter(SEQUENCE_END) if element.length == UNDEFINED else value


def delimiter(tag: int, length: int = 0) -> bytes:
    """Write what begins or ends an item or ends a sequence."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


def _encode_element(element: Element, *, implicit: bool) -> bytes:
    value = encode_value(element, implicit=implicit)
    if element.tag == RAW:
        return value
    tag, vr = struct.pack("<HH", element.tag >> 16, element.tag & 0xFFFF), element.vr
    length = len(value) if element.length is None else element.length
    if implicit:
        return tag + struct.pack("<I", length) + value
    # Values that outgrow their VR are of unknown kind (PS3.5 6.2.2)
    vr = b"UN" if vr not in LONG_VRS and len(value) > 0xFFFF else vr
    if vr in LONG_VRS:
        return tag + vr + struct.pack("<HI", 0, length) + value
    return tag + vr + struct.pack("<H", length & 0xFFFF) + value


def _parse_elements(content: bytes, position: int, end: int) -> tuple[Elements, int]:
    """Parse the elements of a data set, or of an item until its delimiter."""
    elements = []
    while position < end:
        if content[position : position + 8] == delimiter(ITEM_END):
            return elements, position + 8
        element, position = _parse_element(content, position)
        elements.append(element)
    return elements, position


def _parse_element(content: bytes, position: int) -> tuple[Element, int]:
    group, number, vr = struct.unpack_from("<HH2s", content, position)
    tag = group << 16 | number
    if vr in LONG_VRS:
        (length,) = struct.unpack_from("<I", content, position + 8)
        position += 12
    else:
        (length,) = struct.unpack_from("<H", content, position + 6)
        position += 8
    end = len(content) if length == UNDEFINED else position + length
    if vr == b"SQ":
        items, position = _parse_items(content, position, end)
        return Element(tag, vr, items), position
    # Of undefined length are compressed pixels, which nothing follows
    return Element(tag, vr, content[position:end], UNDEFINED if length == UNDEFINED else None), end


def _parse_items(content: bytes, position: int, end: int) -> tuple[Items, int]:
    items = []
    while position < end:
        group, number, length = struct.unpack_from("<HHI", content, position)
        position += 8
        if group << 16 | number == SEQUENCE_END:
            break
        elements, position = _parse_elements(
            content, position, len(content) if length == UNDEFINED else position + length
        )
        items.append(elements)
    return items, position
