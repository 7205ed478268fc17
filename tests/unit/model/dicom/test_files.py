import gzip
import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from model.dicom import files
from model.dicom.files import read_file, read_headers, reading
from model.errors import StudyError


def test_header_ends_before_the_pixels(study) -> None:
    path = study.write()[0]
    file = read_file(path, pixels=False)
    assert "PixelData" not in file.header
    # Tag, VR, length and 8 x 10 x 2 bytes
    assert file.pixel_bytes == 12 + 160


@pytest.mark.parametrize("content", [b"", b"DICM", b"hello world " * 100, gzip.compress(b"x" * 1000), b"\x00" * 500])
def test_other_files_are_not_dicom(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StudyError) as raised:
        read_headers([path])
    assert raised.value.rule == "nothing-readable"


@pytest.mark.parametrize("wrap", [gzip.compress, lambda content: str(dcmread(io.BytesIO(content))).encode()])
def test_packed_or_dumped_dicom_is_not_dicom(study, wrap) -> None:
    """The reader takes both for a data set without preamble."""
    path = study.write()[6]
    path.write_bytes(wrap(path.read_bytes()))
    with pytest.raises(StudyError) as raised:
        read_headers([path])
    assert raised.value.rule == "nothing-readable"


def test_refusal_tells_which_file(study) -> None:
    paths = study.write()
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: len(content) // 4])
    with pytest.raises(StudyError, match=r"^file 3 of 7: ") as raised:
        read_headers(paths)
    assert raised.value.rule == "damaged-file"
    assert raised.value.details["file"] == 3


def test_other_files_are_counted(study, tmp_path: Path) -> None:
    readme = tmp_path / "README"
    readme.write_text("not an image")
    found, other_count = read_headers([*study.write(), readme])
    assert (len(found), other_count) == (7, 1)


def test_file_without_preamble_is_recognised_by_its_class(study) -> None:
    path = study.write()[0]
    content = path.read_bytes()
    meta_length = 12 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[132 + meta_length :])
    file = read_file(path, pixels=True)
    assert file.header.Modality == "CT"
    assert file.header.pixel_array.shape == (8, 10)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_truncated_header_is_damage(study, kept: float) -> None:
    path = study.write()[6]
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(StudyError) as raised:
        read_headers([path])
    assert raised.value.rule == "damaged-file"


class Panic(BaseException):
    """As decoders in Rust raise it."""


def test_a_decoder_that_panics_is_the_files_fault() -> None:
    with pytest.raises(StudyError, match=r"a slice cannot be read \(Panic\)"), reading("a slice"):
        raise Panic("index out of bounds")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_wish_to_stop_is_no_damage(error: type[BaseException]) -> None:
    with pytest.raises(error), reading("a slice"):
        raise error


def test_no_room_is_made_for_what_only_a_length_promises(study) -> None:
    path = study.write()[6]
    content = path.read_bytes()
    # A private element of nearly four gigabytes
    path.write_bytes(content + b"\x09\x40\x01\x10OB\0\0\xfe\xff\xff\xff" + b"short")
    tracemalloc.start()
    with pytest.raises(StudyError, match="declares 4294967294 bytes, 5 are there"):
        read_file(path, pixels=True)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_what_a_wrong_length_swallows_is_not_shown(study) -> None:
    path = study.write()[6]
    content = path.read_bytes()
    place = content.index(b"\x08\0\x16\0UI")
    # The class then holds all that follows, the patient's name among it
    path.write_bytes(content[:place] + b"\x08\0\x16\0UN\0\0\xfe\xff\xff\x7f" + content[place + 8 :])
    with pytest.raises(StudyError, match="an object of class unknown ends too early") as raised:
        read_file(path, pixels=False)
    assert len(raised.value.message) < 200


def test_fault_of_the_disk_is_not_the_studys(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_headers([tmp_path / "absent"])


def deflate(path: Path, padding: bytes = b"") -> None:
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.DataSetTrailingPadding = padding
    dataset.save_as(path)


def test_deflated_file(study) -> None:
    study.ct[0].PixelData = np.arange(80, dtype="<i2").tobytes()
    path = study.write()[0]
    deflate(path, b"\0\0")
    file = read_file(path, pixels=True)
    assert file.inflated_bytes > 160
    assert (file.header.pixel_array.ravel() == np.arange(80)).all()


def test_bomb_is_refused_before_it_inflates(study, monkeypatch: pytest.MonkeyPatch) -> None:
    path = study.write()[0]
    deflate(path, b"\0" * 10_000_000)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(files, "MAX_INFLATED_BYTES", 1_000_000)
    monkeypatch.setattr(zlib, "decompress", pytest.fail)
    with pytest.raises(StudyError) as raised:
        read_headers([path])
    assert raised.value.rule == "too-large"


def test_limit_holds_for_all_files_together(study, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = study.write()[:3]
    for path in paths:
        deflate(path, b"\0" * 400_000)
    monkeypatch.setattr(files, "MAX_INFLATED_BYTES", 1_000_000)
    assert len(read_headers(paths[:2])[0]) == 2
    with pytest.raises(StudyError) as raised:
        read_headers(paths)
    assert raised.value.rule == "too-large"


def test_messages_quote_no_values(study, caplog: pytest.LogCaptureFixture) -> None:
    study.ct[0].PatientID = "Secret^Name"
    path = study.write()[0]
    content = path.read_bytes()
    # A number that is none makes the reader quote it
    path.write_bytes(content.replace(b"Secret^Name", b"Secret^Name").replace(b"DS\x02\x001 ", b"DS\x02\x00Se"))
    with pytest.raises(StudyError) as raised:
        files_of_study([path])
    assert "Se" not in raised.value.message.replace("Series", "")
    assert "Secret" not in caplog.text


def files_of_study(paths: list[Path]) -> None:
    from model.dicom import read_study

    read_study(paths)
