"""What the trainings of the quality section come to: content of the json, and its table in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from vitpipe.tasks import supersample

Record = dict[str, Any]
TITLES = {"muon": "Muon", "adamw": "Adam", "sgd": "SGD"}  # AdamW without decay is Adam


def entry(title: str, records: Sequence[Record], bicubic: dict[str, float], score: str = "test") -> dict[str, Any]:
    """The scores of one network on all test images, a row for each seed, and their mean and spread.

    Args:
        bicubic: the scores of bicubic interpolation on the same images.
        score: which of a record's scores are meant.
    """
    seeds = [
        {name: record[name] for name in ("seed", "steps", "images", "seconds")}
        | {"test": record[score], "gain": gain(record[score], bicubic)}
        for record in records
    ]
    spread = {name: mean_and_sd([row["gain"][name] for row in seeds]) for name in ("psnr", "ssim", "mse_ratio")}
    return {"title": title, "parameters": records[0]["parameters"], "gain": spread, "seeds": seeds}


def gain(scores: dict[str, float], bicubic: dict[str, float]) -> dict[str, float]:
    """What a network adds to bicubic: PSNR in dB, SSIM, and the quotient of the mean squared errors."""
    return supersample.gain(scores, bicubic) | {"ssim": round(scores["ssim"] - bicubic["ssim"], 6)}


def mean_and_sd(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation; of a single value the latter is None."""
    return {"mean": round(fmean(values), 6), "sd": round(stdev(values), 6) if len(values) > 1 else None}


def curve(records: Sequence[Record], bicubic: Mapping[str, float]) -> list[dict[str, float]]:
    """Gain in test PSNR over bicubic against seconds of training: mean, least and most of the seeds.

    Args:
        bicubic: its scores on the images that curves are measured on.
    """
    rows = []
    for points in zip(*(record["points"] for record in records), strict=False):  # a slow step may swallow a point
        gains = [point["test"]["psnr"] - bicubic["psnr"] for point in points]
        seconds = fmean(point["seconds"] for point in points)
        row = {"seconds": seconds, "psnr": fmean(gains), "least": min(gains), "most": max(gains)}
        rows.append({name: round(value, 4) for name, value in row.items()})
    return rows


def markdown(content: Mapping[str, Any]) -> str:
    """The section's text and table."""
    networks, images, bicubic = content["networks"], content["images"], content["bicubic"]
    where = f" on one {content['gpu']}" if "gpu" in content else ""
    trained = {name: one for name, one in networks.items() if "curve" in one}
    ranked = sorted(trained, key=lambda name: -trained[name]["gain"]["psnr"]["mean"])
    seeds = max(len(one["seeds"]) for one in trained.values())
    lines = [
        f"Each network was trained for {content['minutes']:g} minutes{where} in {content['precision']} on the same "
        f"{images['train']:,} images of {content['data']}, no person in two parts. Scores are means over "
        f"{images['test']:,} test images, where bicubic has {bicubic['psnr']:.2f} dB and SSIM {bicubic['ssim']:.4f}; "
        + (f"± is the standard deviation between {seeds} seeds. " if seeds > 1 else "one seed. ")
        + f"Variant and learning rate of each were chosen on {content['curve_images']} validation images after "
        f"trainings of {content['choice_minutes']:g} minutes; those within {content['level']:g} dB of the best there "
        "were compared after whole trainings with seed 0. Then all were trained side by side with each seed, in turns "
        f"of {content['turn']:g} seconds, so that what slows the machine slows them all. Trainings that earlier "
        "commands had stored in reports/benchmarks count; the duration behind the command is without theirs.",
        "",
        "Gain in PSNR over bicubic in dB: of one pass, of the mean with the prediction for the mirrored image (two "
        "passes), and of one pass made consistent with the input afterwards, which ours is by itself.",
        "",
        "| network | one pass | with the mirrored | made consistent | gain in SSIM | MSE / bicubic's | parameters "
        "| images seen | variant | training | learning rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [table_row(networks, name) for name in ranked]
    figure = "![Gain in PSNR over bicubic against minutes of training](benchmarks/quality.png)"
    return "\n".join([*lines, "", *lead(networks), "", figure]) + "\n"


def table_row(networks: Mapping[str, Any], name: str) -> str:
    one = networks[name]
    gains = one["gain"]
    beside = [networks.get(f"{name}-{kind}") for kind in ("mirrored", "consistent")]
    training = [TITLES[one["optimizer"]], f"{one['loss']} loss", f"batch {one['batch']}"]
    training += [f"crop {one['crop']}"] if one["crop"] else []
    training += [f"decay {one['weight_decay']:g}"] if one["weight_decay"] else []
    cells = [
        one["title"],
        with_sd(gains["psnr"], "+.3f", ".3f"),
        *(with_sd(other["gain"]["psnr"], "+.3f", ".3f") if other else "" for other in beside),
        with_sd(gains["ssim"], "+.4f", ".4f"),
        with_sd(gains["mse_ratio"], ".3f", ".3f"),
        f"{one['parameters']:,}",
        f"{fmean(row['images'] for row in one['seeds']):,.0f}",
        one["variant"],
        ", ".join(training),
        f"{one['lr']:g}",
    ]
    return f"| {' | '.join(cells)} |"


def with_sd(value: Mapping[str, float | None], mean: str, sd: str) -> str:
    text = f"{value['mean']:{mean}}".replace("-", "−")
    return text if value["sd"] is None else f"{text} ± {value['sd']:{sd}}"


def lead(networks: Mapping[str, Any]) -> list[str]:
    """How far ours is before or behind the best other network, seed by seed, like beside like: in one pass over an
    image, and averaged with the mirrored prediction where there are all others', too; with several seeds the mean and
    the standard deviation of these differences. Nothing where there is no such pair."""
    lines = []
    for ours, averaged in (("ours", False), ("ours-mirrored", True)):
        others = {name: one for name, one in networks.items() if not name.startswith("ours")}
        alike = [one for name, one in others.items() if name.endswith("-mirrored") == averaged]
        trained = [name for name, one in others.items() if "curve" in one]
        if ours not in networks or not alike or (averaged and len(alike) < len(trained)):
            continue
        peer = max(alike, key=lambda one: one["gain"]["psnr"]["mean"])
        its = {row["seed"]: row["gain"]["psnr"] for row in peer["seeds"]}
        pairs = [(row["gain"]["psnr"], its[row["seed"]]) for row in networks[ours]["seeds"] if row["seed"] in its]
        gaps = [mine - other for mine, other in pairs]
        if gaps:
            own = "Ours, mean with the mirrored prediction," if averaged else "Ours"
            each = ", ".join(f"{gap:+.3f}" for gap in gaps).replace("-", "−")
            mean = f"; mean {with_sd(mean_and_sd(gaps), '+.3f', '.3f')}" if len(gaps) > 1 else ""
            lines += [f"{own} less the best other network, {peer['title']}, seed by seed: {each} dB{mean}.", ""]
    return lines[:-1]
