"""Settings that a data set refuses before it writes anything."""

import pytest

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import source

NULL = "data.root is 'here', but must be null with data.name"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "folder"}, "data.root is null"),
        ({"name": "faces", "root": "here"}, f"{NULL} faces"),
        ({"name": "digits", "size": 8, "root": "here"}, f"{NULL} digits"),
        ({"name": "digits", "size": 16}, "but the pictures of data.name digits have 8x8 pixels: use 8"),
        ({"name": "mnist", "size": 56}, "but the pictures of data.name mnist have 28x28 pixels: use 28"),
        ({"name": "cifar10", "size": 64}, "but the pictures of data.name cifar10 have 32x32 pixels: use 32"),
        ({"name": "cifar100", "size": 33}, "but the pictures of data.name cifar100 have 32x32 pixels: use 32"),
        ({"name": "pets", "root": "here"}, "data.root is 'here', but there is no"),
        ({"name": "flowers102", "root": "here"}, "data.root is 'here', but there is no"),
    ],
)
def test_settings_that_a_data_set_refuses(tmp_path, data, message):
    with pytest.raises(InputError, match=message):
        source(data["name"]).fetch(Data(**data), 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_classifier_may_see_enlarged_pictures(tmp_path, capsys):
    source("digits").fetch(Data(name="digits", size=16, scale=1), 0, tmp_path)
    assert "16, but the pictures of data.name digits have 8x8 pixels, so they are enlarged" in capsys.readouterr().err
