"""Commands that are killed, really, at any moment: nothing lost, nothing left behind, all goes on.

``WSS_KILLS`` is how many kills there are of each signal, over all commands together.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from kit.runs import SMALL
from kit.sweeps import TINY

from wss.files import PREFIX

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at processes in /proc"),
]

KILLS = int(os.environ.get("WSS_KILLS", "6"))
SWEEP = TINY.replace("steps: 2", "steps: 3") + "grid:\n  seed: [0, 1, 2]\n  batch: [8, 16]\n"
WSS = [sys.executable, "-m", "wss"]
# Small imports leave nothing for the next one to go on from; this one is treated as a large one.
LARGE = "from wss.traces.importers import pipeline as i; i.SMALL_BYTES, i.BLOCK_BYTES = 0, 30_000; "
LARGE_IMPORT = [sys.executable, "-c", LARGE + "from wss.__main__ import main; main()"]
HIDDEN = (PREFIX, ".o.parquet.parts-")  # of what is being written
HOST = ("host", "times", "created", "sha256")  # what differs from run to run


@dataclass(frozen=True)
class Command:
    """A command, what is done *before* it, what is said *again* when it is given again; whether it *replaces*."""

    words: str
    before: list[str] = field(default_factory=list)
    again: str = ""
    program: list[str] = field(default_factory=lambda: WSS)
    replaces: bool = False

    def run(self, folder, again="", **options):
        return subprocess.Popen([*self.program, *f"{self.words} {again}".split()], cwd=folder, **options)


SYNTH = "trace synth gpt_oss_20b --decode-tokens 8"
EXPORTED = [f"{SYNTH} --requests 12 --out t.parquet", "trace export t.parquet --format hf-json --out in"]
IMPORT = "trace import in --model gpt_oss_20b --out o.parquet"
RUN = "run small.yaml --out r"
COMMANDS = {
    "run": Command(RUN, again="--force"),
    "run --force": Command(f"{RUN} --force", [f"{RUN} --set steps=1"], replaces=True),
    "sweep": Command("sweep sweep.yaml --out s --workers 1"),
    "sweep, two workers": Command("sweep sweep.yaml --out s --workers 2"),
    "synth": Command(f"{SYNTH} --requests 1500 --out o.parquet", again="--force"),
    "import": Command(IMPORT, EXPORTED, again="--force"),
    "large import": Command(f"{IMPORT} --workers 2", EXPORTED, again="--force", program=LARGE_IMPORT),
    "check": Command("check sweep.yaml --update --out s --workers 1"),
    "placement": Command("placement small.yaml --policy allo --out o.json", again="--force"),
    "report": Command("report r", [RUN], again="--force"),
    "report --force": Command("report r --format svg --force", [RUN, "report r"], replaces=True),
}


@dataclass(frozen=True)
class Undisturbed:
    """A command that was not killed: the folder before it, what is in it after, and how long it took."""

    start: Path
    content: dict[str, object]
    seconds: float
    changes: int


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Callable[[str], Undisturbed]:
    done: dict[str, Undisturbed] = {}

    def undisturbed(name: str) -> Undisturbed:
        if name not in done:
            folder = tmp_path_factory.mktemp("undisturbed")
            (folder / "small.yaml").write_text(SMALL)
            (folder / "sweep.yaml").write_text(SWEEP)
            for words in COMMANDS[name].before:
                subprocess.run([*WSS, *words.split()], cwd=folder, check=True, capture_output=True)
            start = copy_of(folder, tmp_path_factory.mktemp("start"))
            began = time.monotonic()
            with COMMANDS[name].run(folder, stdout=subprocess.DEVNULL) as process:
                changes = watch(process, folder, lambda seconds, changes: False)
            assert process.returncode == 0
            done[name] = Undisturbed(start, content(folder), time.monotonic() - began, changes)
        return done[name]

    return undisturbed


def copy_of(folder, into):
    subprocess.run(["cp", "-r", f"{folder}/.", into], check=True)
    return into


def content(folder, without=()):
    """Return every file below *folder*, JSON without what is different from run to run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(without) for part in name.parts):
            found[str(name)] = plain(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
    return found


def plain(value):
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in HOST}
    return [plain(each) for each in value] if isinstance(value, list) else value


def watch(process, folder, is_time):
    """Wait until *process* ends or *is_time*, given seconds and changes of what is in *folder*; return the changes."""
    began, changes, before = time.monotonic(), 0, None
    while process.poll() is None:
        now = [(where, sorted(folders), sorted(files)) for where, folders, files in os.walk(folder)]
        changes, before = changes + (now != before), now
        if is_time(time.monotonic() - began, changes):
            break
        time.sleep(0.003)
    return changes


def is_ready(pid):
    """Whether the process catches SIGTERM, the last of its signals: before, it is Python that is killed."""
    try:
        line = next(s for s in Path(f"/proc/{pid}/status").read_text().splitlines() if s.startswith("SigCgt"))
    except OSError:
        return True
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def living(mark):
    """Return the processes that have *mark* in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes() and " Z " not in (entry / "stat").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def moment(rng, known):
    """Draw when to kill: at a time, or at a change of what is in the folder, where the narrow moments are."""
    seconds, change = rng.uniform(0, 1.05) * known.seconds, rng.randint(1, known.changes + 1)
    return (lambda now, _: now >= seconds) if rng.random() < 0.5 else (lambda _, changes: changes >= change)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda kind: kind.name)
@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_command_loses_nothing_and_leaves_nothing(tmp_path, undisturbed, kind, number):
    rng = random.Random(f"{kind.name} {number}")
    name = list(COMMANDS)[(number + kind) % len(COMMANDS)]
    command, known = COMMANDS[name], undisturbed(name)
    folder, mark = copy_of(known.start, tmp_path / "f"), uuid4().hex
    with command.run(
        folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "WSS_MARK": mark},
        start_new_session=True,
    ) as process:
        while not is_ready(process.pid):
            time.sleep(0.001)
        watch(process, folder, moment(rng, known))
        is_late = content(folder, HIDDEN) == known.content  # all is written, and the process about to end
        killed = time.monotonic()
        alive = process.poll() is None
        if alive:
            whom = -process.pid if kind == signal.SIGINT and rng.random() < 0.5 else process.pid  # as Ctrl-C does
            os.kill(whom, kind)
        code = process.wait(60)
        took = time.monotonic() - killed
        said = process.stderr.read()
    check_end(code, kind, said, took)
    assert code != 0 or not alive or is_late, "it went on to its end"
    wait_for(lambda: not living(mark.encode()), "no process is left")
    check_whole(folder, known, done=code in (0, -kind) and kind != signal.SIGKILL, replaces=command.replaces)
    with command.run(folder, command.again, stdout=subprocess.DEVNULL) as process:
        assert process.wait() == 0
    assert content(folder) == known.content
    assert [path for path in folder.rglob(".*")] == []


def check_end(code, kind, said, took):
    """The code says which signal it was, if the command was not done before; and there is no traceback."""
    assert code in (0, -kind, *([] if kind == signal.SIGKILL else [128 + kind])), said
    for word in ("Traceback", "Exception", "Warning", "rror"):
        assert word not in said
    assert took < 10


def wait_for(is_so, what):
    """Wait until *is_so*: processes whose parent was killed end by themselves."""
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError(what)


def check_whole(folder, known, done, replaces):
    """What is there by its own name is as in the end, or as before; all of it as in the end, if all was *done*."""
    before, found = content(known.start), content(folder, HIDDEN)
    for path, bytes_ in found.items():
        assert bytes_ in (known.content.get(path), before.get(path)), path
    assert not done or found == known.content
    assert not replaces or found in (before, known.content), "one result or the other"
