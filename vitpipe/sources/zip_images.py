"""Pictures in a zip by sample id."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock

from PIL import Image

from vitpipe.sources.archive import UNREADABLE, open_zip, read_file, why_unreadable, zip_members
from vitpipe.sources.images import UnreadableImage, decode


class ZipImages:
    """Pictures in a zip by sample id, safe to share between threads. CelebA's 202,599 take 135 MB of memory.

    Args:
        path: the zip.
        sample_of: the sample id by member name, None where a member is no sample; by default names are ids.

    Raises:
        InputError: see `vitpipe.sources.archive.open_zip`.
    """

    def __init__(self, path: Path, sample_of: Callable[[str], str | None] = str) -> None:
        self.zip, self.lock = open_zip(path), Lock()
        members = {sample_of(name): info for name, info in zip_members(self.zip)}
        self.members = {sample: info for sample, info in members.items() if sample is not None}

    def read(self, sample: str) -> Image.Image:
        """The picture as RGB, upright.

        Raises:
            UnreadableImage: see `vitpipe.sources.images.decode`; also when the bytes fail their CRC.
            KeyError: there is no such sample.
        """
        try:
            with self.lock:
                content = read_file(partial(self.zip.open, self.members[sample]))
        except UNREADABLE as error:
            raise UnreadableImage(why_unreadable(error)) from None
        return decode(content)
