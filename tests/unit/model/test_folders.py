"""Files of folders that are linked together."""

from pathlib import Path

from model.folders import files_below


def test_links_to_folders_are_followed_once_and_in_circles_never(tmp_path: Path) -> None:
    archive, work = tmp_path / "archive", tmp_path / "work"
    (archive / "ct").mkdir(parents=True)
    work.mkdir()
    (archive / "ct" / "1.dcm").touch()
    (archive / "plan.dcm").touch()
    (work / "patient").symlink_to(archive, target_is_directory=True)
    (work / "again").symlink_to(archive, target_is_directory=True)
    (archive / "ct" / "up").symlink_to(work, target_is_directory=True)
    (work / "lost").symlink_to(tmp_path / "nowhere")
    found = files_below(work)
    assert found == sorted(found)
    assert sorted(path.name for path in found) == ["1.dcm", "plan.dcm"]
