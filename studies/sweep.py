"""A sweep of settings through DVC's queue, and its experiments read back by their settings."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

from vitpipe.errors import InputError
from vitpipe.progress import progress
from vitpipe.report.page import flat

SECONDS = 20  # between looks at the queue: each costs about a second of a processor
PATIENCE = 6  # looks without a worker before the queue counts as stopped
TASK = re.compile(r"^[0-9a-f]{7,}\s+(\S+)\s.*\b(Queued|Running|Success|Failed|Killed)\s*$")
UNSTARTED = re.compile(r"Worker status: 0 active, 0 idle")


@dataclass(frozen=True)
class Experiment:
    """What DVC knows of one run.

    Args:
        name: its name, or the commit's for one that was committed.
        committed: whether it is the commit that experiments start from.
        finished: when, as text that sorts by time.
        params: settings by dotted key, without `plots`.
        metrics: numbers by dotted key, by the stem of their file: `metrics["attention"]["focus.eyes.lift"]`.
    """

    name: str
    committed: bool
    finished: str
    params: dict[str, Any]
    metrics: dict[str, dict[str, Any]]


def dvc(*arguments: str) -> str:
    """Runs DVC; returns what it printed on stdout.

    The `python` of the stages is the one that runs this.

    Raises:
        InputError: it failed; the message is its last line.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "dvc", *arguments]
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:  # a pipe would wait for a worker it starts
        code = subprocess.run(command, env=os.environ | {"PATH": path}, stdout=output, stderr=errors).returncode
        output.seek(0)
        errors.seek(0)
        printed, complaints = output.read(), errors.read().splitlines()
    if code:
        lines = [line for line in complaints if line.startswith("ERROR: ")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit status {code}"
        raise InputError(f"dvc {' '.join(arguments[:2])} failed: {reason}")
    return printed


def enqueue(overrides: Mapping[str, str]) -> list[str]:
    """Queues every combination of the overrides' values (`key: "3,6"`); returns the experiments' names."""
    printed = dvc("exp", "run", "--queue", *(word for item in overrides.items() for word in ("-S", "=".join(item))))
    return re.findall(r"Queued experiment '([^']+)'", printed)


def wait(names: Sequence[str]) -> list[str]:
    """Starts a worker of the queue and waits, with a bar, until no named experiment is queued or running.

    Interrupting stops the waiting, not the worker (`dvc queue stop` does).

    Returns:
        The names of those that did not succeed.

    Raises:
        InputError: experiments are left and no worker is there.
    """
    dvc("queue", "start")
    idle = 0
    with progress(len(names), "experiments", "run") as bar:
        while True:
            status = dvc("queue", "status")
            states = {name: state for name, state in states_of(status).items() if name in names}
            left = [name for name, state in states.items() if state in ("Queued", "Running")]
            bar.update(len(names) - len(left) - bar.n)
            if not left:
                return [name for name in names if states.get(name) != "Success"]
            idle = idle + 1 if UNSTARTED.search(status) else 0
            if idle >= PATIENCE:
                raise InputError(f"the queue's worker has stopped with {len(left)} experiments left: dvc queue start")
            time.sleep(SECONDS)


def states_of(status: str) -> dict[str, str]:
    """State of each experiment in what `dvc queue status` printed, by name."""
    return {found[1]: found[2] for line in status.splitlines() if (found := TASK.match(line))}


def experiments(revision: str) -> list[Experiment]:
    """All finished experiments that start from a commit, and that commit itself.

    Raises:
        InputError: there is no such commit.
    """
    return parsed(json.loads(dvc("exp", "show", "--json", "--rev", revision)))


def parsed(shown: list[dict[str, Any]]) -> list[Experiment]:
    """The finished runs in what `dvc exp show --json` printed.

    Runs that wait, run or failed are left out: DVC shows with them the scores of the commit they start from.
    """
    rows = []
    for commit in shown:
        if commit["rev"] != "workspace":
            rows.append((commit, True))
            rows += [
                (one["revs"][0] | {"name": one["name"]}, False)
                for one in commit["experiments"] or []
                if (one.get("executor") or {"state": "success"})["state"] == "success"
            ]
    found = []
    for row, committed in rows:
        data = row.get("data") or {}
        metrics = {
            Path(path).stem: flat(content["data"])
            for path, content in (data.get("metrics") or {}).items()
            if content.get("data")
        }
        if "metrics" in metrics:
            params = flat((data["params"].get("params.yaml") or {}).get("data") or {})
            own = {key: value for key, value in params.items() if not key.startswith("plots.")}
            name = row.get("name") or row["rev"][:7]
            found.append(Experiment(name, committed, data.get("timestamp") or "", own, metrics))
    return found


def chosen(runs: Sequence[Experiment], axes: Mapping[str, Sequence[Any]], fixed: Mapping[str, str]) -> list[Experiment]:
    """The experiments of one sweep, the newest of each combination, in the order of their values.

    Args:
        runs: all experiments.
        axes: values by the keys that are swept.
        fixed: settings that every run has, as text, by dotted key.

    Raises:
        InputError: no run has these settings, or runs differ in something that is neither swept nor fixed.
    """
    wanted = {key: yaml.safe_load(text) for key, text in fixed.items()}
    fitting = [
        run
        for run in runs
        if all(run.params.get(key) in values for key, values in axes.items())
        and all(same(run.params.get(key), value) for key, value in wanted.items())
    ]
    if not fitting:
        settings = ", ".join(f"{key}={text}" for key, text in fixed.items()) or "the default settings"
        raise InputError(
            f"no finished experiment of the sweep has {settings}: queue makes them, dvc exp show lists them"
        )
    rest = sorted({key for run in fitting for key in run.params} - set(axes))
    for key in rest:
        values = {json.dumps(run.params.get(key)): None for run in fitting}
        if len(values) > 1:
            choices = " or ".join(f"-S {key}={value}" for value in values)
            raise InputError(f"the experiments differ in {key}, which the sweep holds equal: choose with {choices}")
    order = sorted(fitting, key=lambda run: (not run.committed, run.finished))
    newest = {tuple(run.params[key] for key in axes): run for run in order}
    return [newest[cell] for cell in sorted(newest)]


def same(value: Any, wanted: Any) -> bool:
    """Whether a setting has the value that was written on the command line, where YAML takes 1e-3 for a text."""
    if isinstance(value, float) and isinstance(wanted, str):
        try:
            return value == float(wanted)
        except ValueError:
            return False
    return value == wanted
