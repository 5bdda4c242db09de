"""The page as text: complete, escaped, the same for the same records, and clear about gaps."""

import errno
import io
import json
import os
import re
import shutil
import zlib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from stylebench.bench.records.record import Case, Point
from stylebench.bench.records.store import Stored, file_name, load_records, write_record
from stylebench.bench.report import page
from stylebench.bench.report.page import ReportError, render, write_report
from stylebench.cli.app import main
from stylebench.files.paths import FileError

from .conftest import CPU, HOSTILE, PASSED, record, timing

pytest.importorskip("plotly", reason="the extra 'report' is not installed")


def test_nothing_of_a_record_becomes_markup(text):
    visible = text[: text.index('id="plotly-packed"')]
    assert HOSTILE not in text
    assert "<img src=x" not in visible
    assert "&lt;script&gt;window.hacked" in visible
    scripts = re.findall(r"<script(.*?)>", text)
    assert sum("json" not in attributes for attributes in scripts) == 2  # plotly, and the page's


class _Addresses(HTMLParser):
    """Everything that a page's markup refers to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [
            value for name, value in attrs if name in ("src", "srcset", "href", "action")
        ]


def test_it_names_no_address_to_fetch_from(text):
    parser = _Addresses()
    parser.feed(text)
    assert parser.found
    assert [each for each in parser.found if not each.startswith(("data:", "#"))] == []
    assert "default-src 'none'" in text


def test_every_link_within_the_page_leads_somewhere(text):
    targets = set(re.findall(r'\bid="([^"]+)"', text))
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links
    assert links <= targets
    assert len(re.findall(r'\bid="([^"]+)"', text)) == len(targets)


def test_the_same_records_make_the_same_page(results, text):
    assert render(*load_records(results)) == text


def test_the_headline_is_a_figure_with_its_conditions_ratio_and_proof(text):
    cards = text[text.index('<section id="headline"') : text.index('<section id="speed">')]
    (card, _) = re.findall(r"<article.*?</article>", cards, re.DOTALL)
    assert "<h2>Example CPU, 2 cores</h2>" in card
    lines = re.findall(r"<(?:p|li).*?>(.*?)</(?:p|li)>", card)
    assert [re.sub("<.*?>", "", line) for line in lines] == [
        "3.45 it/s",
        "fused bf16, 512 \N{MULTIPLICATION SIGN} 384, L-BFGS, history 100",
        "4.31 \N{MULTIPLICATION SIGN} the reference, 0.801 it/s",
        "86.2 % of the measured roof",
        "parity \N{CHECK MARK} passed, 2 checks",
        "record of 2026-03-14 0123456",
    ]


def test_a_machine_whose_fused_engine_has_no_proven_time_says_so():
    failed = Case("a", {"engine": "fused"}, "failed", parity=PASSED, timing=timing(1.0))
    page = render([Stored(Path("a.json"), record("iteration", CPU, [failed]))], [])
    assert "no fused case with a passing parity block" in page


def test_each_record_tells_what_ran_where_and_every_sample(text):
    for fact in ("example-cpu/2026-03-14-iteration.json", "0123456", "avx512_bf16", "2.15.0",
                 "stylebench bench kernels --output results", "throttle power"):  # fmt: skip
        assert fact in text
    (samples, *_) = re.findall(r'class="samples">([^<]+)<', text)
    assert len(samples.split()) == 20


def test_without_records_each_section_names_the_command_that_fills_it():
    empty = render([], [])
    for suite in ("iteration", "sizes", "kernels", "time-to-loss", "stylize", "parity"):
        assert f"No records of this: <code>stylebench bench {suite}</code> writes them" in empty
    assert empty.count("No records of this: ") == empty.count("<h2>") - 2  # gallery and records
    assert "<code>stylebench bench smoke</code> writes the first" in empty


def test_broken_files_are_named(text):
    assert "broken.json: " in text


def test_lost_pictures_are_named_and_none_from_outside_of_the_folder_is_shown(tmp_path):
    outside = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    files = ("gone.png", "../../secret.png", str(outside))
    cases = [
        Case(f"lost {index}", {}, parity=PASSED, pictures={"reference": file, "output": file})
        for index, file in enumerate(files)
    ]
    one = record("parity", CPU, cases)
    write_record(tmp_path / "results" / file_name(one), one)
    made = render(*load_records(tmp_path / "results"))
    for index in range(len(files)):
        assert f"pictures of lost {index}" in made
    assert made.count("outside of the record") == 2
    assert 'class="exhibit"' not in made


def bomb(path):
    """A file of a few bytes that claims 9,000 x 9,000 px."""
    Image.new("L", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (9_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


def huge(path):
    with path.open("wb") as file:
        file.truncate(10**12)


PICTURES = {
    "a bomb": bomb,
    "text": lambda path: path.write_text("hello"),
    "half a picture": lambda path: path.write_bytes(picture_bytes()[:60]),
    "PostScript": lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9"),
    "nothing": Path.touch,
    "a sparse file": huge,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to elsewhere": lambda path: path.symlink_to(path.parents[2] / "secret.png"),
}


def picture_bytes():
    buffer = io.BytesIO()
    Image.effect_noise((16, 16), 50).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_broken_picture_costs_no_other_its_place(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture_bytes())
    folder = tmp_path / "results" / CPU.slug
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes(picture_bytes())
    cases = [
        Case("good", {}, parity=PASSED, pictures=dict.fromkeys(("reference", "output"), "good.png"))
    ]
    for number, (name, make) in enumerate(PICTURES.items()):
        make(folder / f"{number}.png")
        files = {"reference": "good.png", "output": f"{number}.png"}
        cases.append(Case(name, {}, parity=PASSED, pictures=files))
    one = record("parity", CPU, cases)
    write_record(tmp_path / "results" / file_name(one), one)
    made = render(*load_records(tmp_path / "results"))
    for name in PICTURES:
        assert f"pictures of {name}: " in made
    assert "9000 x 9000 px, more than a page should hold" in made
    assert made.count('class="exhibit"') == 1


@pytest.mark.parametrize(
    "change",
    [
        {"command": "a\ud800"},
        {"command": "a\0"},
        {"command": "a" * 10**6},
        {"seconds": 10**400},
        {"cases": None},
    ],
    ids=["a surrogate", "a null byte", "a long text", "a huge number", "no cases"],
)
def test_one_record_that_cannot_be_stops_no_page(results, tmp_path, change):
    shutil.copytree(results / CPU.slug, tmp_path / "results" / CPU.slug)
    good = next((tmp_path / "results").rglob("*-iteration.json"))
    (good.parent / "bad.json").write_text(json.dumps({**json.loads(good.read_text()), **change}))
    stored, faults = load_records(tmp_path / "results")
    assert [fault.split(": ")[0] for fault in faults] == [str(good.parent / "bad.json")]
    page_file = write_report([tmp_path / "results"], tmp_path / "report")
    assert "bad.json: " in page_file.read_text("utf-8")
    assert len(stored) > 1


def test_a_file_whose_name_is_no_text_stops_no_page(tmp_path):
    one = record("iteration", CPU, [Case("bare", {})])
    write_record(tmp_path / "results" / file_name(one), one)
    write_record(Path(os.fsdecode(os.fsencode(tmp_path / "results") + b"/\xff.json")), one)
    (tmp_path / "results" / os.fsdecode(b"\xfe.json")).write_text("{")
    text = write_report([tmp_path / "results"], tmp_path / "report").read_text("utf-8")
    assert "\\udcfe.json: cannot be read as JSON" in text


def test_cases_with_nothing_but_a_name_make_a_page():
    suites = ("iteration", "sizes", "kernels", "time-to-loss", "parity", "stylize", "unheard-of")
    bare = [
        Case("bare", {}),
        Case("curve", {}, parity=PASSED, curve=[Point(0, 0, 0.0)]),
        Case("zero", {"width": 0}),
    ]
    for suite in suites:
        assert "bare" in render([Stored(Path("a.json"), record(suite, CPU, bare))], [])


def test_it_is_written_whole_and_small(site):
    assert [file.name for file in site.parent.iterdir()] == ["index.html"]
    assert site.stat().st_size < 4e6


def test_a_missing_plotly_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(
        page, "find_spec", lambda name: None if name == "plotly" else find_spec(name)
    )
    with pytest.raises(ReportError, match=r"needs plotly: pip install 'stylebench\[report\]'"):
        write_report([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_page_of_another_kind_is_left_alone(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<title>mine</title>")
    (tmp_path / "records").mkdir()
    with pytest.raises(FileError, match=r"index.html: exists, and is no report of stylebench"):
        write_report([tmp_path / "records"], tmp_path)
    assert page.read_text() == "<title>mine</title>"
    page.unlink()
    for _ in range(2):  # its own may be replaced
        write_report([tmp_path / "records"], tmp_path)


def test_a_page_that_the_disk_has_no_room_for_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=r"index.html: the report page cannot be written \(No spac"):
        write_report([tmp_path], tmp_path / "report")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["results", "-o", "report"], 0, "report/index.html"),
        (
            ["broken", "good", "-o", "report"],
            0,
            "stylebench: 2 of the files cannot be read; report/index.html names them\n",
        ),
        (["absent"], 2, "absent: no such file"),
        (["broken"], 2, "no record can be read: broken/a.json: cannot be read as JSON"),
        (["results", "-o", "broken/a.json"], 2, "broken/a.json: "),
        (["results", "-o", "report", "--readme", "absent.md"], 2, "absent.md: no such file"),
        (["results", "-o", "report", "--readme", "broken/a.json"], 2, "a.json: expected the lines"),
    ],
)
def test_the_command(arguments, code, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "broken").mkdir()
    for name in ("a.json", "b.json"):
        (tmp_path / "broken" / name).write_text("{")
    write_record(tmp_path / "good" / "a.json", record("iteration", CPU, []))
    monkeypatch.setattr("warnings.showwarning", None)  # main replaces it
    monkeypatch.setattr("sys.argv", ["stylebench", "report", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    assert message in "".join(capsys.readouterr())
    assert (tmp_path / "report").exists() == (code == 0)
