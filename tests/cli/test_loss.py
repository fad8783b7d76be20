"""Nothing is lost, and nothing is left: what a kill or a full disk leaves at every moment, what --force may replace.

Kills that are real are in `test_kills`; here, what they would leave is made by hand.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from kit.runs import SMALL
from kit.sweeps import TINY

from wss import files
from wss.cli import cli
from wss.ending import remove
from wss.errors import OutputError
from wss.files import PREFIX, locked, part_in, remove_left, write_whole
from wss.sweeps.folder import Folder, damaged_in

SWEEP = TINY.replace("[base, ep, pred, allo, allo_pred]", "[base, ep]") + "grid:\n  seed: [0, 1]\n"  # 4 tasks


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_swept", set())
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def wss(*arguments):
    files._swept.clear()  # as every command is a process of its own
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def sweep(out="s"):
    return wss("sweep", "sweep.yaml", "--out", out, "--workers", 1)


def tables(out):
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.suffix in (".parquet", ".csv")}


def left_in(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


# --- a sweep that is cut short ----------------------------------------------------------------------------------------


def calls(monkeypatch, act):
    """Let *act*, given its number, come before every call that changes what is on the disk."""
    number = iter(range(10**6))

    def before(call, *arguments, **options):
        if call is not opens or arguments[1] & os.O_CREAT:
            act(next(number))
        return call(*arguments, **options)

    opens = os.open
    for name in ("replace", "fsync", "open", "mkdir", "rename", "unlink"):
        monkeypatch.setattr(os, name, partial(before, getattr(os, name)))


@pytest.mark.slow
def test_a_sweep_killed_at_any_moment_goes_on(folder, monkeypatch):
    """Before everything that is done to the disk, the folder is copied: that is what a kill leaves."""
    (folder / "sweep.yaml").write_text(SWEEP.replace("[0, 1]", "[0]"))
    images = []

    def copy(number):
        with monkeypatch.context() as patch:
            patch.undo()
            images.append(folder / f"image{number}")
            shutil.copytree(folder / "s", images[-1]) if (folder / "s").exists() else images[-1].mkdir()

    with monkeypatch.context() as patch:
        copying = []

        def once(number):
            if not copying:
                copying.append(True)
                copy(number)
                copying.clear()

        calls(patch, once)
        assert sweep().exit_code == 0
    expected = tables(folder / "s")
    assert len(images) > 2 * 8
    for image in images:
        done = sweep(image)
        assert done.exit_code == 0, (image, done.exception)
        assert tables(image) == expected
        assert left_in(image) == []
    assert wss("report", images[0], "--format", "svg").exit_code == 0


COMMANDS = {
    "sweep": ["sweep", "sweep.yaml", "--out", "s", "--workers", "1"],
    "check": ["check", "sweep.yaml", "--out", "s", "--workers", "1", "--update"],
    "run": ["run", "small.yaml", "--out", "r"],
    "synth": ["trace", "synth", "gpt_oss_20b", "--requests", "2", "--decode-tokens", "2", "--out", "t"],
    "placement": ["placement", "small.yaml", "--policy", "ep", "--out", "l"],
    "report": ["report", "done", "--format", "svg"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fails_at_any_moment_loses_nothing(folder, monkeypatch, name):
    if name == "report":
        assert wss("run", "small.yaml", "--out", "done").exit_code == 0
    for failed in range(0, 1000, 9 if name in ("report", "check") else 1):
        code = (errno.ENOSPC, errno.EDQUOT, errno.EIO)[failed % 3]
        with monkeypatch.context() as patch:
            calls(patch, partial(fail, failed, code))
            done = wss(*COMMANDS[name])
        if done.exit_code == 0:
            break
        assert isinstance(done.exception, OutputError), (failed, done.exception)
        assert len(done.exception.faults) == 1
        assert os.strerror(code) in str(done.exception)
        for made in ("r", "t", "l", "done/report"):  # as the folder was synced, and are not replaced
            remove(folder / made)
    assert failed > 2


def fail(first, code, number):
    if number >= first:
        raise OSError(code, os.strerror(code))


DAMAGE = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "noise": lambda text: bytes(range(256)),
    "deep": lambda text: b"[" * 100_000,
    "types": lambda text: b'{"key": "%s", "figures": [], "seeds": 3, "links": null}',
    "a figure": lambda text: text.replace(b"1", b"2", 1),
    "without its hash": lambda text: b"{" + text.partition(b", ")[2],
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep that is done, to be copied."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "sweep.yaml").write_text(SWEEP)
    assert wss("sweep", folder / "sweep.yaml", "--out", folder / "s", "--workers", 1).exit_code == 0
    return folder / "s"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_task_is_named_set_aside_and_run_again(folder, swept, damage):
    expected = tables(shutil.copytree(swept, folder / "s"))
    file = sorted((folder / "s" / "tasks").iterdir())[1]
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[damage](whole))
    assert damaged_in(folder / "s") == [file]
    done = sweep()
    assert done.exit_code == 0
    named = f"s/tasks/{file.name}: is damaged; it is kept as {file.name}.damaged, and the task is run again"
    assert done.stderr.splitlines()[0] == named
    assert "4 tasks: 1 run" in done.stderr
    assert file.with_name(f"{file.name}.damaged").read_bytes() == DAMAGE[damage](whole)
    assert tables(folder / "s") == expected
    assert "4 tasks: 0 run" in sweep().stderr


def test_a_report_names_a_damaged_task_and_is_drawn(folder, swept):
    shutil.copytree(swept, folder / "s")
    file = min((folder / "s" / "tasks").iterdir())
    file.write_text("[")
    done = wss("report", "s", "--format", "svg")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        f"s/tasks/{file.name}: is damaged, but the tables are intact; `wss sweep` into s runs the task again"
    ]
    assert (folder / "s" / "report" / "report.md").exists()


def test_a_damaged_task_that_is_a_folder_is_set_aside_too(folder, swept):
    shutil.copytree(swept, folder / "s")
    file = min((folder / "s" / "tasks").iterdir())
    file.unlink()
    (file / "inside").mkdir(parents=True)
    assert sweep().exit_code == 0
    assert (file.with_name(f"{file.name}.damaged") / "inside").is_dir()


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"[]", b'{"name": {}, "identity": 3}'])
def test_a_damaged_sweep_json_does_not_keep_a_sweep_from_going_on(folder, swept, content):
    shutil.copytree(swept, folder / "s")
    (folder / "s" / "sweep.json").write_bytes(content)
    assert "4 tasks: 0 run" in sweep().stderr
    assert json.loads((folder / "s" / "sweep.json").read_text())["name"] == "sweep"


def test_a_folder_with_tasks_of_somebody_else_is_no_sweeps(folder):
    for name, file in (("a", "tasks/notes.json"), ("b", "results.csv")):
        (folder / name / "tasks").mkdir(parents=True)
        (folder / name / file).write_text("precious")
        with pytest.raises(OutputError, match="is not a sweep's folder"):
            Folder(folder / name)


# --- files written whole ----------------------------------------------------------------------------------------------


def test_a_file_is_on_the_disk_before_it_has_its_name(folder, monkeypatch):
    seen = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(os.readlink(f"/proc/self/fd/{handle}")) or sync(handle))
    monkeypatch.setattr(os, "replace", lambda part, path: seen.append(str(path)) or replace(part, path))
    write_whole(folder / "x", lambda part: part.write_text("x"), "")
    assert seen[0].startswith(str(folder / PREFIX))
    assert seen[1:] == [str(folder / "x"), str(folder)]


def test_what_killed_commands_left_is_removed_and_nothing_else(folder):
    (folder / f"{PREFIX}1-a").write_text("of a process with a number that lives")
    (folder / f"{PREFIX}999999-b" / "c").mkdir(parents=True)
    mine = folder / f"{PREFIX}999999-d"
    mine.write_text("being written")
    others = [folder / name for name in (".x.part", ".wss-mine", "wss-part-1-a")]
    for other in others:
        other.write_text("precious")
    before = set(folder.iterdir())
    with locked(mine), part_in(folder) as part:
        assert set(folder.iterdir()) == before - {folder / f"{PREFIX}1-a", folder / f"{PREFIX}999999-b"} | {part}
        remove_left(folder)
        assert part.exists()
    assert mine.exists()
    assert not part.exists()


def test_two_can_write_one_file_and_a_folder_at_once(folder):
    with part_in(folder) as one, part_in(folder) as two, part_in(folder, is_folder=True) as three:
        assert len({one, two, three}) == 3
        write_whole(folder / "x", lambda part: part.write_text("x"), "")
        assert one.exists()
        assert three.is_dir()


def test_a_small_import_that_was_killed_is_cleared_up_by_any_command(folder):
    (folder / f"{PREFIX}999999-a").mkdir()
    (folder / f"{PREFIX}999999-a" / "00000.parquet").write_text("half")
    assert wss(*COMMANDS["placement"]).exit_code == 0
    assert left_in(folder) == []


# --- --force ----------------------------------------------------------------------------------------------------------


def test_force_refuses_by_name_what_wss_did_not_write(folder):
    assert wss("run", "small.yaml", "--out", "r").exit_code == 0
    pq.write_table(pa.table({"mine": [1]}), folder / "mine.parquet")
    changes = {
        "a note": lambda: (folder / "r" / "note").write_text("precious"),
        "a folder": lambda: (folder / "r" / "report").mkdir(),
        "links.parquet": lambda: shutil.copy("mine.parquet", "r/links.parquet"),
        "summary.json": lambda: (folder / "r" / "summary.json").write_text("[]"),
        "layers.parquet": lambda: (os.unlink("r/layers.parquet"), os.mkdir("r/layers.parquet")),
    }
    shutil.copytree("r", "sound")
    for change in changes.values():
        shutil.rmtree("r")
        shutil.copytree("sound", "r")
        change()
        before = sorted(folder.rglob("*"))
        done = wss("run", "small.yaml", "--out", "r", "--force")
        assert isinstance(done.exception, OutputError)
        names = ("'note'", "'report'", "'links.parquet'", "'summary.json'", "'layers.parquet'")
        assert sum(name in str(done.exception) for name in names) == 1
        assert sorted(folder.rglob("*")) == before
    assert wss("run", "small.yaml", "--out", "sound", "--force").exit_code == 0
    assert left_in(folder) == []


@pytest.mark.parametrize("name", ["synth", "placement"])
def test_force_replaces_no_file_of_somebody_else(folder, name):
    command = COMMANDS[name]
    (folder / command[-1]).write_text('{"physical_to_logical_map": [[0, 1]]}')
    done = wss(*command, "--force")
    assert f"{command[-1]}: is not a " in str(done.exception)
    assert "that wss wrote" in str(done.exception)
    (folder / command[-1]).unlink()
    assert wss(*command).exit_code == 0
    assert wss(*command, "--force").exit_code == 0


def test_a_result_is_replaced_in_one_step_or_is_kept_beside_it(folder, monkeypatch):
    assert wss("run", "small.yaml", "--out", "r").exit_code == 0
    before = (folder / "r" / "summary.json").read_bytes()
    again = ["run", "small.yaml", "--out", "r", "--force", "--set", "steps=1"]

    def missing(name):
        raise OSError

    monkeypatch.setattr(files.ctypes, "CDLL", missing)
    rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda a, b: rename(a, b) if str(b).endswith(".old") else missing(""))
        assert isinstance(wss(*again).exception, OutputError)
    (old,) = folder.glob("r.*.old")
    assert (old / "summary.json").read_bytes() == before
    old.rename("r")
    assert wss(*again).exit_code == 0
    assert (folder / "r" / "summary.json").read_bytes() != before
    assert list(folder.glob("r?*")) == []


# --- signals ----------------------------------------------------------------------------------------------------------

STUBBORN = """
import ctypes, os, signal
from wss import ending
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
signal.signal(signal.SIGINT, signal.SIG_IGN)  # or in the background of a script
ending.end_on_signals()
ending.TEMPORARY.add(ending.Path("left"))
open("left", "w").close()
def swallow():
    while True:
        try:
            os.kill(os.getpid(), signal.{kind})
            while True:
                pass
        except BaseException:
            pass
{how}
"""
HOW = {
    "a loop that catches all": "swallow()",
    "a callback of C": "ctypes.CFUNCTYPE(None)(swallow)()",
    "a long call of C": "os.kill(os.getpid(), signal.{kind}); ctypes.CDLL(None).sleep(600)",
    "a child": (
        "import multiprocessing\n"
        "multiprocessing.get_context('fork').Process(target=signal.pause).start()\n"
        "print(multiprocessing.active_children()[0].pid, flush=True); swallow()"
    ),
}


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("how", HOW)
def test_a_signal_ends_a_process_whatever_it_is_at(folder, how, kind):
    program = STUBBORN.format(kind=kind, how=HOW[how].format(kind=kind))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # else it is forever
    said = "interrupted; nothing is half-written\n" if kind == "SIGINT" else ""
    assert (done.returncode, done.stderr) == (128 + signal.Signals[kind], said)
    assert not (folder / "left").exists()
    if done.stdout:
        with pytest.raises(ProcessLookupError):
            os.kill(int(done.stdout), 0)


def test_a_signal_ends_a_process_that_has_only_begun_to_wait_for_signals():
    """It comes as soon as its handler is there, before those of other signals."""
    program = (
        "import os, signal; from wss import ending\n"
        "plain = signal.signal\n"
        "def kill(number, handler):\n"
        "    plain(number, handler)\n"
        "    if number == signal.SIGTERM: os.kill(os.getpid(), number)\n"
        "signal.signal = kill; ending.end_on_signals(); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (143, "")


def test_what_nohup_ignores_stays_ignored():
    program = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from wss import ending\n"
        "ending.end_on_signals(); os.kill(os.getpid(), signal.SIGHUP); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "goes on\n")
