"""How tests open the page: in a headless Chromium, as a person would, from a disk."""

from contextlib import contextmanager

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}

#: Words that the edge of their chart cuts off.
CUT = """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
  const box = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("text")].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.width && (own.right > box.right + 1 || own.left < box.left - 1);
  }).map((text) => `${plot.id}: ${text.textContent}`);
})"""
#: Whether a chart has the page's ink.
INKED = """() => getComputedStyle(document.querySelector("#speed-0 .xtick text")).fill
  === getComputedStyle(document.body).color"""


def settled(page):
    """Whether charts get the page's ink in a few seconds.

    Not playwright's own waiting, which evaluates strings, as the page's policy forbids.
    """
    for _ in range(200):
        if page.evaluate(INKED):
            return True
        page.wait_for_timeout(25)
    return False


@contextmanager
def opened(browser, address, **media):
    """A page that has drawn its charts; fails for what it said on the console or asked for."""
    page = browser.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.set_viewport_size(media.pop("size", DESKTOP))
    # Without motion nothing fades, so colors can be read at once.
    page.emulate_media(**{"color_scheme": "light", "reduced_motion": "reduce", **media})
    page.goto(address)
    page.wait_for_selector("html[data-charts=drawn]", timeout=30_000)
    page.evaluate("localStorage.clear()")
    yield page
    outside = [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    page.close()
    assert (complaints, outside) == ([], [])
