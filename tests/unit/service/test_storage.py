"""Storage, on the disk and in buckets with and without versions: whole folders or none, nothing after a deletion."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from service.settings import Settings
from service.storage.bucket import Bucket, BucketStorage
from service.storage.folders import LocalStorage, Storage, StorageError
from service.storage.layout import tidy
from service.storage.scratch import Scratch
from service.wiring import open_storage

PART_BYTES = 5 * 2**20
"""The least that S3 takes."""
KINDS = ("folder", "bucket", "versions")


class Kept:
    """What a storage holds, seen from outside."""

    def __init__(self, look: Callable[[], dict[str, bytes]]) -> None:
        self.look = look

    def names(self) -> list[str]:
        return sorted(self.look())


@pytest.fixture
def open_bucket(s3, tmp_path: Path) -> Callable[..., BucketStorage]:
    def open_it(name: str, **more: object) -> BucketStorage:
        bucket = Bucket(name, "clinic/a", s3.url, "eu-central-1", s3.KEY, s3.KEY)
        return BucketStorage(bucket, Scratch(tmp_path / "scratch"), part_bytes=PART_BYTES, **more)

    return open_it


@pytest.fixture(params=KINDS)
def both(request, tmp_path: Path) -> tuple[Storage, Kept]:
    """A storage of a kind, and what it keeps."""
    if request.param == "folder":
        root = tmp_path / "storage"

        def on_disk() -> dict[str, bytes]:
            return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

        return LocalStorage(root), Kept(on_disk)
    s3 = request.getfixturevalue("s3")
    name = s3.make_bucket(versions=request.param == "versions")

    def anywhere() -> dict[str, bytes]:
        scratch = {str(p): p.read_bytes() for p in (tmp_path / "scratch").rglob("*") if p.is_file()}
        return s3.contents(name) | scratch

    return request.getfixturevalue("open_bucket")(name), Kept(anywhere)


@pytest.fixture
def stored(both) -> Storage:
    return both[0]


@pytest.fixture
def kept(both) -> Kept:
    return both[1]


def write(storage: Storage, key: str, **files: bytes) -> None:
    with storage.writing(key) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)


def test_a_folder_appears_when_it_is_whole(stored: Storage) -> None:
    with stored.writing("jobs/1/study") as folder:
        (folder / "a").write_bytes(b"a")
        with pytest.raises(FileNotFoundError), stored.reading("jobs/1/study"):
            pass
    with stored.reading("jobs/1/study") as folder:
        assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("a", b"a")]
    assert stored.children("jobs/1") == ["study"]
    assert stored.children("jobs") == ["1"]
    assert stored.children("nothing") == []


def test_large_files_come_back_as_they_were(stored: Storage, kept: Kept) -> None:
    large = bytes(range(251)) * (2 * PART_BYTES // 251 + 1)
    write(stored, "jobs/1/study", large=large, small=b"s")
    with stored.reading("jobs/1/study", "large", "absent") as folder:
        assert (folder / "large").read_bytes() == large
    stored.delete("jobs/1")
    assert kept.names() == []


def test_two_reads_of_a_result_are_of_the_same_age(stored: Storage) -> None:
    write(stored, "jobs/1/publish-3", dose=b"d")
    ages = []
    for _ in range(2):
        with stored.reading("jobs/1/publish-3", "dose") as folder:
            ages.append((folder / "dose").stat().st_mtime)
    assert ages[0] == ages[1]


def fill_and_fail(folder: Path) -> None:
    (folder / "a").write_bytes(b"a")
    raise RuntimeError


def test_nothing_stays_of_a_folder_that_failed(stored: Storage, kept: Kept) -> None:
    with pytest.raises(RuntimeError), stored.writing("jobs/1/study") as folder:
        fill_and_fail(folder)
    assert kept.names() == []
    assert stored.children("jobs") == []


def test_delete_takes_all_below_and_nothing_beside(stored: Storage, kept: Kept) -> None:
    for key in ("jobs/1/study", "jobs/1/predict-2", "jobs/11/study"):
        write(stored, key, file=b"Canarius")
    assert sum(b"Canarius" in content for content in kept.look().values()) == 3
    stored.delete("jobs/1")
    stored.delete("jobs/1")
    assert stored.children("jobs") == ["11"]
    stored.delete("jobs/11")
    assert kept.names() == []


def test_keys_stay_inside(stored: Storage) -> None:
    for key in ("", "../x", "jobs//x", "/etc", "jobs/../../x"):
        with pytest.raises(ValueError, match="no key"), stored.reading(key):
            pass


def test_what_is_there_and_usable(stored: Storage, kept: Kept) -> None:
    stored.check()
    assert kept.names() == []
    assert stored.room_bytes() > 0


def test_sweep_leaves_a_large_file_that_grows(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with storage.writing("a/b") as folder:
        (folder / "study.zip").touch()
        os.utime(folder, (0, 0))
        storage.sweep(older_than_s=60)
        assert (folder / "study.zip").exists()
        os.utime(folder / "study.zip", (0, 0))
        storage.sweep(older_than_s=60)
        assert not folder.exists()
        folder.mkdir()


def test_sweep_takes_what_a_killed_writer_left(tmp_path: Path) -> None:
    now = 0.0
    storage = LocalStorage(tmp_path / "storage", clock=lambda: now)
    with storage.writing("jobs/1/study") as folder:
        (folder / "a.dcm").touch()
        now = folder.stat().st_mtime + 10
        storage.sweep(older_than_s=60)
        assert folder.exists()
        now += 100
        storage.sweep(older_than_s=60)
        assert not folder.exists()
        folder.mkdir()
    assert storage.children("jobs", older_than_s=1e9) == []


class TestBucket:
    def test_a_half_written_folder_is_not_there_and_can_be_deleted(self, s3, open_bucket) -> None:
        name = s3.make_bucket(versions=True)
        storage, client = open_bucket(name), s3.client()
        client.put_object(Bucket=name, Key="clinic/a/jobs/1/study/00000.part", Body=b"x")
        client.create_multipart_upload(Bucket=name, Key="clinic/a/jobs/1/study/00001.part")
        with pytest.raises(FileNotFoundError), storage.reading("jobs/1/study"):
            pass
        storage.delete("jobs/1")
        assert s3.contents(name) == {}

    def test_what_a_killed_worker_left_goes_when_its_job_ends(self, s3, open_bucket) -> None:
        name = s3.make_bucket()
        storage, client = open_bucket(name), s3.client()
        for key in ("jobs/1/study", "jobs/1/publish-3"):
            write(storage, key, file=b"x")
        client.put_object(Bucket=name, Key="clinic/a/jobs/1/predict-2/half", Body=b"x")
        client.create_multipart_upload(Bucket=name, Key="clinic/a/jobs/1/predict-2/large")
        tidy(storage, "1", keep="publish-3", token=3)
        assert storage.children("jobs/1") == ["publish-3", "study"]
        assert not [key for key in s3.contents(name) if "predict" in key]

    def test_nothing_but_its_own_part_of_a_bucket_is_touched(self, s3, open_bucket) -> None:
        name = s3.make_bucket()
        storage = open_bucket(name)
        s3.client().put_object(Bucket=name, Key="clinic/b/jobs/1/study/file", Body=b"x")
        s3.client().create_multipart_upload(Bucket=name, Key="clinic/b/x")
        storage.sweep(-60)
        storage.delete("jobs")
        assert storage.children("jobs") == []
        assert len(s3.contents(name)) == 2

    def test_sweep_takes_uploads_and_local_folders_of_killed_writers(self, s3, open_bucket, tmp_path: Path) -> None:
        # What this server says of every upload
        name, now = s3.make_bucket(), datetime(2010, 11, 10, 20, 48, 33, tzinfo=UTC)
        storage = open_bucket(name, clock=lambda: now)
        s3.client().create_multipart_upload(Bucket=name, Key="clinic/a/jobs/1/study/00001.part")
        # Another process, killed while it writes
        code = (
            "import os, sys, pathlib; from service.storage.scratch import Scratch\n"
            "with Scratch(pathlib.Path(sys.argv[1])).folder() as f: (f / 'file').touch(); os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "scratch")], check=False)
        with storage.writing("jobs/2/study") as ours:
            storage.sweep(60)
            assert len(s3.contents(name)) == 1
            now += timedelta(seconds=120)
            storage.sweep(60)
            assert ours.exists()
        storage.delete("jobs/2")
        assert s3.contents(name) == {}
        assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]

    def test_children_by_age(self, s3, open_bucket) -> None:
        now = datetime.now(UTC)
        storage = open_bucket(s3.make_bucket(), clock=lambda: now)
        write(storage, "jobs/1/study", file=b"")
        assert storage.children("jobs", older_than_s=60) == []
        now += timedelta(hours=1)
        assert storage.children("jobs", older_than_s=60) == ["1"]

    def test_space_is_what_the_capacity_leaves_old_versions_counted(self, s3, open_bucket) -> None:
        storage = open_bucket(s3.make_bucket(versions=True), capacity_bytes=10**6)
        write(storage, "jobs/1/study", file=b"x" * 1000)
        write(storage, "jobs/1/study", file=b"x" * 1000)
        assert 10**6 - 2500 < storage.free_bytes() < 10**6 - 2000

    def test_a_file_that_was_changed_in_the_bucket_is_not_taken(self, s3, open_bucket) -> None:
        name = s3.make_bucket()
        storage = open_bucket(name)
        write(storage, "jobs/1/study", file=b"study")
        s3.client().put_object(Bucket=name, Key="clinic/a/jobs/1/study/file", Body=b"other")
        with pytest.raises(StorageError, match="other than it was put"), storage.reading("jobs/1/study"):
            pass

    def test_nothing_is_written_beside_the_folder_of_a_reader(self, s3, open_bucket, tmp_path: Path) -> None:
        name = s3.make_bucket()
        storage, client = open_bucket(name), s3.client()
        listed = {"../../../outside": {"bytes": 1, "sha256": sha256(b"x").hexdigest()}}
        client.put_object(Bucket=name, Key="clinic/a/jobs/1/study/_files.json", Body=json.dumps(listed).encode())
        client.put_object(Bucket=name, Key="clinic/a/jobs/1/study/../../../outside", Body=b"x")
        with pytest.raises(StorageError), storage.reading("jobs/1/study"):
            pass
        assert not list(tmp_path.rglob("outside"))

    def test_a_write_that_fails_on_its_way_leaves_nothing(self, s3, open_bucket, monkeypatch) -> None:
        name = s3.make_bucket()
        storage = open_bucket(name)
        monkeypatch.setattr("service.storage.bucket._summary", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(storage, "jobs/1/study", file=b"study")
        assert s3.contents(name) == {}

    def test_readers_see_all_of_a_folder_or_nothing_while_it_is_deleted(self, s3, open_bucket) -> None:
        storage = open_bucket(s3.make_bucket())
        write(storage, "jobs/1/study", **{f"file{n}": b"x" for n in range(20)})
        deletion = threading.Thread(target=storage.delete, args=["jobs/1"])
        deletion.start()
        while deletion.is_alive():
            try:
                with storage.reading("jobs/1/study") as folder:
                    assert len(list(folder.iterdir())) == 20
            except FileNotFoundError:
                break
        deletion.join()


@pytest.fixture
def bucket_settings(s3, tmp_path: Path) -> Callable[..., Settings]:
    def make(bucket: str, **changed: object) -> Settings:
        given = {"s3_endpoint": s3.url, "s3_region": "eu-central-1", "s3_access_key_id": s3.KEY}
        given |= {"s3_secret_access_key": s3.KEY, "storage_url": f"s3://{bucket}/clinic"}
        return Settings(data_dir=tmp_path, **{**given, **changed})

    return make


class TestStart:
    def test_a_bucket_that_can_be_used(self, s3, bucket_settings) -> None:
        name = s3.make_bucket()
        write(open_storage(bucket_settings(name)), "jobs/1/study", file=b"x")
        assert sorted(s3.contents(name)) == [f"clinic/jobs/1/study/{file} null" for file in ("_files.json", "file")]

    def test_no_such_bucket(self, bucket_settings) -> None:
        with pytest.raises(StorageError, match="there is no bucket nowhere"):
            open_storage(bucket_settings("nowhere"))

    def test_a_server_that_does_not_answer(self, bucket_settings) -> None:
        with pytest.raises(StorageError, match="EndpointConnectionError"):
            open_storage(bucket_settings("a-bucket", s3_endpoint="http://127.0.0.1:9"))

    def test_a_bucket_that_keeps_what_is_deleted(self, s3, bucket_settings) -> None:
        with pytest.raises(StorageError, match="object lock"):
            open_storage(bucket_settings(s3.make_bucket(lock=True)))
