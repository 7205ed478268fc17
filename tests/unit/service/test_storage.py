from pathlib import Path

import pytest

from service.storage.folders import LocalStorage


def left_behind(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]


def test_a_folder_appears_when_it_is_whole(storage: LocalStorage) -> None:
    with storage.writing("jobs/1/study") as folder:
        (folder / "a.dcm").write_bytes(b"a")
        with pytest.raises(FileNotFoundError), storage.reading("jobs/1/study"):
            pass
    with storage.reading("jobs/1/study") as folder:
        assert (folder / "a.dcm").read_bytes() == b"a"
    assert storage.children("jobs/1") == ["study"]


def fill_and_fail(folder: Path) -> None:
    (folder / "a.dcm").write_bytes(b"a")
    raise RuntimeError


def test_nothing_stays_of_a_folder_that_failed(storage: LocalStorage, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), storage.writing("jobs/1/study") as folder:
        fill_and_fail(folder)
    assert left_behind(tmp_path) == []
    assert storage.children("jobs") == []


def test_delete_takes_all_below(storage: LocalStorage, tmp_path: Path) -> None:
    for key in ("jobs/1/study", "jobs/1/predict-2", "jobs/2/study"):
        with storage.writing(key) as folder:
            (folder / "file").touch()
    storage.delete("jobs/1")
    storage.delete("jobs/1")
    assert storage.children("jobs") == ["2"]
    assert len(left_behind(tmp_path)) == 1


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


@pytest.mark.parametrize("key", ["", "../x", "jobs//x", "/etc", "jobs/../../x"])
def test_keys_stay_inside(storage: LocalStorage, key: str) -> None:
    with pytest.raises(ValueError, match="no key"), storage.reading(key):
        pass
