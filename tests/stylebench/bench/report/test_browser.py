"""The page in a browser, as a person opens it: from a disk, without a network."""

import pytest

from stylebench.bench.report.page import render

from .browsing import settled

pytest.importorskip("plotly", reason="the extra 'report' is not installed")

MARKS = ".barlayer .point path, .scatterlayer .points path, .scatterlayer path.js-line"
#: Inputs and buttons that nothing names, pictures without alt, headings that skip a level.
NAMELESS = """() => {
  const faults = [];
  const named = "input, button, a, summary, [role=region], [role=img]";
  for (const each of document.querySelectorAll(named)) {
    const name = each.getAttribute("aria-label") ?? each.textContent.trim();
    if (!name) faults.push(each.outerHTML.slice(0, 120));
  }
  for (const each of document.images) if (!each.alt) faults.push(each.outerHTML.slice(0, 60));
  let level = 0;
  for (const each of document.querySelectorAll("h1, h2, h3, h4")) {
    const own = Number(each.tagName[1]);
    if (own > level + 1) faults.push(`${each.tagName} after H${level}: ${each.textContent}`);
    level = own;
  }
  return faults;
}"""
#: The lowest contrast of a text against what lies behind it, over elements with text of their own.
CONTRAST = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const curve = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const linear = [r, g, b].map((v) => curve(v / 255));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (each) => {
    for (; each; each = each.parentElement) {
      const [r, g, b, a] = numbers(getComputedStyle(each).backgroundColor);
      if (a === undefined || a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  let lowest = [99, ""];
  const worded = "p, a, li, td, button, summary, dt, dd, h2, .good, .bad, .soft";
  for (const each of document.querySelectorAll(worded)) {
    if (each.closest(".stack") || !each.textContent.trim()) continue;
    const [a, b] = [luminance(numbers(getComputedStyle(each).color)), luminance(behind(each))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < lowest[0]) lowest = [ratio, each.outerHTML.slice(0, 80)];
  }
  return lowest;
}"""


@pytest.fixture
def page(desktop):
    return desktop


def test_every_chart_has_marks(page):
    marks = page.eval_on_selector_all(
        ".plot", f"plots => plots.map(plot => [plot.id, plot.querySelectorAll('{MARKS}').length])"
    )
    assert len(marks) == 2 * 8  # a machine's kernels have a chart a size
    assert [name for name, count in marks if not count] == []


def test_nothing_from_a_record_ran(page):
    assert page.evaluate("window.hacked") is None
    assert page.locator("text=window.hacked = true").count() > 0


def test_a_script_that_is_not_the_pages_is_refused(browser, tmp_path):
    """The policy holds even where escaping would fail."""
    tampered = tmp_path / "index.html"
    html = render([], []).replace("<main", "<script>window.hacked = true</script><main", 1)
    tampered.write_text(html)
    page = browser.new_page()
    page.goto(tampered.as_uri())
    assert page.evaluate("window.hacked") is None
    page.close()


def test_the_legend_hides_and_shows_a_line(page):
    button = page.locator("#sizes .legend button").first
    lines = page.locator("#sizes-0 .scatterlayer path.js-line")
    assert lines.count() == 6
    button.press("Enter")
    assert (button.get_attribute("aria-pressed"), lines.count()) == ("false", 5)
    button.click()
    assert (button.get_attribute("aria-pressed"), lines.count()) == ("true", 6)


def test_the_slider_moves_by_pointer_and_by_arrow_keys(page):
    stack = page.locator(".stack").first
    picture, slider = stack.locator(".reference"), stack.locator("input")
    clip = "each => getComputedStyle(each).clipPath"
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20, steps=4)
    page.mouse.up()
    assert slider.input_value() == "25"
    assert picture.evaluate(clip) == "inset(0px 75% 0px 0px)"
    slider.press("ArrowRight")
    assert picture.evaluate(clip) == "inset(0px 74% 0px 0px)"
    slider.press("End")
    assert picture.evaluate(clip) == "inset(0px 0% 0px 0px)"


def test_the_difference_comes_and_goes(page):
    exhibit = page.locator(".exhibit").first
    toggle, difference = exhibit.locator(".toggle"), exhibit.locator(".difference")
    assert not difference.is_visible()
    toggle.press("Space")
    assert difference.is_visible()
    assert toggle.get_attribute("aria-pressed") == "true"
    toggle.press("Space")
    assert not difference.is_visible()


def test_tables_sort_by_click_and_by_key(page):
    page.locator("#speed details summary").click()
    heading = page.locator("#speed th", has_text="it/s")
    index = heading.evaluate("each => each.cellIndex")
    cells = f"rows => rows.map(row => row.cells[{index}].dataset.sort)"

    def order():
        return page.eval_on_selector_all("#speed tbody tr", cells)

    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    *filled, blank = order()
    assert filled == sorted(filled, key=float, reverse=True)
    assert blank is None  # the failed case
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert order() == [*reversed(filled), None]
    engine = page.locator("#speed th", has_text="engine")
    engine.locator("button").press("Space")
    assert engine.get_attribute("aria-sort") == "ascending"
    assert heading.get_attribute("aria-sort") is None


def test_a_figure_leads_to_its_record(page):
    link = page.locator("#headline a").first
    record = page.locator(link.get_attribute("href"))
    assert not record.is_visible()
    link.click()
    record.wait_for(state="visible")
    assert "fused bf16 512x384" in record.inner_text()


@pytest.mark.parametrize(("scheme", "other"), [("light", "dark"), ("dark", "light")])
def test_the_theme_follows_the_system_and_the_button(page, scheme, other):
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#speed-0 .xtick text')).fill"

    def colors():
        """Of the page and of a chart, once the chart has the page's ink."""
        assert settled(page)
        assert page.evaluate(CONTRAST)[0] >= 4.5, page.evaluate(CONTRAST)
        return page.evaluate(f"[{paper}, {ink}]")

    page.emulate_media(color_scheme=scheme)
    page.evaluate("delete document.documentElement.dataset.theme")
    before = colors()
    page.locator("#theme").press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == other
    assert page.locator("#theme").get_attribute("aria-pressed") == str(other == "dark").lower()
    after = colors()
    assert before[0] != after[0]
    assert before[1] != after[1]
    page.evaluate("localStorage.clear()")


def test_everything_has_a_name(page):
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("document.documentElement.lang") == "en"


def test_focus_can_be_seen(page):
    page.locator("#theme").focus()
    page.keyboard.press("Tab")
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) == "solid"


def test_motion_is_reduced_where_that_is_asked_for(page):
    behavior = "getComputedStyle(document.documentElement).scrollBehavior"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(behavior) == "smooth"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(behavior) == "auto"
