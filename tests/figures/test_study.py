"""The study's figure shows every run, mean and interval where its table has it."""

import numpy as np
import pandas as pd
import pytest

from vitpipe.figures.study import PANELS, apart, study
from vitpipe.figures.style import save

NOTE = "16 runs, 2 seeds; faces, 60 images"


def made(patches=(3, 6), heads=(4, 8, 16, 32), seeds=2) -> tuple[pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(0)
    runs = pd.DataFrame([{"patch": p, "heads": h, "seed": s} for p in patches for h in heads for s in range(seeds)])
    for measure, high in (("gain", 5), ("diversity", 1), ("eyes_lift", 3), ("distance", 25)):
        runs[measure] = random.uniform(0.5 * high, high, len(runs))
    runs["distance_uniform"] = 24 + runs.patch / 10
    means = runs.melt(["patch", "heads"], list(PANELS), "measure").groupby(["measure", "patch", "heads"]).value
    cells = pd.DataFrame({"mean": means.mean(), "low": means.min() - 0.02, "high": means.max() + 0.02}).reset_index()
    if seeds == 1:
        cells[["low", "high"]] = np.nan
    return runs, cells


def panel(figure, measure: str):
    return next(axes for axes in figure.axes if axes.get_label() == measure)


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines}


@pytest.mark.parametrize("measure", PANELS)
def test_runs_means_and_intervals_stand_at_their_heads(measure):
    runs, cells = made()
    axes = panel(study(runs, cells, NOTE), measure)
    bars = [np.array(collection.get_segments()) for collection in axes.collections]
    for i, patch in enumerate((3, 6)):
        own = cells[(cells.measure == measure) & (cells.patch == patch)]
        mean = lines(axes)[f"patch {patch}"]
        np.testing.assert_allclose(mean[:, 1], own["mean"])
        np.testing.assert_allclose(mean[:, 0], np.log2([4, 8, 16, 32]), atol=0.2)
        np.testing.assert_allclose(bars[i][:, :, 1], own[["low", "high"]])
        np.testing.assert_allclose(bars[i][:, 0, 0], mean[:, 0])
        dots = lines(axes)[f"runs {patch}"]
        group = runs[runs.patch == patch]
        np.testing.assert_allclose(dots[:, 1], group[measure])
        np.testing.assert_allclose(dots[:, 0], np.log2(group.heads), atol=0.2)
    low, high = axes.get_ylim()
    assert low <= min(runs[measure])
    assert high >= max(runs[measure])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["4", "8", "16", "32"]


def test_patches_have_their_own_colour_and_name():
    axes = panel(study(*made(), NOTE), "gain")
    names = {text.get_text(): text.get_color() for text in axes.texts}
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    assert set(names) == {"patch 3", "patch 6"}
    assert names["patch 3"] == colours["patch 3"] == colours["runs 3"] != names["patch 6"] == colours["patch 6"]


def test_reference_lines():
    figure = study(*made(), NOTE)
    dashed = {
        measure: sorted(line.get_ydata()[0] for line in panel(figure, measure).lines if line.get_linestyle() == "--")
        for measure in PANELS
    }
    assert dashed["eyes_lift"] == [1]
    np.testing.assert_allclose(dashed["distance"], [24.3, 24.6])
    assert dashed["gain"] == dashed["diversity"] == []
    for measure, levels in dashed.items():
        low, high = panel(figure, measure).get_ylim()
        assert all(low < level < high for level in levels)


def test_diversity_has_its_whole_range():
    assert panel(study(*made(), NOTE), "diversity").get_ylim() == (0, 1)


def test_what_was_not_measured_is_said():
    runs, cells = made()
    runs["eyes_lift"] = np.nan
    cells.loc[cells.measure == "eyes_lift", ["mean", "low", "high"]] = np.nan
    figure = study(runs, cells, NOTE)
    assert [text.get_text() for text in panel(figure, "eyes_lift").texts] == ["not measured"]
    assert not panel(figure, "eyes_lift").lines
    assert len(panel(figure, "gain").lines) == 4


@pytest.mark.parametrize(("patches", "heads", "seeds"), [((3,), (8,), 1), ((3, 6), (4, 8), 1), ((3, 6), (2, 64), 4)])
def test_small_sweeps_are_drawn_within_the_figure(patches, heads, seeds, tmp_path):
    figure = study(*made(patches, heads, seeds), NOTE)
    save(figure, tmp_path / "a.png")
    width, height = figure.get_size_inches() * figure.dpi
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    boxes = [text.get_window_extent() for text in texts]
    assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)
    assert any(NOTE in text.get_text() for text in figure.texts)


def test_names_at_the_ends_of_lines_do_not_overlap():
    assert apart([1.0, 2.0], 0.5) == [1.0, 2.0]
    assert apart([1.0], 0.5) == [1.0]
    assert apart([1.1, 1.0], 0.5) == pytest.approx([1.3, 0.8])
    assert apart([1.0, 1.1], 0.5) == pytest.approx([0.8, 1.3])


def test_the_figure_is_the_same_every_time(tmp_path):
    for name in "ab":
        save(study(*made(), NOTE), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
