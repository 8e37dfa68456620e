"""Windows stand at their head with the centres in them, and the difference is that of the two maps beside it."""

import numpy as np
import pytest

from vitpipe.figures.place import content, draw, place


def test_windows_and_centres_are_those_of_their_head(make, axes_of, texts):
    arrays = make("place")
    figure = place(arrays)
    panels = axes_of(figure)
    for layer, head in np.ndindex(2, 3):
        panel, at = panels[f"layer {layer + 1} head {head + 1}"], (layer, head)
        np.testing.assert_array_equal(panel.images[0].get_array(), arrays["window"][at])
        assert panel.images[0].get_extent() == [-3.5, 3.5, 3.5, -3.5]
        assert panel.images[0].get_clim() == (0, arrays["window"].max())
        [query] = [patch.get_bbox().bounds for patch in panel.patches]
        assert query == (-0.5, -0.5, 1, 1)
        marks = {bool(line.get_markerfacecolor() == "none"): line.get_xydata()[0] for line in panel.lines[1:]
                 if line.get_marker() == "o"}  # fmt: skip
        np.testing.assert_allclose(marks[True], arrays["begun"][at][::-1])
        np.testing.assert_allclose(marks[False], arrays["centre"][at][::-1])
    found = texts(figure).splitlines()
    assert found.count("looks away") == 2
    assert f"width {arrays['width'][1, 1]:.1f} px" in found
    colours = {text.get_text(): text.get_color() for text in figure.texts}
    assert len({colours[f"content {value:.3f}"] for value in arrays["content"].ravel()[::2]}) == 1
    assert colours[f"content {arrays['content'][0, 0]:.3f}"] != colours[f"content {arrays['content'][0, 1]:.3f}"]


def test_the_difference_is_attention_minus_place_in_the_part_around_the_query(make, axes_of, texts):
    arrays = make("place")
    panels, parts = axes_of(content(arrays)), (np.s_[:7, :7], np.s_[2:, :7])
    for i, (name, part) in enumerate(zip(("eye", "mouth"), parts, strict=True)):
        own = np.array(arrays["boxes"][i]) - [0, 12 * i, 0, 12 * i]
        for layer in range(2):
            looks, alone = (arrays[key][i, layer][part] for key in ("attention", "alone"))
            assert min(looks.sum(), alone.sum()) > 0.99
            expected = {"attention": looks, "by place alone": alone, "difference": looks - alone}
            for what, values in expected.items():
                panel = panels[f"{name}: layer {layer + 1} {what}"]
                grey, paint = panel.images
                np.testing.assert_allclose(
                    grey.get_array(), arrays["image"][: 12 * i + 42][12 * i :, :42] @ [0.299, 0.587, 0.114]
                )
                np.testing.assert_allclose(paint.get_array(), values)
                assert panel.patches[0].get_bbox().bounds == (own[0] - 0.5, own[1] - 0.5, 6, 6)
    limits = {panel.images[1].get_clim() for name, panel in panels.items() if name.endswith("difference")}
    most = abs(arrays["attention"] - arrays["alone"]).max()
    assert limits == {(-most, most)}
    assert "7×7 patches" in texts(content(arrays))
    wide = arrays | {"attention": np.full((2, 2, 9, 9), 1 / 81)}
    assert "9×9 patches" in texts(content(wide))


def test_nothing_is_said_to_change_where_nothing_does(make):
    arrays = make("place")
    alike = arrays | {"content": np.zeros((2, 3)), "by_place": np.ones((2, 3))}
    [(name, _, _, caption)] = draw(alike)
    assert name == "place"
    assert "6 of 6 heads look by place" in caption


@pytest.mark.parametrize(
    "shape",
    [{"layers": 1, "heads": 1, "grid": (4, 4)}, {"layers": 14, "heads": 33, "reach": 8}, {"layers": 3, "heads": 16}],
)
def test_sizes(make, shape, texts, inside):
    arrays = make("place", **shape) | {"id": np.array("W" * 99)}
    for figure in (place(arrays), content(arrays)):
        width, height = figure.get_size_inches() * figure.dpi
        assert width < 1300
        assert height < 1700
        assert inside(figure)
    assert ("12 of 14 layers and 16 of 33 heads shown" in texts(place(arrays))) == (shape["layers"] == 14)
    assert ("6 of 14 layers shown" in texts(content(arrays))) == (shape["layers"] == 14)
