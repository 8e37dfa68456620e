"""What studies share: experiments through DVC, and means over seeds with their intervals."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, run
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from scipy.stats import sem, t

from vitpipe.errors import InputError

Run = list[dict[str, Any]]  # settings by dotted key, metrics as FILE.key


def dvc(*arguments: str, shown: bool = False) -> str:
    """Runs DVC with this Python; returns its output unless that is shown. Raises InputError if it fails."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = run([sys.executable, "-m", "dvc", *arguments], env=env, stdout=None if shown else PIPE, text=True)
    if done.returncode:
        raise InputError(f"dvc {' '.join(arguments[:2])} failed, see above")
    return done.stdout or ""


def run_queued(names: Sequence[str], jobs: int = 1) -> None:
    """Runs what is queued. Raises InputError if one of the named experiments fails."""
    dvc("exp", "run", "--run-all", "--jobs", str(jobs), shown=True)
    done = {words[1] for line in dvc("queue", "status").splitlines() if (words := line.split())[-1:] == ["Success"]}
    if failed := [name for name in names if name not in done]:
        raise InputError(f"experiments failed: {', '.join(failed)} (dvc queue logs {failed[0]} says why)")


def queued(overrides: Sequence[str], target: str | None = None) -> list[str]:
    """Queues all combinations of the overrides' values, up to a stage; returns the names of the experiments."""
    words = [word for text in overrides for word in ("-S", text)] + ([target] if target else [])
    return re.findall("Queued experiment '([^']+)'", dvc("exp", "run", "--queue", *words))


def parse(text: str) -> Any:
    """The value of a setting, read as DVC and Hydra read it."""
    return OmegaConf.from_dotlist([f"value={text}"]).value


def finished(shown: list[dict[str, Any]]) -> list[Run]:
    """The finished runs in what `dvc exp show --json` printed, oldest first; commits come before experiments."""
    rows = []
    for commit in (one for one in shown if one["rev"] != "workspace"):
        rows.append((0, commit["data"] or {}))
        for one in commit["experiments"] or []:
            if (one.get("executor") or {"state": "success"})["state"] == "success":  # others show the commit's scores
                rows.append((1, one["revs"][0].get("data") or {}))
    found = []
    for _, data in sorted(rows, key=lambda row: (row[0], row[1].get("timestamp") or "")):
        metrics = {Path(path).stem: one.get("data") or {} for path, one in (data.get("metrics") or {}).items()}
        if metrics.get("metrics"):
            settings = {k: v for k, v in data["params"]["params.yaml"]["data"].items() if k not in ("plots", "dvc")}
            found.append([pd.json_normalize(part).astype(object).iloc[0].to_dict() for part in (settings, metrics)])
    return found


def interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; nan where there are too few values."""
    known = values.dropna()
    half = t.ppf(0.975, len(known) - 1) * sem(known) if len(known) > 1 else np.nan
    return known.mean(), known.mean() - half, known.mean() + half


def written(values: pd.Series, decimals: int) -> str:
    """`4.41 (4.30 to 4.52)`, the mean alone without an interval, a dash without a value."""
    mean, low, high = (f"{round(number, decimals) + 0.0:.{decimals}f}".replace("-", "−") for number in interval(values))
    return "–" if mean == "nan" else mean if low == "nan" else f"{mean} ({low} to {high})"


def lines(frame: pd.DataFrame) -> list[str]:
    """An empty line and a Markdown table, numbers to the right."""
    plain = frame.reset_index()
    return ["", *(f"| {' | '.join(map(str, row))} |" for row in [plain, ["--:"] * plain.shape[1], *plain.to_numpy()])]
