import io
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitpipe.data import zip_images
from vitpipe.sources.images import UnreadableImage
from vitpipe.sources.zip_images import ZipImages
from vitpipe.errors import InputError


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def make_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_pictures_are_read_by_id_from_many_threads(tmp_path):
    path = make_zip(tmp_path / "a.zip", {f"deep/{i}.png": picture(i) for i in range(256)})
    images = ZipImages(path, lambda member: member.removeprefix("deep/").removesuffix(".png"))
    wanted = [i * 37 % 256 for i in range(3000)]
    with ThreadPoolExecutor(8) as pool:
        shades = list(pool.map(lambda i: images.read(str(i)).getpixel((3, 3))[0], wanted))
    assert shades == wanted


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@given(
    st.dictionaries(NAMES, st.binary(max_size=300), max_size=8),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    st.binary(max_size=40),
    st.binary(max_size=40).filter(lambda comment: b"PK" not in comment),  # a second end of the zip fools Python's, too
    st.booleans(),
)
def test_content_is_what_pythons_own_reader_gives(tmp_path_factory, members, compression, before, comment, streamed):
    """Any names and compression, with something put before the zip, with a comment, written to a pipe or a file."""
    buffer = io.BytesIO()
    if streamed:
        buffer.seekable = lambda: False
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(name, content)
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    path.write_bytes(before + buffer.getvalue())
    images = ZipImages(path)
    with zipfile.ZipFile(path) as archive:
        assert len(images.keys) == len(archive.namelist())
        for info in archive.infolist():
            assert images.content(info.filename) == archive.read(info)


def test_archives_beyond_32_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = make_zip(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(5)})
    assert b"PK\6\6" in path.read_bytes()
    assert [ZipImages(path).read(f"{i}.png").getpixel((0, 0))[0] for i in range(5)] == list(range(5))


def test_what_is_no_sample_is_not_listed(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.png": picture(1), "list.txt": b"words"})
    images = ZipImages(path, lambda member: member if member.endswith(".png") else None)
    assert images.read("a.png").getpixel((0, 0)) == (1, 1, 1)
    with pytest.raises(KeyError, match=r"list\.txt"):
        images.read("list.txt")


def test_ids_with_equal_keys_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_images, "key", lambda sample: 7)
    images = ZipImages(make_zip(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(3)}))
    assert [images.read(f"{i}.png").getpixel((0, 0))[0] for i in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        images.read("3.png")


def test_unknown_id_is_an_error(tmp_path):
    with pytest.raises(KeyError):
        ZipImages(make_zip(tmp_path / "a.zip", {"a.png": picture(1)})).read("b.png")


def test_damaged_member_is_unreadable(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.png": picture(1) + b"MARK" * 20, "b.png": picture(2)}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"MARKMARK", b"MARKmark"))
    images = ZipImages(path)
    with pytest.raises(UnreadableImage, match="damaged in the zip"):
        images.read("a.png")
    assert images.read("b.png").getpixel((0, 0)) == (2, 2, 2)


def test_encrypted_member_is_unreadable(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.png": picture(1)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match="encrypted"):
        ZipImages(path).read("a.png")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_zip_is_said(tmp_path, share):
    content = make_zip(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(100)}).read_bytes()
    path = tmp_path / "b.zip"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"b\.zip is (a damaged zip, cut off after|no zip)"):
        ZipImages(path)


def test_damaged_directory_is_said(tmp_path):
    path = make_zip(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(100)})
    path.write_bytes(path.read_bytes().replace(b"PK\1\2", b"PK\1\1"))
    with pytest.raises(InputError, match=r"a\.zip is a damaged zip"):
        ZipImages(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_large_archives_open_quickly_and_in_little_memory(tmp_path):
    """As many members as CelebA has: `zipfile` would take some 150 MB."""
    path = make_zip(
        tmp_path / "a.zip", dict.fromkeys((f"{i:06d}.png" for i in range(200_000)), b""), zipfile.ZIP_STORED
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("real.png", picture(9))
    code = """
import sys, time
from pathlib import Path
from vitpipe.sources.zip_images import ZipImages
peak = lambda: int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
before, start = peak(), time.perf_counter()
images = ZipImages(Path(sys.argv[1]))
opened = time.perf_counter()
for _ in range(500):
    images.read("real.png")
print(peak() - before, opened - start, time.perf_counter() - opened)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    kilobytes, opening, reading = map(float, done.stdout.split())
    assert kilobytes < 12_000
    assert opening < 30
    assert reading < 5
