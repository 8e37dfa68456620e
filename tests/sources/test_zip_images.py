import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sources.files import picture, write_zip
from vitpipe.sources.images import UnreadableImage
from vitpipe.sources.zip_images import ZipImages


def shade(images: ZipImages, sample: str) -> int:
    return images.read(sample).getpixel((3, 3))[0]


def test_pictures_are_read_by_id_from_many_threads(tmp_path):
    path = write_zip(tmp_path / "a.zip", {f"deep/{i}.png": picture(i) for i in range(256)})
    images = ZipImages(path, lambda member: member.removeprefix("deep/").removesuffix(".png"))
    wanted = [i * 37 % 256 for i in range(3000)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: shade(images, str(i)), wanted)) == wanted


def test_archives_beyond_32_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(5)})
    assert b"PK\6\6" in path.read_bytes()
    images = ZipImages(path)
    assert [shade(images, f"{i}.png") for i in range(5)] == list(range(5))


def test_other_members_than_samples_are_unknown(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": picture(1), "list.txt": b"words"})
    images = ZipImages(path, lambda member: member if member.endswith(".png") else None)
    assert shade(images, "a.png") == 1
    for sample in ("list.txt", "b.png"):
        with pytest.raises(KeyError, match=sample):
            images.read(sample)


def test_damaged_member_is_unreadable(tmp_path):
    members = {"a.png": picture(1) + b"MARK" * 20, "b.png": picture(2)}
    path = write_zip(tmp_path / "a.zip", members, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"MARKMARK", b"MARKmark"))
    images = ZipImages(path)
    with pytest.raises(UnreadableImage, match=r"cannot be read \(Bad CRC"):
        images.read("a.png")
    assert shade(images, "b.png") == 2
