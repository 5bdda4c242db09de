"""Machine code: nothing but a file of one's own is taken for it, and it is never unloaded."""

import gc
import os
import stat
import threading

import pytest

from stylekernels.native import cache_folder, has_native_code, keep, read_kept

native = pytest.mark.skipif(not has_native_code(), reason="no native code on this platform")


def make(kind, file):
    """A file of this kind, which is none that ``keep`` wrote."""
    if kind == "nothing":
        return
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "loop":
        file.symlink_to(file)
    else:
        file.write_bytes(b"data")
    if kind == "sparse":
        os.truncate(file, 2**40)
    elif kind == "of all users":
        file.chmod(0o666)
    elif kind == "of another user":
        os.chown(file, 12345, 12345)


KINDS = ["nothing", "fifo", "folder", "device", "loop", "sparse", "of all users"]
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("kind", [*KINDS, pytest.param("of another user", marks=ROOT)])
def test_other_files_are_not_read(tmp_path, kind):
    make(kind, tmp_path / "file")
    assert read_kept(tmp_path / "file") is None


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_ordinary_file_stays(tmp_path, kind):
    file = tmp_path / "file"
    make(kind, file)
    before = file.lstat()
    keep(file, b"data")
    assert stat.S_IFMT(file.lstat().st_mode) == stat.S_IFMT(before.st_mode)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", ["nothing", "sparse", "of all users"])
def test_what_is_kept_is_read(tmp_path, kind):
    make(kind, tmp_path / "folder")
    if kind != "nothing":
        (tmp_path / "folder").unlink()
    file = tmp_path / "folder" / "file"
    keep(file, b"data")
    assert read_kept(file) == b"data"


@pytest.mark.parametrize("fault", [OSError, KeyboardInterrupt])
def test_no_part_of_a_file_stays(tmp_path, monkeypatch, fault):
    def failing(*_):
        raise fault

    monkeypatch.setattr("pathlib.Path.replace", failing)
    try:
        keep(tmp_path / "file", b"data")
    except KeyboardInterrupt:
        assert fault is KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_the_home_is_put_for_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/user")
    monkeypatch.setenv("STYLEBENCH_CACHE", "~/kept")
    assert str(cache_folder()) == "/home/of/user/kept"


@native
def test_code_is_compiled_once_and_never_unloaded(monkeypatch):
    """A thread that builds a library anew does not take the code of another that runs it."""
    from stylekernels.native import compile as native_compile
    from stylekernels.native import lanes
    from stylekernels.ops.pool.native import build

    monkeypatch.setattr(native_compile, "_engines", {})
    loaded = []
    load = native_compile._loaded
    monkeypatch.setattr(native_compile, "_loaded", lambda *a: loaded.append(a) or load(*a))
    addresses = []

    def use():
        addresses.append(
            native_compile.Library(build, lanes()).address("maximum")
        )  # and the library is gone

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    use()
    assert len(loaded) == 1
    assert len(set(addresses)) == 1


@native
def test_kept_code_is_loaded_without_its_module_until_the_sources_change(monkeypatch, tmp_path):
    from stylekernels.native import compile as native_compile
    from stylekernels.native import lanes
    from stylekernels.ops.pool.native import build

    def no_module(_):
        raise AssertionError("the module was written again")

    no_module.__module__, no_module.__qualname__ = build.__module__, build.__qualname__
    monkeypatch.setenv("STYLEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(native_compile, "_engines", {})
    native_compile.Library(build, lanes())
    native_compile._engines.clear()  # as a new process
    assert native_compile.Library(no_module, lanes()).address("maximum")
    native_compile._engines.clear()
    monkeypatch.setattr(native_compile, "sources", lambda: "others")
    with pytest.raises(AssertionError, match="written again"):
        native_compile.Library(no_module, lanes())
