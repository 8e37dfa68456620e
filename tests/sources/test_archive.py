import io
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from vitpipe.sources.archive import is_visible, list_files, open_zip, pack, resolve_root
from vitpipe.errors import InputError


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def make_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../up.jpg", "a/../../up.jpg", "C:/x.jpg", "C:x.jpg", "a\\..\\..\\up.jpg", "\\\\host\\x.jpg"],
)
def test_members_that_lead_out_are_refused(tmp_path, name):
    path = make_zip(tmp_path / "a.zip", {"fine.jpg": b"", name: b""})
    with pytest.raises(InputError, match="refused"):
        open_zip(path)


def test_dots_within_names_are_no_danger(tmp_path):
    open_zip(make_zip(tmp_path / "a.zip", {"a..b/c...jpg": b""})).close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "HTML page, not a zip.*data.root"),
        (b"\xef\xbb\xbf<HTML>", "HTML page"),
        (b"", "is no zip"),
        (b"hello", "is no zip"),
    ],
)
def test_what_is_no_zip_is_said(tmp_path, content, message):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_zip(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_zip_is_said(tmp_path, share):
    content = make_zip(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(100)}).read_bytes()
    path = tmp_path / "b.zip"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"b\.zip is a damaged zip, cut off after"):
        open_zip(path)


def test_packing_is_deterministic_sorted_and_uncompressed(tmp_path):
    files = {}
    for name in ("b.png", "a.png"):
        files[f"in/{name}"] = tmp_path / name
        files[f"in/{name}"].write_bytes(picture(len(files)))
    pack(files, tmp_path / "1.zip")
    os.utime(tmp_path / "a.png", (1e9, 1e9))
    pack(dict(reversed(files.items())), tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["in/a.png", "in/b.png"]
        assert archive.read("in/a.png") == (tmp_path / "a.png").read_bytes()
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_failed_packing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_) -> None:
        raise OSError("disk full")

    (tmp_path / "a.png").touch()
    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(OSError, match="disk full"):
        pack({"a.png": tmp_path / "a.png"}, tmp_path / "out" / "a.zip")
    assert list((tmp_path / "out").iterdir()) == []


def test_packing_leaves_out_what_cannot_be_opened(tmp_path):
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "a.png").write_bytes(picture(1))
    files = {name: tmp_path / name for name in ("a.png", "dangling.png")}
    assert pack(files, tmp_path / "a.zip") == {"dangling.png": "cannot be read (No such file or directory)"}
    with open_zip(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["a.png"]


def test_files_are_listed_sorted_with_posix_names(tmp_path):
    for name in ("b/2.jpg", "a.jpg", "b/c/1.jpg", "skip.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_files(tmp_path, lambda name: name.endswith(".jpg"))) == ["a.jpg", "b/2.jpg", "b/c/1.jpg"]


def test_folders_that_cannot_be_listed_are_not_skipped_in_silence(tmp_path, monkeypatch):
    for name in ("a/1.jpg", "locked/2.jpg", ".hidden/3.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scandir, locked = os.scandir, ".hidden"

    def guarded(path):
        if os.path.basename(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert list(list_files(tmp_path, is_visible)) == ["a/1.jpg", "locked/2.jpg"]
    locked = "locked"
    with pytest.raises(InputError, match=r"locked cannot be listed .Permission denied.: make it readable"):
        list_files(tmp_path, is_visible)


def test_relative_root_counts_from_the_repository_also_in_copies_of_it(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    (tmp_path / "photos").mkdir()
    for place in (repository, repository / ".dvc/tmp/exps/tmpabc", repository / ".dvc/tmp/exps/standalone/tmpabc"):
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(place)
        assert resolve_root("../photos") == tmp_path / "photos"
        assert resolve_root(str(tmp_path / "photos")) == tmp_path / "photos"


def test_missing_root_is_said_with_the_path_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"'nowhere'.*{tmp_path / 'nowhere'}"):
        resolve_root("nowhere")
