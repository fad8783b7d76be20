"""Where compiled code is kept, and where it is not."""

import atexit
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from kit import ROOT

from wss import compile_cache
from wss.compile_cache import OURS, VARIABLE, prepare


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own, with nothing said of caches; what prepare() sets is undone."""
    for name in (VARIABLE, OURS, "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    return tmp_path


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_cache_is_the_users_own_and_found_again(home):
    assert prepare() is None
    first = Path(os.environ[VARIABLE])
    assert first.parent == home / ".cache" / "wss"
    assert (mode_of(first), mode_of(first.parent)) == (0o700, 0o700)
    assert prepare() is None
    assert os.environ[VARIABLE] == str(first)


def test_a_folder_given_to_numba_or_xdg_is_used(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "with space ü"))
    assert prepare() is None
    assert Path(os.environ[VARIABLE]).parent == home / "with space ü" / "wss"
    monkeypatch.setenv(VARIABLE, str(home / "mine"))
    assert prepare() is None
    assert os.environ[VARIABLE] == str(home / "mine")
    assert not (home / "mine").exists()


def open_to_all(home, monkeypatch):
    (home / ".cache" / "wss").mkdir(parents=True)
    (home / ".cache" / "wss").chmod(0o777)


def of_another(home, monkeypatch):
    (home / ".cache" / "wss").mkdir(parents=True)
    monkeypatch.setattr(os, "getuid", lambda: home.stat().st_uid + 1)


def a_file(home, monkeypatch):
    (home / ".cache").write_text("")


def no_home(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home / "gone"))


def nearly_full(home, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))


def full(home, monkeypatch):
    def mkdir(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", mkdir)


@pytest.mark.parametrize("fault", [open_to_all, of_another, a_file, no_home, nearly_full, full])
def test_a_cache_that_cannot_be_used_is_no_fault(home, monkeypatch, fault):
    fault(home, monkeypatch)
    note = prepare()
    assert note is not None
    assert "\n" not in note
    folder = Path(os.environ[VARIABLE])
    assert folder.parent.name.startswith("wss-cache-")
    assert (mode_of(folder.parent), prepare()) == (0o700, None)


def test_another_state_of_the_source_has_another_folder_and_old_ones_go(home, monkeypatch, tmp_path):
    package = tmp_path / "wss"
    (package / "engine").mkdir(parents=True)
    (package / "engine" / "a.py").write_text("one")
    monkeypatch.setattr(compile_cache, "PACKAGE", package)
    prepare()
    first = Path(os.environ[VARIABLE])
    assert first.is_dir()
    os.utime(first, (0, 0))
    (package / "engine" / "a.py").write_text("two")
    prepare()  # though the variable, which wss has set, names the first
    assert os.environ[VARIABLE] != str(first)
    assert not first.exists()


def test_no_compiled_code_is_in_what_the_folders_name_leaves_out():
    left_out = [path for name in compile_cache.WITHOUT for path in (ROOT / "wss" / name).rglob("*.py")]
    assert left_out
    texts = {path: path.read_text(encoding="utf-8") for path in left_out}
    assert not [path for path, text in texts.items() if "@compiled" in text or "njit" in text]


CALLING = """
import sys
sys.path.insert(0, {folder!r})
from wss import compile_cache
from pathlib import Path
compile_cache.PACKAGE = Path({folder!r})
compile_cache.prepare()
import outer
print(outer.outer())
"""


@pytest.mark.slow
def test_a_clone_that_is_upgraded_under_an_old_cache_compiles_anew(home, tmp_path):
    """numba alone would go on with the old callee, as the caller's own file is the same."""
    (tmp_path / "inner.py").write_text("import numba\n@numba.njit(cache=True)\ndef inner():\n    return 1\n")
    (tmp_path / "outer.py").write_text(
        "import numba\nfrom inner import inner\n@numba.njit(cache=True)\ndef outer():\n    return inner()\n"
    )
    found = []
    for value in (1, 2):
        (tmp_path / "inner.py").write_text(f"import numba\n@numba.njit(cache=True)\ndef inner():\n    return {value}\n")
        command = [sys.executable, "-c", CALLING.format(folder=str(tmp_path))]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        found.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert found == ["1\n", "2\n"]
