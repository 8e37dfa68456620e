"""Puts settings, numbers and figures of this run on one page: reports/index.html."""

import json
from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.files import atomic_file, load_json
    from vitpipe.report.page import build

    page = Path("reports/index.html")
    manifest = load_json(Path("data/packed/manifest.json"), "downsample")
    parts = {part: entry["images"] for part, entry in manifest.items()}
    study = Path("docs/study/worth.json")
    worth = json.loads(study.read_text(encoding="utf-8"))["models"] if study.exists() else []
    html = build(page.parent, settings.model_dump(), parts, worth)
    with atomic_file(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(f"{page}: {len(html) / 1e6:.1f} MB, opens in a browser")


if __name__ == "__main__":
    run(main)
