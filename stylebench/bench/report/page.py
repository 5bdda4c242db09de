"""``stylebench report``: one page in one file, that opens from a disk and asks no network."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from stylebench.bench.records.store import Stored, load_records
from stylebench.files.paths import FileError, expand
from stylebench.files.writing import atomic_path, check_writable, naming_file

_TEMPLATE = Path(__file__).with_name("template")
_SCRIPTS = ("theme.js", "charts.js", "tables.js", "gallery.js", "records.js")
_NEEDED = ("plotly", "jinja2")
_MARK, _HEAD = b"<title>stylebench", 2**16  # in the first bytes of every report


class ReportError(ValueError):
    """The page cannot be made; the message says what to do."""


def write_report(
    paths: Sequence[str | Path], folder: Path, say: Callable[[str], object] = lambda _: None
) -> Path:
    """Write ``folder/index.html`` from every record below ``paths``; return its path.

    Files that are no records are named on the page and otherwise left out; ``say`` is told
    how many they are.

    Raises:
        FileNotFoundError: a path does not exist.
        FileError: the page cannot be written there, or another page is there.
        ReportError: plotly is not installed, or there are files and none of them is a record.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ReportError(
            f"the report needs {' and '.join(missing)}: pip install 'stylebench[report]'"
        )
    stored, faults = load_records(*paths)
    if faults and not stored:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ReportError(f"no record can be read: {faults[0]}{more}")
    text = render(stored, faults)
    folder = expand(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made a folder ({error.strerror})") from error
    page = check_writable(folder / "index.html")
    if page.exists() and not _is_report(page):
        raise FileError(f"{page}: exists, and is no report of stylebench; take another --output")
    with naming_file(page, "the report page"), atomic_path(page) as partial:
        # A file's name may be no text.
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
    if faults:
        say(f"{len(faults)} of the files cannot be read; {page} names them")
    return page


def _is_report(page: Path) -> bool:
    with page.open("rb") as file:
        return _MARK in file.read(_HEAD)


def render(stored: Sequence[Stored], faults: Sequence[str]) -> str:
    """The page's HTML; everything that comes from a record is escaped."""
    import jinja2
    from plotly.offline import get_plotlyjs

    from stylebench.bench.report import numbers, sources, tables
    from stylebench.bench.report.frame import page_frame, renamed
    from stylebench.bench.report.gallery import exhibits
    from stylebench.bench.report.headline import headlines
    from stylebench.bench.report.palette import COLORS
    from stylebench.bench.report.sections import sections

    stored = renamed(stored)
    frame = page_frame(stored)
    shown, lost = exhibits(frame, [one.path.parent for one in stored])
    script = "\n".join((_TEMPLATE / name).read_text("utf-8") for name in _SCRIPTS)
    plotly = get_plotlyjs()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["json_block"] = _json_block
    return environment.get_template("page.html").render(
        headlines=headlines(frame),
        contents=sections(frame, stored),
        exhibits=shown,
        stored=stored,
        faults=[*faults, *lost],
        newest=max((one.record.started[:10] for one in stored), default=""),
        engines=COLORS,
        numbers=numbers,
        sources=sources,
        tables=tables,
        style=_trusted((_TEMPLATE / "page.css").read_text("utf-8")),
        script=_trusted(script),
        hashes=" ".join(f"'{_hash(text)}'" for text in (f"\n{script}\n", plotly)),
        plotly=_packed(plotly),
    )


def _trusted(text: str) -> str:
    from markupsafe import Markup

    return Markup(text)  # our own files, not a record's words


def _json_block(text: str) -> str:
    # Within a script element nothing is an entity, but "</script" and "<!--" still end it.
    return _trusted(text.replace("<", "\\u003c"))


def _hash(script: str) -> str:
    """A script's name in the page's policy: no other script runs, whatever a record holds."""
    digest = hashlib.sha256(script.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


@cache
def _packed(script: str) -> str:
    """Compressed for the page to unpack: plotly's 4.8 MB become 2.0 MB."""
    packed = gzip.compress(script.encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")
