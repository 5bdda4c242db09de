"""Files are written whole or not at all, and nothing of the user's is lost on the way."""

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stylebench.files.partial import clear_partials, create_partial
from stylebench.files.paths import FileError, same_file
from stylebench.files.writing import atomic_path, check_folder, check_writable


def write(path, text="new"):
    with atomic_path(path) as partial:
        partial.write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def special(tmp_path):
    """Things that are no files, by their kind, each also behind a link."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(tmp_path / "socket"))
    things = {
        "a named pipe": tmp_path / "pipe",
        "a folder": tmp_path / "folder",
        "a socket": tmp_path / "socket",
        "a device": Path(os.devnull),
    }
    for path in things.values():
        (tmp_path / f"link-{path.name}").symlink_to(path)
    yield {
        kind: [path, tmp_path / f"link-{path.name}", tmp_path / "." / path.name]
        if path.parent == tmp_path
        else [path, tmp_path / f"link-{path.name}"]
        for kind, path in things.items()
    }
    server.close()


@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a socket", "a device"])
def test_things_that_are_no_files_are_refused_and_stay(special, tmp_path, kind):
    before = names(tmp_path)
    for path in special[kind]:
        there = path.stat()
        with pytest.raises(FileError, match=f"is {kind}, expected a file name"):
            check_writable(path)
        with pytest.raises(FileError, match=f"is {kind}"):
            write(path)
        assert path.stat().st_ino == there.st_ino
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent/a.csv", "the folder .*absent does not exist; make it first"),
        ("x" * 256, "cannot be written .*name too long"),
        ("a\0b", "cannot be written .*null"),
        ("file/a.csv", "the folder .*file does not exist"),
        ("dangling", "the folder .*nowhere does not exist"),
        ("loop", "cannot be written|does not exist"),
        ("~nosuchuser/a.csv", "no user 'nosuchuser'"),
    ],
)
def test_names_that_cannot_be_written_are_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere/a.csv")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileError, match=message):
        check_writable(Path(name))


@pytest.mark.skipif(not Path("/proc/sys").exists(), reason="needs Linux's settings")
@pytest.mark.parametrize("name", ["/proc/sys/vm/swappiness", "/proc/a.csv", "link", "/sys/a.csv"])
@pytest.mark.parametrize("check", [check_writable, check_folder])
def test_settings_of_the_system_are_refused_also_for_root(tmp_path, monkeypatch, name, check):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: True)
    Path("link").symlink_to("/proc/sys/vm/swappiness")
    with pytest.raises(FileError, match=r"is in /(proc|sys), which is no disk"):
        check(name)
    assert check("/proc/self/cwd/a.csv")  # a way to the present folder


def test_a_file_of_255_bytes_is_written(tmp_path):
    path = tmp_path / ("ä" * 125 + "a.csv")
    assert len(path.name.encode()) == 255
    write(path)
    assert (path.read_text(), names(tmp_path)) == ("new", [path.name])


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o664, 0o755])
def test_an_overwritten_file_keeps_its_mode(tmp_path, permissions):
    path = tmp_path / "a.csv"
    path.write_text("old")
    path.chmod(permissions)
    write(path)
    assert (mode(path), path.read_text()) == (permissions, "new")


def test_a_new_file_gets_the_usual_mode(tmp_path):
    mask = os.umask(0o027)
    try:
        write(tmp_path / "a.csv")
    finally:
        os.umask(mask)
    assert mode(tmp_path / "a.csv") == 0o640


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.csv", tmp_path / "link.csv"
    link.symlink_to("real/a.csv")
    for text in ("made", "replaced"):
        write(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert names(tmp_path / "real") == ["a.csv"]


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(Path("~/a.csv"))
    assert check_writable("~/a.csv") == tmp_path / "a.csv"
    assert names(tmp_path) == ["a.csv"]


def test_a_read_only_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("old")
    # Denied by hand: root, as which containers run, may write anywhere.
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != path)
    with pytest.raises(FileError, match=r"a.csv: is read-only"):
        write(path)
    assert path.read_text() == "old"


def refusing(monkeypatch, *numbers):
    """Let every rename fail, as at a mount point or in a sticky folder."""
    numbers = list(numbers)

    def replace(self, target):
        raise OSError(numbers[0], os.strerror(numbers[0]))

    monkeypatch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.EACCES, errno.EXDEV])
@pytest.mark.parametrize("text", ["longer than before", "", "short"])
def test_a_file_that_cannot_be_renamed_is_overwritten_in_place(tmp_path, monkeypatch, number, text):
    path = tmp_path / "a.csv"
    path.write_text("old contents")
    there = path.stat().st_ino
    refusing(monkeypatch, number)
    write(path, text)
    assert (path.read_text(), path.stat().st_ino, names(tmp_path)) == (text, there, ["a.csv"])


def test_a_folder_that_takes_no_new_file_lets_its_own_be_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("old")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    opened = os.open

    def refused(place, flags, *more, **options):
        if flags & os.O_EXCL and Path(place).parent == tmp_path:
            raise PermissionError(errno.EACCES, "denied")
        return opened(place, flags, *more, **options)

    monkeypatch.setattr(os, "open", refused)
    refusing(monkeypatch, errno.EXDEV)
    write(path)
    assert (path.read_text(), names(tmp_path / "elsewhere")) == ("new", [])


@pytest.mark.parametrize("renames", [True, False], ids=["renamed", "in place"])
def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, renames):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync" if renames else "posix_fallocate", full)
    if not renames:
        refusing(monkeypatch, errno.EBUSY)
    with pytest.raises(OSError, match="No space left"):
        write(path, "much longer than before")
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.csv"])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_stops_a_write_leaves_the_old_file_alone(tmp_path, stop):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def half():
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise stop

    with pytest.raises(stop):
        half()
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.csv"])


def test_what_a_killed_run_left_is_removed_and_what_is_in_use_stays(tmp_path):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from stylebench.files.writing import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.csv")], check=False)
    (left,) = names(tmp_path)
    descriptor, in_use = create_partial(tmp_path, ".csv", 0o666)  # the first write: it clears
    mine = tmp_path / ".stylebench-notes"
    mine.write_text("the user's")
    clear_partials(tmp_path)
    assert names(tmp_path) == sorted([in_use.name, mine.name])
    os.close(descriptor)
    clear_partials(tmp_path)
    assert names(tmp_path) == [mine.name]
    assert left.startswith(".stylebench-")


def test_a_folder_is_checked_and_not_made(tmp_path):
    (tmp_path / "file").write_text("")
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    for name in ("file", "file/a", "file/a/b"):
        with pytest.raises(FileError, match="file is no folder, expected one to write into"):
            check_folder(tmp_path / name)
    assert names(tmp_path) == ["file"]


def test_one_file_by_several_names(tmp_path):
    first = tmp_path / "a"
    first.write_text("")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "hard").hardlink_to(first)
    (tmp_path / "folder").symlink_to(".")
    for name in ("a", "./a", "link", "hard", "folder/a"):
        assert same_file(first, tmp_path / name)
    assert same_file(tmp_path / "absent", tmp_path / "folder" / "absent")
    assert not same_file(first, tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 256, "cannot be made .*name too long"),
        ("x" * 256 + "/below", "cannot be made .*name too long"),
        ("a\0b", "cannot be made .*null"),
    ],
)
def test_a_folder_that_can_never_be_made_is_refused_before_any_work(tmp_path, name, message):
    with pytest.raises(FileError, match=message):
        check_folder(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_empty_name_is_no_current_folder():
    for check in (check_writable, check_folder):
        with pytest.raises(FileError, match=r"^'' names no file or folder: expected a name$"):
            check("")


@pytest.mark.parametrize("path", [None, 3, b"a.png", ["a.png"]])
def test_what_is_no_path_is_refused(path):
    for check in (check_writable, check_folder):
        with pytest.raises(FileError, match=r"is no path: expected a str or a pathlib.Path"):
            check(path)
