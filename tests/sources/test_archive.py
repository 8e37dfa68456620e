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
    files = {
        "b/c/1.jpg": b"1",
        "a.txt": b"2",
        ".hidden": b"",
        "b/.git/x": b"",
        "__MACOSX/a.txt": b"",
        "b/@eaDir/a.txt": b"",
    }
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


@pytest.mark.parametrize("pattern", ["{}", "./{}", ".//{}"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_members_as_other_programs_name_them(tmp_path, pattern, slash):
    """bsdtar begins names with ./, older .NET and PowerShell divide them by backslashes."""
    files = {pattern.format(name).replace("/", slash): name.encode() for name in ("b/c/1.jpg", "a.txt", ".x/2.jpg")}
    path = write_zip(tmp_path / "a.zip", files | {pattern.format("b/").replace("/", slash): b""})
    with open_files(path) as found:
        assert {name: read_file(opener) for name, opener in found.items()} == {
            "a.txt": b"a.txt",
            "b/c/1.jpg": b"b/c/1.jpg",
        }


def test_one_name_in_two_spellings_is_told(tmp_path):
    with (
        pytest.raises(InputError, match=r"'b/1\.jpg' twice"),
        open_files(write_zip(tmp_path / "a.zip", {"b/1.jpg": b"", "b\\1.jpg": b""})),
    ):
        pass


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


FAR = bytes.fromhex("50 4b 05 06 02 00 02 00")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip.001", PICTURES[:9000]),  # 7-Zip's
        ("a.zip.002", PICTURES[9000:12000]),
        ("a.zip.003", PICTURES[12000:]),
        ("a.z01", b"PK\7\b" + PICTURES[:9000]),  # Info-ZIP's
        ("a.zip", PICTURES[9000:].replace(b"PK\5\6\0\0\0\0", FAR)),  # its last part
        ("renamed.zip", PICTURES[9000:]),
    ],
)
def test_one_part_of_a_split_zip_is_told(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is one part of a split zip: join the parts"):
        open_zip(path)


def test_a_whole_zip_in_a_single_part_is_read(tmp_path):
    (tmp_path / "a.zip.001").write_bytes(PICTURES)
    open_zip(tmp_path / "a.zip.001").close()


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


@pytest.mark.parametrize("root", ["~nobodyxyz/pics", "a\0b", "loop"])
def test_roots_that_are_no_paths_are_told(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(
        InputError, match=r"data\.root is '(~nobodyxyz/pics|a.x00b|loop)', (which is no path|but there)"
    ):
        resolve_root(root)


@pytest.mark.parametrize(("name", "written"), [("müller", "müller"), ("müller", "mÃ¼ller"), ("m\udcfcller", "müller")])
def test_root_as_a_shell_with_another_encoding_gave_it(tmp_path, monkeypatch, name, written):
    """UTF-8 names that DVC read as Latin-1, and names that are Latin-1 on the disk."""
    monkeypatch.setattr(archive.locale, "getencoding", lambda: "latin-1")
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    assert resolve_root(str(tmp_path / written)) == tmp_path / name
