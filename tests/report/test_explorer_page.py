"""The explorer in a real browser: pointer, keys and touch do what they say, and what is shown is in the arrays."""

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from vitpipe.report.page import build

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: make setup installs it")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed")
SETTINGS = {"recipe": "trial", "seed": 7, "data": {"name": "faces"}, "task": {"name": "supersample"}}
ALL, MEAN = None, None  # all patches as queries; all heads
COMPARED = ("bicubic", "model", "original")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        found.close()


@pytest.fixture
def visit(browser, reports_of, tmp_path) -> Iterator[Callable[..., Any]]:
    """Opens the page of some arrays from disk; afterwards holds that nothing was asked for but it, and no error."""
    asked: list[str] = []
    wrong: list[str] = []
    contexts = []

    def opened(arrays: dict[str, np.ndarray], *, script: str = "", **options: Any) -> Any:
        reports = reports_of(tmp_path, arrays)
        file = reports / "index.html"
        file.write_text(build(reports, SETTINGS, {"test": 3}), encoding="utf-8")
        contexts.append(browser.new_context(**{"viewport": {"width": 1400, "height": 1000}} | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.add_init_script(script)
        page.goto(file.as_uri())
        if not script:
            page.wait_for_selector("#explorer[data-sample='0']")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)
    assert wrong == []


def row(arrays: dict[str, np.ndarray], sample: int, layer: int, head: int | None, query: int | None) -> np.ndarray:
    """Decoded attention of a query to all tokens; mean over heads, or patches as queries, where these are None."""
    weights = arrays["values"].astype(np.float64)[arrays["codes"][sample, layer]]  # h n n
    of_head = weights.mean(0) if head is MEAN else weights[head]
    return of_head[int(arrays["prefix_tokens"]) :].mean(0) if query is ALL else of_head[query]


def told(weight: float, tokens: int) -> str:
    def digits(value: float) -> str:
        return "0" if value == 0 else "< 0.001" if value < 0.001 else f"{value:#.3g}".rstrip(".")

    return f"{digits(100 * weight)} % · {digits(weight * tokens)}×"


def place(arrays: dict[str, np.ndarray], token: int) -> str:
    patch, columns = token - int(arrays["prefix_tokens"]), int(arrays["grid"][1])
    if patch < 0:
        return f"register {token}" if token else "class token"
    return f"row {patch // columns + 1}, column {patch % columns + 1}"


def shown(page: Any, name: str) -> str:
    return page.locator(f"#{name}").inner_text()


def spot(page: Any, arrays: dict[str, np.ndarray], token: int) -> dict[str, float]:
    """Centre of a patch within the picture."""
    box, (rows, columns) = page.locator("#surface").bounding_box(), arrays["grid"].tolist()
    row, column = divmod(token - int(arrays["prefix_tokens"]), columns)
    return {"x": (column + 0.5) * box["width"] / columns, "y": (row + 0.5) * box["height"] / rows}


def click(page: Any, arrays: dict[str, np.ndarray], token: int) -> None:
    page.locator("#surface").click(position=spot(page, arrays, token))


def hover(page: Any, arrays: dict[str, np.ndarray], token: int) -> None:
    page.locator("#surface").hover(position=spot(page, arrays, token))


def check(page: Any, arrays: dict[str, np.ndarray], sample: int, layer: int, head: int | None, query: int) -> None:
    """All that is said of a query is what the arrays hold."""
    weights = row(arrays, sample, layer, head, query)
    tokens = len(weights)
    ordered = np.sort(weights)[::-1].cumsum()
    count = int((ordered < weights.sum() / 2).sum()) + 1
    most = int(weights.argmax())
    assert shown(page, "at-query") == place(arrays, query)
    assert shown(page, "to-self") == told(weights[query], tokens)
    assert shown(page, "to-most") == f"{place(arrays, most)}: {told(weights[most], tokens)}"
    assert shown(page, "to-half").startswith(f"{count} of {tokens} ")
    name = f"mean of {arrays['heads']} heads" if head is MEAN else f"head {head + 1}"
    assert shown(page, "shown") == f"Layer {layer + 1}, {name} · {place(arrays, query)}"
    pressed = page.locator(".tile[aria-pressed=true]")
    assert pressed.count() == 1
    assert pressed.get_attribute("aria-label") == f"Layer {layer + 1}, {name}"


def pixels(page: Any, selector: str) -> np.ndarray:
    """(rows, columns, 4) of a canvas, or of a picture drawn on one."""
    size, values = page.evaluate(
        """(selector) => {
          const found = document.querySelector(selector);
          let canvas = found;
          if (found.tagName === "IMG") {
            canvas = document.createElement("canvas");
            canvas.width = found.naturalWidth;
            canvas.height = found.naturalHeight;
            canvas.getContext("2d").drawImage(found, 0, 0);
          }
          const { width, height } = canvas;
          return [[height, width, 4], [...canvas.getContext("2d").getImageData(0, 0, width, height).data]];
        }""",
        selector,
    )
    return np.array(values, np.uint8).reshape(size)


def lightness(page: Any, selector: str) -> np.ndarray:
    """(rows, columns), from 0 to 255, of a map on the ground of a grid."""
    painted = pixels(page, selector).astype(float)
    alpha = painted[..., 3:] / 255
    return ((1 - alpha) * np.array([89, 97, 105]) + alpha * painted[..., :3]) @ [0.2126, 0.7152, 0.0722]


def test_numbers_of_clicked_patches_are_those_of_the_arrays(visit, supersampled):
    page = visit(supersampled)
    check(page, supersampled, 0, 0, MEAN, 10)
    for sample, layer, head, query in ((0, 0, 3, 0), (2, 1, 5, 15), (1, 1, MEAN, 6), (1, 0, 0, 3)):
        page.get_by_role("button", name=f"Image {sample + 1} of 3").click()
        page.wait_for_selector(f"#explorer[data-sample='{sample}']")
        page.get_by_label(
            f"Layer {layer + 1}, {'mean' if head is MEAN else f'head {head + 1}'}", exact=False
        ).first.click()
        click(page, supersampled, query)
        check(page, supersampled, sample, layer, head, query)
    assert page.locator(".tile").count() == 2 * 7


def test_pointing_reads_held_query_and_else_moves_it(visit, supersampled):
    page = visit(supersampled)
    hover(page, supersampled, 5)
    check(page, supersampled, 0, 0, MEAN, 5)
    assert shown(page, "to-pointed") == "–"
    page.mouse.move(2, 2)
    check(page, supersampled, 0, 0, MEAN, 10)  # as before pointing
    click(page, supersampled, 5)
    page.locator(".tile").nth(9).click()  # layer 2: mean, then heads
    hover(page, supersampled, 14)
    check(page, supersampled, 0, 1, 1, 5)
    assert shown(page, "at-pointed") == "to row 4, column 3"
    assert shown(page, "to-pointed") == told(row(supersampled, 0, 1, 1, 5)[14], 16)
    click(page, supersampled, 5)  # releases
    hover(page, supersampled, 2)
    check(page, supersampled, 0, 1, 1, 2)


def test_all_patches_are_the_mean_of_all_queries(visit, supersampled):
    page = visit(supersampled)
    page.get_by_role("button", name="all patches").click()
    for tile, head in ((0, MEAN), (4, 3)):
        page.locator(".tile").nth(tile).click()
        weights = row(supersampled, 0, 0, head, ALL)
        own = np.mean([row(supersampled, 0, 0, head, query)[query] for query in range(16)])
        assert shown(page, "to-self") == told(own, 16)
        assert shown(page, "to-most") == f"{place(supersampled, weights.argmax())}: {told(weights.max(), 16)}"
        hover(page, supersampled, 7)
        assert shown(page, "to-pointed") == told(weights[7], 16)
    assert page.locator("#query-box").is_hidden()


def test_colours_grow_lighter_with_attention_on_one_scale(visit, supersampled):
    page = visit(supersampled)
    maps = [(0, 0), (0, 3), (1, 1)]
    ratios, shades = [], []
    for layer, head in maps:
        page.locator(".tile").nth(7 * layer + head + 1).click()
        np.testing.assert_array_equal(
            pixels(page, f".layer:nth-child({layer + 1}) .tile:nth-of-type({head + 2}) canvas"), pixels(page, "#map")
        )
        shades.append(lightness(page, "#map").ravel())
        ratios.append(16 * row(supersampled, 0, layer, head, 10))
    ratio, light = np.concatenate(ratios), np.concatenate(shades)
    order = np.argsort(ratio)
    assert (np.diff(light[order]) > -1.5).all()  # alike but for rounding to whole levels
    assert light[order][-1] - light[order][0] > 100
    beyond = ratio[ratio < 1 / 16]
    assert len(beyond) > 1
    assert np.ptp(light[ratio < 1 / 17]) < 1e-9
    assert page.locator("#ticks span").all_inner_texts() == ["1/16×", "1/4×", "1×", "4×", "16×"]
    assert "where 1× is 6.25 %" in page.locator(".legend").inner_text()


def test_keys(visit, supersampled):
    page = visit(supersampled)
    surface, keys = page.locator("#surface"), page.keyboard
    surface.focus()
    assert "none" not in surface.evaluate("element => getComputedStyle(element).outlineStyle")
    for key, token in (("ArrowRight", 11), ("ArrowRight", 11), ("ArrowUp", 7), ("ArrowLeft", 6), ("ArrowDown", 10)):
        keys.press(key)
        check(page, supersampled, 0, 0, MEAN, token)
    keys.press("Shift+ArrowUp")
    keys.press("Shift+ArrowLeft")
    assert shown(page, "at-pointed") == "to row 2, column 2"
    assert shown(page, "to-pointed") == told(row(supersampled, 0, 0, MEAN, 10)[5], 16)
    assert "to row 2, column 2" in page.locator("#told").text_content()
    keys.press("Escape")
    assert shown(page, "to-pointed") == "–"
    layer, head = 0, -1  # -1: mean
    for key, down, right in (
        ("]", 0, 1),
        ("]", 0, 1),
        ("h", 0, 1),
        ("H", 0, -1),
        ("[", 0, -1),
        ("}", 1, 0),
        ("l", -1, 0),
        ("{", 1, 0),
        ("L", -1, 0),
    ):
        keys.press(key)
        layer, head = layer + down, head + right
        check(page, supersampled, 0, layer, head, 10)
    keys.press("[")
    keys.press("[")
    check(page, supersampled, 0, 0, 5, 10)  # round to the last head
    keys.press("m")
    check(page, supersampled, 0, 0, MEAN, 10)
    keys.press("p")
    page.wait_for_selector("#explorer[data-sample='2']")
    check(page, supersampled, 2, 0, MEAN, 10)
    keys.press("n")
    page.wait_for_selector("#explorer[data-sample='0']")
    keys.press("g")
    assert page.locator("#base").is_hidden()
    assert page.get_by_label("as a grid").is_checked()
    keys.press("g")
    assert page.locator("#base").is_visible()
    keys.press("a")
    assert shown(page, "at-query") == "all patches, mean"
    keys.press("Control+h")
    assert page.locator(".tile[aria-pressed=true]").get_attribute("aria-label").startswith("Layer 1, mean")


def test_tab_reaches_everything(visit, supersampled):
    page = visit(supersampled)
    name = (
        "(({ id, value, textContent, ariaLabel }) => ariaLabel || id || textContent || value)(document.activeElement)"
    )
    names = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        names.add(page.evaluate(name))
    wanted = {
        "Image 3 of 3, <2>.png",
        "surface",
        "Layer 2, head 6",
        "Border between bicubic and model",
        "Border between model and original",
        "Keys and notes",
    }
    assert wanted <= names


def test_pictures_are_the_arrays(visit, supersampled):
    page = visit(supersampled)
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Image 2 of 3").click()
    page.wait_for_selector("#explorer[data-sample='1']")
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    for selector, name in [("#base", "original"), *((f"#compare img[alt={name}]", name) for name in COMPARED)]:
        np.testing.assert_array_equal(pixels(page, selector)[..., :3], supersampled[f"picture_{name}"][1])
    page.get_by_label("on input").check()
    page.wait_for_function(
        "document.querySelector('#base').complete && document.querySelector('#base').naturalWidth === 8"
    )
    np.testing.assert_array_equal(pixels(page, "#base")[..., :3], supersampled["picture_input"][1])
    assert page.locator(".outcome .readout dd").all_inner_texts() == ["21.50 dB", "31.75 dB"]


def borders(page: Any) -> list[int]:
    return [int(handle.get_attribute("aria-valuenow")) for handle in page.locator(".handle").all()]


def clips(page: Any) -> list[str]:
    images = [page.locator(f"#compare img[alt={name}]") for name in COMPARED]
    return [image.evaluate("element => element.style.clipPath") for image in images]


def test_comparison_by_pointer_buttons_and_keys(visit, supersampled):
    page = visit(supersampled)
    assert borders(page) == [33, 67]
    assert clips(page) == ["", "inset(0px 33%)", "inset(0px 0% 0px 67%)"]
    box = page.locator("#compare").bounding_box()

    def drag(start: float, end: float) -> None:
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + start * box["width"], middle)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], middle, steps=3)
        page.mouse.up()
        page.mouse.move(box["x"], middle)  # no longer held

    drag(0.33, 0.5)
    assert borders(page) == [50, 67]
    drag(0.67, 0.25)  # takes the other along
    assert borders(page) == [25, 25]
    drag(0.25, 0.75)  # both lie there: the way it goes decides
    assert borders(page) == [25, 75]
    for start, end, expected in (
        (0.75, 0.2, [20, 20]),
        (0.6, 0.6, [20, 60]),
        (0.2, 0.9, [90, 90]),
        (0.5, 0.5, [50, 90]),
    ):
        drag(start, end)
        assert borders(page) == expected
    for name, expected in (("bicubic", [100, 100]), ("original", [0, 0]), ("model", [0, 100])):
        button = page.locator(".outcome button", has_text=name)
        button.click()
        assert borders(page) == expected
        assert button.get_attribute("aria-pressed") == "true"
        assert page.locator(".tag:visible").all_inner_texts() == [name]
    page.locator(".handle").last.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageDown")
    assert borders(page) == [0, 88]
    page.keyboard.press("Home")
    assert borders(page) == [0, 0]
    page.locator(".handle").first.focus()
    page.keyboard.press("ArrowRight")
    assert borders(page) == [2, 2]
    assert page.locator(".handle").first.get_attribute("aria-valuetext") == "bicubic up to 2 %"


def test_classification_starts_with_the_class_token(visit, classified):
    page = visit(classified)
    check(page, classified, 0, 1, MEAN, 0)  # the last layer is what the head reads
    button = page.get_by_role("button", name="class token")
    assert button.get_attribute("aria-pressed") == "true"
    assert shown(page, "says") == "The model says dog"
    assert shown(page, "truth") == "Right, with a probability of 70.0 %."
    assert page.locator("#bars > div").all_inner_texts() == ["dog ✓\n70.0 %", "<cat>\n20.0 %", "owl\n10.0 %"]
    page.get_by_role("button", name="Image 2 of 2").click()
    page.wait_for_selector("#explorer[data-sample='1']")
    assert [shown(page, "says"), shown(page, "truth")] == ["The model says owl", "Wrong: it is <cat>."]
    assert page.locator("#bars .said").inner_text() == "owl\n55.0 %"
    hover(page, classified, 9)
    check(page, classified, 1, 1, MEAN, 9)
    assert shown(page, "to-token-0") == told(row(classified, 1, 1, MEAN, 9)[0], 10)
    assert button.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Tab")
    button.click()
    hover(page, classified, 4)
    check(page, classified, 1, 1, MEAN, 0)
    assert shown(page, "to-pointed") == told(row(classified, 1, 1, MEAN, 0)[4], 10)
    click(page, classified, 4)
    page.keyboard.press("t")
    check(page, classified, 1, 1, MEAN, 0)
    np.testing.assert_array_equal(pixels(page, "#base")[..., :3], classified["picture_input"][1])
    assert page.locator("#compare").count() == 0


def test_registers_and_grids_that_are_not_square(visit, mixed):
    page = visit(mixed)
    box = page.locator("#surface").bounding_box()
    assert box["width"] == pytest.approx(1.5 * box["height"], abs=1)
    assert page.locator(".chip").all_inner_texts() == ["class token", "register 1"]
    for token in (2, 4, 5, 7):
        click(page, mixed, token)
        order = np.argsort(row(mixed, 0, 1, MEAN, token)[2:])
        assert lightness(page, "#map").shape == (2, 3)
        assert (np.diff(lightness(page, "#map").ravel()[order]) > -1.5).all()
        check(page, mixed, 0, 1, MEAN, token)
        assert shown(page, "to-token-1") == told(row(mixed, 0, 1, MEAN, token)[1], 8)
    for key, token in (("ArrowRight", 7), ("ArrowUp", 4), ("ArrowUp", 4), ("ArrowLeft", 3)):
        page.keyboard.press(key)
        check(page, mixed, 0, 1, MEAN, token)
    page.get_by_role("button", name="register 1").click()
    check(page, mixed, 0, 1, MEAN, 1)
    hover(page, mixed, 7)
    assert shown(page, "to-pointed") == told(row(mixed, 0, 1, MEAN, 1)[7], 8)
    page.locator("#surface").focus()
    page.keyboard.press("ArrowUp")
    check(page, mixed, 0, 1, MEAN, 6)  # from a token without a place to the middle
    assert shown(page, "says") == "The model says dog"
    np.testing.assert_array_equal(pixels(page, "#compare img")[..., :3], mixed["picture_model"][0])
    assert page.locator(".handle").count() == 0


def test_touch_on_a_narrow_screen(visit, supersampled):
    page = visit(supersampled, viewport={"width": 380, "height": 800}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.locator("#surface").tap(position=spot(page, supersampled, 3))
    check_held(page, supersampled, 3)
    page.locator(".tile").nth(8).tap()
    page.locator("#surface").tap(position=spot(page, supersampled, 12))
    assert shown(page, "to-self") == told(row(supersampled, 0, 1, 0, 12)[12], 16)
    page.locator(".outcome button", has_text="model").tap()
    assert borders(page) == [0, 100]
    page.locator("#compare").tap(position={"x": 100, "y": 50})
    assert borders(page) != [0, 100]


def test_finger_reads_as_it_is_dragged(visit, supersampled):
    page = visit(supersampled, viewport={"width": 380, "height": 800}, has_touch=True, is_mobile=True)
    surface = page.locator("#surface")
    box = surface.bounding_box()

    def move(event: str, token: int) -> None:
        at = spot(page, supersampled, token)
        place = {"clientX": box["x"] + at["x"], "clientY": box["y"] + at["y"], "bubbles": True}
        surface.dispatch_event(event, {"pointerType": "touch", **place})

    move("pointermove", 6)
    move("pointerleave", 6)
    check_held(page, supersampled, 6)
    move("pointermove", 9)
    move("pointerleave", 9)
    check_held(page, supersampled, 6)
    assert shown(page, "to-pointed") == told(row(supersampled, 0, 0, MEAN, 6)[9], 16)


def check_held(page: Any, arrays: dict[str, np.ndarray], token: int) -> None:
    assert shown(page, "at-query") == place(arrays, token)
    assert shown(page, "held").startswith("The query is held")


@pytest.mark.parametrize(("scheme", "ground"), [("light", (255, 255, 255)), ("dark", (20, 23, 27))])
def test_light_and_dark(visit, supersampled, scheme, ground):
    page = visit(supersampled, color_scheme=scheme, viewport={"width": 1600, "height": 900})
    style = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    background, ink = (tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in style)
    assert background == ground
    assert abs(sum(background) - sum(ink)) > 500
    columns = [page.locator(f".{name}").bounding_box() for name in ("look", "maps", "outcome")]
    assert len({round(column["y"]) for column in columns}) == 1  # side by side


def test_means_over_heads_are_called_so(visit, supersampled):
    arrays = supersampled | {"codes": supersampled["codes"][:, :, :1], "averaged": np.array(True)}
    page = visit(arrays)
    assert page.locator(".tile").count() == 2
    assert "means over the 6 heads" in page.locator(".panel.maps").inner_text()
    page.locator("#surface").focus()
    page.keyboard.press("]")
    check(page, arrays, 0, 0, MEAN, 10)
    assert shown(page, "to-self") == told(row(arrays, 0, 0, 0, 10)[10], 16)


def test_old_browser_is_told(visit, supersampled):
    page = visit(supersampled, script="delete window.DecompressionStream")
    assert "too old" in page.get_by_role("alert").inner_text()


BAD = """</script><script>window.ran=1</script><img src=x onerror="window.ran=1"><b id=bad>'"&"""


def test_html_in_names_of_files_and_classes_is_text(visit, classified):
    names = np.array([f"{BAD}{name}" for name in classified["classes"]])
    renamed = {"ids": np.array([f"{BAD}{i}.png" for i in range(2)]), "classes": names, "actual": names[[1, 0]]}
    page = visit(classified | renamed)
    page.locator("#thumbs button").nth(1).click()
    page.wait_for_selector("#explorer[data-sample='1']")
    assert page.evaluate("[window.ran ?? null, document.querySelector('#bad')]") == [None, None]
    assert names[0] in page.locator("#truth").inner_text() + page.locator("#bars").inner_text()
