"""Speed and quality compared with other libraries and networks: `python -m benchmarks --help`, or `make bench`."""

from importlib import import_module
from types import ModuleType

from vitpipe.errors import InputError
from vitpipe.sources.torchvision import import_torchvision


def peer(module: str) -> ModuleType:
    """Imports a module of a library that is compared with.

    Raises:
        InputError: the library is not installed.
    """
    import_torchvision()  # which all of them import
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install -e '.[bench]' (make bench does it)") from None
