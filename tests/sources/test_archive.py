import os
import zipfile

import pytest

from tests.sources.files import picture, tarred, write, write_zip, zipped
from vitpipe.errors import InputError
from vitpipe.sources import archive
from vitpipe.sources.archive import list_files, open_files, open_zip, pack, read_file, resolve_root
from vitpipe.sources.images import UnreadableImage


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_visible_files_of_a_folder_or_archive(tmp_path, kind):
    files = {"b/c/1.jpg": b"1", "a.txt": b"2", ".hidden": b"", "b/.git/x": b"", "__MACOSX/a.txt": b""}
    root = write(tmp_path / "root", files)
    if kind == "zip":
        root = write_zip(tmp_path / "a.zip", files)
    if kind == "tar":
        root = tmp_path / "a.tar.gz"
        root.write_bytes(tarred({f"./{name}": content for name, content in files.items()} | {"../up.txt": b""}))
    with open_files(root) as found:
        assert {name: read_file(opener) for name, opener in found.items()} == {"a.txt": b"2", "b/c/1.jpg": b"1"}


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../up.jpg", "a/../../up.jpg", "C:/x.jpg", "C:x.jpg", "a\\..\\..\\up.jpg", "\\\\host\\x.jpg"],
)
def test_members_that_lead_out_are_refused(tmp_path, name):
    path = write_zip(tmp_path / "a.zip", {"fine.jpg": b"", name: b""})
    with pytest.raises(InputError, match="refused"):
        open_zip(path)


def test_dots_within_names_are_no_danger(tmp_path):
    open_zip(write_zip(tmp_path / "a.zip", {"a..b/c...jpg": b""})).close()


PICTURES = zipped({f"{i}.png": picture(i) for i in range(100)})
DAMAGED = r"a\.zip is a damaged zip, cut off after"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "HTML page, not a zip.*data.root"),
        (b"\xef\xbb\xbf<HTML>", "HTML page"),
        (b"", "is no zip"),
        (b"hello", "is no zip"),
        (PICTURES[: len(PICTURES) // 10], DAMAGED),
        (PICTURES[:-9], DAMAGED),
        (PICTURES.replace(b"PK\1\2", b"PK\1\1"), DAMAGED),
    ],
    ids=range(7),
)
def test_other_files_than_sound_zips_are_told(tmp_path, content, message):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_zip(path)


def test_packing_is_deterministic_sorted_and_uncompressed(tmp_path):
    root = write(tmp_path / "root", {"b.png": picture(1), "a.png": picture(2)})
    for target in ("1.zip", "2.zip"):
        with open_files(root) as files:
            assert pack(files if target == "1.zip" else dict(reversed(files.items())), tmp_path / target) == {}
        os.utime(root / "a.png", (1e9, 1e9))
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as packed:
        assert packed.namelist() == ["a.png", "b.png"]
        assert packed.read("a.png") == picture(2)
        assert {info.compress_type for info in packed.infolist()} == {zipfile.ZIP_STORED}


def test_packing_leaves_out_what_is_unreadable_refused_or_too_large(tmp_path, monkeypatch):
    def check(content: bytes) -> None:
        if content == b"refuse":
            raise UnreadableImage("is refused")

    monkeypatch.setattr(archive, "LARGEST_FILE", 9)
    root = write(tmp_path / "root", {"a.png": b"keep", "b.png": b"refuse", "c.png": b"x" * 10})
    (root / "gone.png").symlink_to("nowhere")
    with open_files(root) as files:
        assert pack(files, tmp_path / "a.zip", check) == {
            "b.png": "is refused",
            "c.png": "cannot be read (larger than 9 bytes)",
            "gone.png": "cannot be read (No such file or directory)",
        }
    with open_zip(tmp_path / "a.zip") as packed:
        assert packed.namelist() == ["a.png"]


def test_folders_that_cannot_be_listed_are_not_skipped_silently(tmp_path, monkeypatch):
    write(tmp_path, {"b/1.jpg": b"", "locked/2.jpg": b"", ".hidden/3.jpg": b"", "a.jpg": b""})
    scandir, locked = os.scandir, ".hidden"

    def guarded(path):
        if os.path.basename(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert list(list_files(tmp_path)) == ["a.jpg", "b/1.jpg", "locked/2.jpg"]
    locked = "locked"
    with pytest.raises(InputError, match=r"locked cannot be listed .Permission denied.: make it readable"):
        list_files(tmp_path)


def test_relative_root_counts_from_the_repository_also_in_copies_of_it(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    (tmp_path / "photos").mkdir()
    for place in (repository, repository / ".dvc/tmp/exps/tmpabc", repository / ".dvc/tmp/exps/standalone/tmpabc"):
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(place)
        assert resolve_root("../photos") == tmp_path / "photos"
        assert resolve_root(str(tmp_path / "photos")) == tmp_path / "photos"
    with pytest.raises(InputError, match=f"'nowhere'.*{repository / 'nowhere'}"):
        resolve_root("nowhere")
