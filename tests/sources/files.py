"""Files and archives for the tests of sources."""

import io
import tarfile
import zipfile
from pathlib import Path

from PIL import Image


def picture(shade: int = 0, size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    """The file of a grey image."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, kind)
    return buffer.getvalue()


def below(folder: str, files: dict) -> dict:
    return {f"{folder}/{name}": content for name, content in files.items()}


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Writes files, content by relative path."""
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def zipped(files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip, content by member name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def write_zip(path: Path, files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.write_bytes(zipped(files, compression))
    return path


def tarred(files: dict[str, bytes]) -> bytes:
    """A tar.gz, content by member name, and a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return buffer.getvalue()


def encrypted(archive: bytes, name: str) -> bytes:
    """The zip with the flag of an encrypted member set, in the header of the member and in the directory."""
    content = bytearray(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        content[opened.getinfo(name).header_offset + 6] |= 1
    content[content.rindex(name.encode()) - 46 + 8] |= 1
    return bytes(content)
