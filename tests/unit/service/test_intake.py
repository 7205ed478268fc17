"""Uploads and archives: what is taken, what is refused, and that nothing more than allowed is written."""

import contextlib
import errno
import hashlib
import json
import random
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from model.errors import DiffDPError
from service.errors import MediaTypeError, UploadError, UploadTooLarge
from service.intake import archive as archive_module
from service.intake.archive import pack, unpack
from service.intake.examine import unpack_uploads
from service.intake.limits import Limits
from service.intake.upload import Upload

LIMITS = Limits(
    max_body_bytes=10_000, max_expanded_bytes=2**20, max_ratio=20, max_files=3, timeout_s=30, memory_bytes=2**32
)
FORM = 'multipart/form-data; boundary="cut"'
RELATED = 'multipart/related; type="Application/DICOM"; boundary=cut'


def part(text: bytes, name: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="DOE^JOHN.dcm"\r\n' if name else ""
    return b"--cut\r\n" + disposition.encode() + b"Content-Type: application/dicom\r\n\r\n" + text + b"\r\n"


def receive(folder: Path, content_type: str, body: bytes, block: int = 10**6) -> Upload:
    with Upload(content_type, folder, LIMITS) as upload:
        for start in range(0, len(body), block):
            upload.write(body[start : start + block])
        upload.close()
    return upload


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_a_zip_is_stored_as_it_comes(tmp_path: Path) -> None:
    upload = receive(tmp_path, "application/zip", b"PK...", block=2)
    assert contents(tmp_path) == [b"PK..."]
    assert upload.parameters is None


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_form_parts_become_files_under_names_of_our_own(tmp_path: Path, block: int) -> None:
    body = part(b"one\r\n--cu", "files") + part(b'{"seed": 1}', "parameters") + part(b"two", "files") + b"--cut--\r\n"
    upload = receive(tmp_path, FORM, body, block)
    assert contents(tmp_path) == [b"one\r\n--cu", b"two"]
    assert json.loads(upload.parameters) == {"seed": 1}
    assert not [path for path in tmp_path.iterdir() if "DOE" in path.name]


def test_related_parts_need_no_name(tmp_path: Path) -> None:
    receive(tmp_path, RELATED, part(b"one") + part(b"two") + b"--cut--\r\n")
    assert contents(tmp_path) == [b"one", b"two"]


def test_the_digest_does_not_depend_on_the_wrapping(tmp_path: Path) -> None:
    digests = []
    for number, (content_type, body) in enumerate(
        [(FORM, part(b"PK", "files") + b"--cut--"), (RELATED, part(b"PK") + b"--cut--"), ("application/zip", b"PK")]
    ):
        (tmp_path / str(number)).mkdir()
        digests.append(receive(tmp_path / str(number), content_type, body).files_sha256)
    assert set(digests) == {hashlib.sha256(hashlib.sha256(b"PK").hexdigest().encode()).hexdigest()}


def test_the_first_of_several_headers_of_a_name_counts(tmp_path: Path) -> None:
    one = part(b"one", "files").replace(
        b"Content-Type", b'content-disposition: form-data; name="other"\r\nContent-Type'
    )
    receive(tmp_path, FORM, one + b"--cut--")
    assert contents(tmp_path) == [b"one"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "multipart/related"])
def test_other_types_are_refused(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(MediaTypeError):
        Upload(content_type, tmp_path, LIMITS)


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/zip", b"", "body-empty"),
        (FORM, b"--cut--\r\n", "body-invalid"),
        (FORM, b"nothing like parts", "body-invalid"),
        (FORM, part(b"cut short", "files"), "body-invalid"),
        (FORM, part(b"x", "file") + b"--cut--", "body-invalid"),
        (FORM, part(b"{}", "parameters") + part(b"{}", "parameters") + b"--cut--", "body-invalid"),
        ("multipart/form-data", b"--cut--", "body-invalid"),
        (RELATED, b"--cut\r\nbad header\r\n\r\nx\r\n--cut--", "body-invalid"),
        # Parameters of RFC 2231, which forms must not have, in ways that confuse programs that read them
        ("multipart/form-data; boundary*=utf-8''cut; boundary*0=cut", b"--cut--", "body-invalid"),
        ("multipart/form-data; boundary*=utf-8''%E2%82%AC", b"--cut--", "body-invalid"),
        (f"multipart/form-data; boundary*{'9' * 5000}=cut", b"--cut--", "body-invalid"),
        (f"multipart/form-data; boundary={'c' * 5000}", b"--cut--", "body-invalid"),
        (FORM, b"--cut\r\nContent-Disposition: form-data; name*0=x; name*=y\r\n\r\nx\r\n--cut--", "body-invalid"),
    ],
)
def test_broken_bodies_are_refused(tmp_path: Path, content_type: str, body: bytes, code: str) -> None:
    with pytest.raises(UploadError) as error:
        receive(tmp_path, content_type, body)
    assert error.value.rule == code


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/zip", b"x" * 10_001, "body-too-large"),
        (FORM, part(b"x", "files") * 4 + b"--cut--", "too-many-files"),
        (RELATED, part(b"x") * 4 + b"--cut--", "too-many-files"),
    ],
)
def test_limits_of_a_body(tmp_path: Path, content_type: str, body: bytes, code: str) -> None:
    with pytest.raises(UploadTooLarge) as error:
        receive(tmp_path, content_type, body)
    assert error.value.rule == code


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(body=st.binary(max_size=300), content_type=st.sampled_from([FORM, RELATED, "application/zip"]))
def test_any_body_is_taken_or_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, content_type: str
) -> None:
    with contextlib.suppress(DiffDPError):
        receive(tmp_path_factory.mktemp("upload"), content_type, body, block=50)


def make_archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_names_in_an_archive_are_ignored(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip", {"../../evil": b"1", "/etc/passwd": b"2", "d/": b"", "d/DOE": b"3"})
    folder = tmp_path / "out"
    folder.mkdir()
    written = unpack(archive, folder, LIMITS)
    assert [path.name for path in written] == ["00000.dcm", "00001.dcm", "00002.dcm"]
    assert contents(folder) == [b"1", b"2", b"3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out"]


def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    bomb = make_archive(tmp_path / "bomb.zip", {"zeros": bytes(2**22)})
    outer = make_archive(tmp_path / "outer.zip", {"inner.zip": bomb.read_bytes()})
    folder = tmp_path / "study"
    folder.mkdir()
    outer.rename(folder / "00000.zip")
    assert [path.read_bytes() for path in unpack_uploads(folder, LIMITS)] == [bomb.read_bytes()]
    # Nor is one that comes beside other files
    for name in ("00000.part", "00001.part"):
        (folder / name).write_bytes(bomb.read_bytes())
    (folder / "00000.dcm").unlink()
    assert [path.name for path in unpack_uploads(folder, LIMITS)] == ["00000.part", "00001.part"]


def too_many(path: Path) -> Path:
    return make_archive(path, {str(number): b"" for number in range(4)})


def too_large(path: Path) -> Path:
    return make_archive(path, {"zeros": bytes(2**20 + 1)})


def lying(path: Path) -> Path:
    """Declares one byte where a megabyte and more comes out."""
    too_large(path)
    declared = (2**20 + 1).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(declared, (1).to_bytes(4, "little")))
    return path


def damaged(path: Path) -> Path:
    make_archive(path, {"a": b"content" * 100})
    body = bytearray(path.read_bytes())
    body[40] ^= 0xFF
    path.write_bytes(body)
    return path


def cut(path: Path) -> Path:
    make_archive(path, {"a": b"content"})
    path.write_bytes(path.read_bytes()[:-10])
    return path


def empty(path: Path) -> Path:
    return make_archive(path, {})


def encrypted(path: Path) -> Path:
    make_archive(path, {"a": b"content"})
    body = bytearray(path.read_bytes())
    body[6] |= 1
    body[body.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(body)
    return path


def damaged_in_another_packing(path: Path, method: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a", random.Random(1).randbytes(5000))
    body = bytearray(path.read_bytes())
    body[40:80] = b"\xff" * 40
    path.write_bytes(body)
    return path


def beginning_before_itself(path: Path) -> Path:
    make_archive(path, {"a": b"content"})
    body = bytearray(path.read_bytes())
    end = body.index(b"PK\x05\x06")
    # The central directory is said to be longer than all there is
    body[end + 12 : end + 16] = (10_000).to_bytes(4, "little")
    path.write_bytes(body)
    return path


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (beginning_before_itself, "archive-invalid"),
        (partial(damaged_in_another_packing, method=zipfile.ZIP_BZIP2), "archive-invalid"),
        (partial(damaged_in_another_packing, method=zipfile.ZIP_LZMA), "archive-invalid"),
        (too_many, "too-many-files"),
        (too_large, "archive-too-large"),
        (lying, "archive-invalid"),
        (damaged, "archive-invalid"),
        (cut, "archive-invalid"),
        (empty, "archive-invalid"),
        (encrypted, "archive-invalid"),
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, make: Callable[[Path], Path], code: str) -> None:
    with pytest.raises(UploadError) as error:
        unpack(make(tmp_path / "a.zip"), tmp_path, LIMITS)
    assert error.value.rule == code
    assert sum(path.stat().st_size for path in tmp_path.glob("*.dcm")) <= LIMITS.max_expanded_bytes


def test_a_full_disk_is_no_fault_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(archive_module, "_expand", full)
    with pytest.raises(OSError, match="no space"):
        unpack(make_archive(tmp_path / "a.zip", {"a": b"x"}), tmp_path, LIMITS)


def test_the_ratio_counts_beyond_what_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "RATIO_COUNTS_FROM_BYTES", 1000)
    with pytest.raises(UploadTooLarge):
        unpack(make_archive(tmp_path / "a.zip", {"zeros": bytes(100_000)}), tmp_path, LIMITS)


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    for name in ("1.zip", "2.zip"):
        pack({"dose.dcm": tmp_path / "a"}, tmp_path / name)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.read("dose.dcm") == b"content"
