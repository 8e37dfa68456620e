import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitpipe.errors import InputError
from vitpipe.files import atomic_file, atomic_folder, load_json, write_csv, write_json


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_file_appears_whole_and_alone(tmp_path):
    with atomic_file(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert content(tmp_path) == {"new/a.txt": "new"}


def write_and_fail(path: Path, failure: type[BaseException]) -> None:
    path.write_text("half of the ne", encoding="utf-8")
    raise failure


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt])
def test_failed_file_leaves_the_old_one(tmp_path, failure):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(failure), atomic_file(tmp_path / "a.txt") as temporary:
        write_and_fail(temporary, failure)
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a.txt"):
        pass  # the block writes nothing
    assert content(tmp_path) == {"a.txt": "old"}


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt])
def test_failed_folder_leaves_the_old_one(tmp_path, failure):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    with pytest.raises(failure), atomic_folder(tmp_path / "a") as temporary:
        write_and_fail(temporary / "new", failure)
    assert content(tmp_path) == {"a/old": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_folder_takes_the_place_of_the_old_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "new").write_text("new")
        assert content(tmp_path / "a") == {"old": "old"}
    assert content(tmp_path) == {"a/new": "new"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_while_writing_leaves_the_old_content_and_the_next_run_clears_up(tmp_path, kind):
    target = tmp_path / "a"
    inner = target if kind == "file" else target / "a.txt"
    inner.parent.mkdir(exist_ok=True)
    inner.write_text("old")
    code = f"""
import sys, time
from pathlib import Path
from vitpipe.files import atomic_{kind} as atomic
with atomic(Path("a")) as temporary:
    with (temporary if temporary.name == "a.tmp" and {kind == "file"} else temporary / "part.txt").open("w") as file:
        file.write("half of the ne")
        file.flush()
        print("writing", flush=True)
        time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert inner.read_text() == "old"
    assert (tmp_path / "a.tmp").exists()  # what SIGKILL leaves

    if kind == "file":
        with atomic_file(target) as temporary:
            temporary.write_text("new")
        assert content(tmp_path) == {"a": "new"}
    else:
        with atomic_folder(target) as temporary:
            assert not list(temporary.iterdir())
            (temporary / "a.txt").write_text("new")
        assert content(tmp_path) == {"a/a.txt": "new"}


def test_json_keeps_order_and_refuses_what_json_has_no_word_for(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"z": 1, "a": [0.1, "\u00e9"]})
    loaded = load_json(path, "train")
    assert loaded == {"z": 1, "a": [0.1, "\u00e9"]}
    assert list(loaded) == ["z", "a"]
    assert path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"z": float("nan")})
    assert load_json(path, "train") == loaded


def test_csv_is_rounded_and_quoted(tmp_path):
    write_csv(tmp_path / "a.csv", [{"id": "x,\u00e9", "value": 1 / 3, "n": 1}, {"id": "z", "value": 1e-12, "n": 2}])
    assert (tmp_path / "a.csv").read_text("utf-8") == 'id,value,n\n"x,\u00e9",0.333333,1\nz,1e-12,2\n'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is missing: the stage train makes it (dvc repro train)"),
        ("", "is empty or damaged: make it again (dvc repro --force --single-item train)"),
        ('{"z": 1', "is empty or damaged: make it again (dvc repro --force --single-item train)"),
    ],
)
def test_json_that_a_stage_has_to_make_again(tmp_path, content, told):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as error:
        load_json(path, "train")
    assert str(error.value) == f"{path} {told}"
