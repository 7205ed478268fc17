"""CT images, structure sets and plans that are wrong as what they are, and studies whose files do not fit together."""

import struct
from collections.abc import Callable
from functools import cache
from itertools import chain
from random import Random

from tests.fuzz import tree
from tests.fuzz.element_mutations import NUMBERS, TEXTS, UIDS
from tests.fuzz.mutation import change_file, of_dicom, of_every_slice, of_files
from tests.fuzz.studies import Files, of_kind
from tests.fuzz.tree import PREAMBLE, UNDEFINED, Element, Elements, File, children, decimals, find, pick, put, text, uid

SPACINGS = (
    "1e-300\\1e-300", "1e300\\1e300", "0\\0", "-1\\-1", "1e308\\1e-308", "1e-5\\1e-5", "1e5\\1e5", "8", "8\\8\\8",
    "NaN\\8", "1e-160\\1e-160",
)  # fmt: skip
ORIENTATIONS = (
    "1\\0\\0\\0\\1\\1e-3", "0\\1\\0\\1\\0\\0", "1\\0\\0\\1\\0\\0", "0\\0\\0\\0\\0\\0", "-1\\0\\0\\0\\-1\\0",
    "0\\0\\1\\1\\0\\0", "NaN\\0\\0\\0\\1\\0", "1e308\\0\\0\\0\\1\\0", "1\\0\\0\\0\\1",
)  # fmt: skip
PIXEL_NUMBERS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PlanarConfiguration",
)  # fmt: skip
PIXEL_VALUES = (0, 1, 2, 3, 7, 8, 12, 15, 16, 17, 24, 32, 60, 64, 1024, 4096, 4097, 32768, 65535)
KINDS = {
    "Modality": ("", "PT", "MR", "RTDOSE", "ct", "CT\\PT", "XX", "KRANK", "1", "C\0T"),
    "ImageType": ("", "LOCALIZER", "DERIVED\\SECONDARY\\LOCALIZER", "\\" * 500),
    "PhotometricInterpretation": ("MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL", ""),
    "PatientPosition": ("HFP", "FFS", "FFP", "HFDR", "", "SITTING", "hfs", "HFS\\FFS", "X" * 200, "KRANK"),
}
FRAMES = ("0", "2", "-1", "1000000", "2147483647", "9" * 30, "x", "1.5")
FAR = ("1e308", "-1e308", "1.7e308", "1e155", "1e18", "1e10", "-1e6", "1e-308", "5000", "1e16")
CONTOUR_TYPES = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "CLOSEDPLANAR_XOR", "", "closed_planar", "X" * 5000)
ROI_NAMES = (*TEXTS, b"Brainstem", b"BODY", b"External", b"PTV_5600", b"Parotid_L")
ROI_TYPES = ("PTV", "EXTERNAL", "ORGAN", "", "ptv", "CTV", "X" * 100, "SUPPORT", "PTV\\PTV")
ROI_NUMBERS = (
    ("StructureSetROISequence", "ROINumber"),
    ("ROIContourSequence", "ReferencedROINumber"),
    ("RTROIObservationsSequence", "ReferencedROINumber"),
)
PLAN_SEQUENCES = ("BeamSequence", "FractionGroupSequence", "DoseReferenceSequence", "PatientSetupSequence")
NO_DICOM = (b"", b"readme", PREAMBLE, PREAMBLE + b"junk", b"\x89PNG\r\n", b"{}", b"PK\x05\x06" + bytes(18))


# CT


@of_dicom("other modality, image type or position")
def kind(file: File, random: Random) -> None:
    keyword = random.choice(sorted(KINDS))
    file.set(keyword, b"CS", text(random.choice(KINDS[keyword])))


@of_dicom("extreme pixel description", "CT", "CT", "RD")
def pixel_description(file: File, random: Random) -> None:
    for _ in range(random.choice((1, 1, 2))):
        file.set(random.choice(PIXEL_NUMBERS), b"US", struct.pack("<H", random.choice(PIXEL_VALUES)))
    if random.random() < 0.4:
        file.set("NumberOfFrames", b"IS", text(random.choice(FRAMES)))


@of_every_slice("extreme matrix in every slice")
def matrix(file: File, random: Random) -> None:
    file.set(random.choice(("Rows", "Columns")), b"US", struct.pack("<H", random.choice((0, 1, 59, 61, 4096, 65535))))


@of_every_slice("extreme rescaling in every slice")
def rescaling(file: File, random: Random) -> None:
    value = text(random.choice((*NUMBERS, "1e300", "1e38", "-1e38", "1e-45", "1e6")))
    file.set(random.choice(("RescaleSlope", "RescaleIntercept")), b"DS", value)


@of_every_slice("extreme geometry in every slice")
def geometry(file: File, random: Random) -> None:
    match random.randrange(3):
        case 0:
            file.set("PixelSpacing", b"DS", text(random.choice(SPACINGS)))
        case 1:
            file.set("ImageOrientationPatient", b"DS", text(random.choice(ORIENTATIONS)))
        case _:
            scale = random.choice((0.0, 1e-9, 1e-3, 1e3, 1e10, 1e300, -1.0))
            _set_position(file, [scale * x for x in decimals(file.get("ImagePositionPatient"))])


@of_files("slices displaced", "tags")
def displace(files: Files, random: Random) -> None:
    def change(file: File) -> None:
        position = decimals(file.get("ImagePositionPatient")) or [0.0] * 3
        position[random.randrange(len(position))] += random.choice((1e-3, 0.2, 0.6, 5.0, -9.5, 9.5, 1e9, 1e308))
        _set_position(file, position)

    names = of_kind(files, "CT")
    for name in random.sample(names, min(len(names), random.choice((1, 1, 2, 10)))):
        change_file(files, name, change)


def _set_position(file: File, position: list[float]) -> None:
    file.set("ImagePositionPatient", b"DS", text("\\".join(f"{x:.10g}" for x in position)))


@of_dicom("pixels missing or wrong", "CT", "CT", "RD")
def pixels(file: File, random: Random) -> None:
    element = file.get("PixelData")
    if element is None or not isinstance(element.value, bytes):
        return
    match random.randrange(5):
        case 0:
            element.value = element.value[: random.choice((0, 1, 2, len(element.value) // 2, len(element.value) - 2))]
        case 1:
            element.value += element.value * random.choice((1, 3))
        case 2:
            file.data.remove(element)
        case 3:
            element.vr = random.choice((b"OB", b"OF", b"UN", b"SQ"))
        case _:
            element.tag = random.choice((0x7FE00008, 0x7FE00009))


@of_dicom("compressed pixels damaged", "CT")
def compressed(file: File, random: Random) -> None:
    """Code streams with wrong bytes, fragments of junk, and headers that promise more than they hold."""
    element = file.get("PixelData")
    if element and element.length == UNDEFINED and isinstance(element.value, bytes) and random.random() < 0.5:
        content = bytearray(element.value)
        for _ in range(random.choice((1, 5, 50))):
            content[random.randrange(len(content))] = random.getrandbits(8)
        element.value = bytes(content)
        return
    rows, columns = random.choice((60, 65535)), random.choice((64, 65535))
    size = struct.pack(">II8x", rows, columns)
    jpeg = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 11, 16, rows, columns, 1) + b"\x01\x11\0\xff\xd9"
    jpeg_2000 = b"\xff\x4f\xff\x51" + struct.pack(">HH", 41, 0) + size * 2 + struct.pack(">HBBB", 1, 15, 1, 1)
    run_lengths = struct.pack("<16I", random.choice((0, 1, 2, 15, 0xFFFFFFFF)), *(64 * n for n in range(1, 16)))
    frame = random.choice((jpeg, jpeg_2000 + b"\xff\xd9", run_lengths + random.randbytes(500), b"", b"\xff\xd8"))
    parts = (random.choice((b"", bytes(4), b"\xff" * 4, bytes(400))), frame + b"\0" * (len(frame) % 2))
    fragments = b"".join(tree.delimiter(tree.ITEM, len(part)) + part for part in parts)
    syntax = random.choice(("4.50", "4.70", "4.80", "4.90", "5"))
    file.set("TransferSyntaxUID", b"UI", uid(f"1.2.840.10008.1.2.{syntax}"))
    file.set("PixelData", b"OB", fragments + random.choice((b"", tree.delimiter(tree.SEQUENCE_END))), UNDEFINED)


# Structure sets


def _some_contours(file: File, random: Random) -> list[Elements]:
    """Choose contours of one ROI, of a few or of all: the outline and the targets have rules of their own."""
    sequences = [find(roi, "ContourSequence") for roi in file.items("ROIContourSequence")]
    rois = [children(sequence) for sequence in sequences if sequence and children(sequence)]
    if not rois:
        return []
    contours = random.choice(rois) if random.random() < 0.8 else list(chain.from_iterable(rois))
    return contours if random.random() < 0.4 else random.sample(contours, min(len(contours), random.choice((1, 3))))


Numbers = list[str]


def of_contours(name: str) -> Callable[[Callable[[Numbers, Random], Numbers]], Callable[[Numbers, Random], Numbers]]:
    """Register a function that returns other numbers for a contour's."""

    def register(change: Callable[[Numbers, Random], Numbers]) -> Callable[[Numbers, Random], Numbers]:
        def change_some(file: File, random: Random) -> None:
            contours, seed = _some_contours(file, random), random.random()
            for contour in contours:
                values = [f"{x:g}" for x in decimals(find(contour, "ContourData"))] or [""]
                put(contour, Element(0x30060050, b"DS", text("\\".join(change(values, Random(seed))))))

        of_dicom(name, "RS")(change_some)
        return change

    return register


@of_contours("contours of 0, 1 or 2 points")
def short_contours(values: Numbers, random: Random) -> Numbers:
    return values[: 3 * random.choice((0, 1, 2))]


@of_contours("contours with wrong counts")
def wrong_counts(values: Numbers, random: Random) -> Numbers:
    return random.choice((values[:-1], values[:-2], [*values, ""], [*values, "1"], values[1:]))


@of_contours("contours that cross themselves")
def crossing(values: Numbers, random: Random) -> Numbers:
    points = [values[n : n + 3] for n in range(0, len(values) - 2, 3)]
    random.shuffle(points)
    return list(chain.from_iterable(points))


@of_contours("contours with far points")
def far_contours(values: Numbers, random: Random) -> Numbers:
    number, axis, share = random.choice(FAR), random.randrange(3), random.choice((0.0, 0.02, 0.5, 1.0))
    return [number if n % 3 == axis and (n < 3 or random.random() < share) else x for n, x in enumerate(values)]


@of_contours("contours of numbers that are none")
def contour_numbers(values: Numbers, random: Random) -> Numbers:
    values[random.randrange(len(values))] = random.choice(NUMBERS)
    return values


@of_contours("contours across slices")
def tilted(values: Numbers, random: Random) -> Numbers:
    lift = random.choice((0.1, 1.0, 9.5, 1e6, 1e308))
    return [f"{float(x) + lift * random.random():.12g}" if n % 3 == 2 else x for n, x in enumerate(values)]


@of_dicom("contours of other types", "RS")
def contour_types(file: File, random: Random) -> None:
    for contour in _some_contours(file, random):
        put(contour, Element(0x30060042, b"CS", text(random.choice(CONTOUR_TYPES))))
        put(contour, Element(0x30060046, b"IS", text(random.choice(NUMBERS))))


@of_dicom("a contour of a million points", "RS")
def million(file: File, random: Random) -> None:
    points, reach = random.choice((50_000, 1_000_000)), random.choice((4, 200))
    for contour in _some_contours(file, random)[:1]:
        height = (decimals(find(contour, "ContourData")) or [0.0])[-1]
        put(contour, Element(0x30060050, b"DS", _zigzag(f"{height:g}", points, reach)))


@cache
def _zigzag(height: str, points: int, reach: int) -> bytes:
    """Points up and down, over all rows of the image or within one."""
    return text("\\".join([f"0\\{-reach}\\{height}\\1\\{reach}\\{height}"] * (points // 2)))


@of_dicom("thousands of contours or beams", "RS", "RP")
def many(file: File, random: Random) -> None:
    rois = file.items("ROIContourSequence")
    of_rois = [find(roi, "ContourSequence") for roi in random.sample(rois, min(2, len(rois)))]
    for sequence in (*of_rois, file.get("BeamSequence")):
        if sequence is not None and children(sequence):
            sequence.value = random.choices(children(sequence), k=random.choice((200, 2000, 20_000)))


@of_dicom("thousands of ROIs", "RS")
def many_rois(file: File, random: Random) -> None:
    count, name = random.choice((1000, 10_000)), "x" * random.choice((0, 2000))
    file.items("StructureSetROISequence").extend(
        [Element(0x30060022, b"IS", text(f"{n}")), Element(0x30060026, b"LO", text(f"ROI {n}{name}"))]
        for n in range(100, 100 + count)
    )


@of_dicom("ROI numbers that do not fit", "RS")
def roi_numbers(file: File, random: Random) -> None:
    sequence, keyword = random.choice(ROI_NUMBERS)
    items = file.items(sequence)
    for item in random.sample(items, min(len(items), random.choice((1, 3, 100)))):
        if element := find(item, keyword):
            element.value = text(random.choice((*NUMBERS, "1", "2", "3", "8", "-5", "999")))


@of_dicom("ROI names and types", "RS")
def roi_names(file: File, random: Random) -> None:
    for item in file.items("StructureSetROISequence"):
        if random.random() < 0.3 and (element := find(item, "ROIName")):
            element.value = random.choice(ROI_NAMES)
    for item in file.items("RTROIObservationsSequence"):
        if random.random() < 0.2 and (element := find(item, "RTROIInterpretedType")):
            element.value = text(random.choice(ROI_TYPES))


@of_dicom("references of the structure set", "RS")
def references(file: File, random: Random) -> None:
    element = file.get("ReferencedFrameOfReferenceSequence")
    if element is None or not children(element):
        return
    match random.randrange(4):
        case 0:
            _, inner = pick(children(element)[0], random)
            inner.value = [] if isinstance(inner.value, list) else b""
        case 1:
            element.value = children(element) * random.choice((2, 50))
        case 2:
            for _, inner in tree.walk(children(element)[0]):
                if inner.vr == b"UI" and random.random() < 0.3:
                    inner.value = uid(random.choice(UIDS))
        case _:
            element.value = [[]]


# Plans


@of_dicom("plan without beams or groups", "RP")
def no_beams(file: File, random: Random) -> None:
    for keyword in random.sample(PLAN_SEQUENCES, random.choice((1, 2, 4))):
        if element := file.get(keyword):
            element.value = random.choice(([], [[]], b""))


@of_dicom("beams with broken control points", "RP")
def control_points(file: File, random: Random) -> None:
    for beam in file.items("BeamSequence"):
        sequence = find(beam, "ControlPointSequence")
        if sequence is None or not children(sequence):
            continue
        match random.randrange(4):
            case 0:
                sequence.value = random.choice(([], [[]], [[]] * 3, children(sequence) * 500))
            case 1:
                values = random.choices((*NUMBERS, "0", "100"), k=random.choice((1, 3, 3, 4)))
                put(children(sequence)[0], Element(0x300A012C, b"DS", text("\\".join(values))))
            case 2:
                _, element = pick(random.choice(children(sequence)) or beam, random)
                element.value = random.choice((b"", b"junk", b"\xff\xff"))
            case _:
                angle = random.choice((0x300A011E, 0x300A0122))
                put(random.choice(children(sequence)), Element(angle, b"DS", text(random.choice((*NUMBERS, "359.9")))))


@of_dicom("prescriptions of all sizes", "RP")
def prescriptions(file: File, random: Random) -> None:
    for item in file.items("DoseReferenceSequence"):
        tag, vr = random.choice(((0x300A0026, b"DS"), (0x30060084, b"IS"), (0x300A0020, b"CS")))
        put(item, Element(tag, vr, text(random.choice((*NUMBERS, "TARGET", "70", "7000", "0.01", "199", "201")))))
    for item in file.items("FractionGroupSequence"):
        if random.random() < 0.5:
            put(item, Element(0x300A0078, b"IS", text(random.choice(NUMBERS))))


# Studies of files that do not belong together


@of_files("files missing", "study")
def missing(files: Files, random: Random) -> None:
    slices = of_kind(files, "CT")
    few = random.sample(slices, min(len(slices), random.choice((1, 2, 20))))
    chosen = (of_kind(files, random.choice(("CT", "RS", "RP"))), few, slices[random.choice((1, 2, 12)) :], slices[:12])
    for name in random.choice(chosen):
        del files[name]


@of_files("files twice", "study")
def twice(files: Files, random: Random) -> None:
    names = random.choice((of_kind(files, "RS"), of_kind(files, "RP"), sorted(files), of_kind(files, "CT")[:1]))
    fresh = uid(f"1.2.{random.getrandbits(60)}")
    keyword = random.choice(("SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"))
    for name in names:
        copy = f"{name[:2]}.copy.{name}"
        files[copy] = files[name]
        if random.random() < 0.5:
            change_file(files, copy, lambda file: file.set(keyword, b"UI", fresh))


@of_files("patients mixed", "study")
def patients(files: Files, random: Random) -> None:
    for name in random.sample(sorted(files), random.choice((1, 3, len(files)))):
        identifier = random.choice((b"", b"OTHER ", text("1\\2"), b"x" * 100_000))
        change_file(files, name, lambda file, value=identifier: file.set("PatientID", b"LO", value))


@of_files("files of other kinds beside", "study")
def beside(files: Files, random: Random) -> None:
    for number in range(random.choice((1, 20, 300))):
        files[f"{random.choice('AZ')}{number}"] = random.choice(NO_DICOM)
