"""One self-contained page of a run: an explorer of its attention, numbers beside the baselines, settings, figures.

The page knows no task and shows what is there. Measures are whatever `metrics.json` shares with the baselines; a part
of it that has them all, such as `self_ensemble`, is a row of its own; NAME_low and NAME_high are the interval of the
measure NAME; a list of objects, such as `per_class`, is a table of its own. Figures are whatever a stage lists in the
`captions.json` of its folder: {file: {"title": ..., "caption": ...}}.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from vitpipe.errors import InputError
from vitpipe.files import damaged, load_json, read
from vitpipe.report import format as words
from vitpipe.report.embed import explorer, figures
from vitpipe.report.format import is_end, is_number, is_table, rank
from vitpipe.report.worth import worth_of

FILTERS = (
    words.label, words.unit, words.number, words.signed, words.difference, words.interval, words.quantity,
    words.entry, words.setting, words.shade, words.digest, words.region_verdict, words.trust_verdict,
)  # fmt: skip
COUNTS = ("images", "persons")  # of what was scored, the same for all rows
OMITTED = ("deletion_over", "insertion_over")  # measures of faithfulness.json that are not on the page


def build(
    reports: Path, settings: Mapping[str, Any], parts: Mapping[str, int], worth: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The page as HTML: pictures, arrays, style and script embedded, nothing loaded from elsewhere.

    Names of files and classes are escaped, and a Content-Security-Policy lets nothing run but the page's own script.

    Args:
        reports: the folder with metrics.json, baseline.json, attention.json, faithfulness.json, curve.csv,
            figures/, heatmaps/ and, where the model computes attention, explanations/explorer.npz.
        settings: all settings, nested as in params.yaml.
        parts: number of images by part of the split.
        worth: what `make controls` measured, see `worth_of`.

    Raises:
        InputError: a file is missing or damaged; the message names it and the stage that makes it.
    """
    metrics = load_json(reports / "metrics.json", "evaluate")
    baseline = load_json(reports / "baseline.json", "baseline")
    attention = load_json(reports / "attention.json", "explain")
    faithfulness = load_json(reports / "faithfulness.json", "explain")
    curve = load_csv(reports / "curve.csv", "train")
    layers = attention["layers"]  # empty where the model computes no attention
    info, codes = explorer(reports / "explanations/explorer.npz") if layers else ({}, [])
    replaced = {name: losses for name, losses in attention.get("replaced", {}).items() if named(losses)}
    rows = {name: values for name, values in baseline.items() if isinstance(values, dict)}
    rivals = [name for name in rows if name in metrics]
    if not rivals:
        raise InputError(
            f"{reports / 'metrics.json'} holds no numbers of a baseline ({', '.join(rows)}): run evaluate again"
        )
    reference = rivals[-1]  # the one that metrics["gain"] is over
    numbers = {k: v for k, v in metrics.items() if is_number(v) and not is_end(k, metrics)}
    measures = [name for name in sorted(numbers, key=rank) if name in rows[reference] and name not in COUNTS]
    others = {k: v for k, v in metrics.items() if isinstance(v, Mapping) and k not in rows and {*measures} <= {*v}}
    return template().render(
        settings=settings,
        sections={name: flat(values) for name, values in settings.items() if isinstance(values, Mapping)},
        parts=parts,
        explorer=info,
        codes=codes,
        metrics=metrics,
        info={k: v for k, v in numbers.items() if k not in measures},
        measures=measures,
        rivals=rivals,
        reference=reference,
        rows=rows | {"model": metrics} | others,
        tables={k: v for k, v in metrics.items() if is_table(v) and k != "protocol"},
        protocol=metrics.get("protocol", []),
        curve=curve,
        attention=attention,
        attention_means=[name for name in named(attention) if name != "images"],
        layer_means=named(layers[0]) if layers else [],
        worth=worth_of(worth, flat(settings)) if layers else "",
        replaced=replaced,
        replaced_by=named(*replaced.values()),
        faithfulness=faithfulness,
        trusted=named(*map(final, faithfulness["methods"])),
        trials=[final(trial) for kind in ("methods", "controls") for trial in faithfulness[kind]],
        pictures=figures(reports / "figures", "evaluate"),
        heatmaps=figures(reports / "heatmaps", "heatmap"),
    )


def template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vitpipe.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in FILTERS}
    return environment.get_template("page.html")


def load_csv(path: Path, stage: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(read(path, stage).decode().splitlines()))
    if not rows:
        raise damaged(path, stage)
    return rows


def named(*numbers: Mapping[str, Any]) -> list[str]:
    """The measures that at least one of the mappings has, in the order of a table, without ends of intervals."""
    found = [
        name for values in numbers for name, value in values.items() if is_number(value) and not is_end(name, values)
    ]
    return sorted(dict.fromkeys(found), key=rank)


def final(trial: Mapping[str, Any]) -> dict[str, Any]:
    """A method or control of faithfulness.json, with the correlation after the last step of its randomisation."""
    numbers = {name: value for name, value in trial.items() if not name.startswith(OMITTED)}
    if is_table(trial.get("randomised")):
        last = trial["randomised"][-1]
        numbers |= {"randomised": last["correlation"]}
        numbers |= {f"randomised_{end}": last[end] for end in ("low", "high")}
    return numbers


def flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    result: dict[str, Any] = {}
    for key, value in section.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result
