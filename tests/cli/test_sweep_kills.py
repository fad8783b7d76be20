"""Sweeps whose workers are killed, that are interrupted, and sweeps on a dask cluster."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.sweeps import MANY, content, do, sweep_file, tasks_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds worker processes in /proc"),
]

CLUSTER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, scheduler_port=0) as cluster:
        print(cluster.scheduler_address, flush=True)
        print(*(worker.pid for worker in cluster.workers.values()), flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a dask cluster of two workers, in processes of its own; it starts killed ones anew."""
    pytest.importorskip("distributed", reason="needs the extra 'dask'")
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "cluster.py").write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, "cluster.py"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.stdout.close()
    process.wait(30)


def command(path, out, *more):
    return [sys.executable, "-m", "wss", "sweep", str(path), "--out", str(out), "--quiet", *more]


def test_dask_gives_the_same_bytes(tmp_path, cluster):
    path = sweep_file(tmp_path)
    do(path, tmp_path / "here")
    done = subprocess.run(
        command(path, tmp_path / "there", "--dask", cluster), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert tasks_in(tmp_path / "there") == tasks_in(tmp_path / "here")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    path = sweep_file(folder, MANY)
    started = time.monotonic()
    assert do(path, folder / "out") == 100
    return path, content(folder / "out"), tasks_in(folder / "out"), time.monotonic() - started


def children(pid):
    """Pids of the processes that *pid* has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == pid:
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("moment", range(2))
def test_a_sweep_whose_worker_is_killed_starts_another(tmp_path, undisturbed, moment):
    path, expected, names, takes = undisturbed
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(path, out, "--workers", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(random.Random(moment).uniform(0.3, 3.0 + takes))
    for pid in children(process.pid)[-1:]:
        os.kill(pid, signal.SIGKILL)
    assert process.wait(120) == 0
    assert content(out) == expected
    assert tasks_in(out) == names, "nothing twice, nothing lost, nothing half-written"


@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_on_dask_a_killed_sweep_goes_on_and_ends_the_same(tmp_path, undisturbed, cluster, victim):
    path, expected, names, takes = undisturbed
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(path, out, "--dask", cluster), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    time.sleep(random.Random(f"dask {victim}").uniform(1.5, 4.0 + takes))
    nannies = [pid for pid in children(os.getpid()) if pid != process.pid]
    workers = [grandchild for nanny in nannies for grandchild in children(nanny)][-1:]
    for pid in [process.pid] if victim == "parent" else workers:
        os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    if victim == "worker":
        assert process.returncode == 0, said
    do(path, out)
    assert content(out) == expected
    assert tasks_in(out) == names


def test_ctrl_c_keeps_what_is_done_and_says_so(tmp_path, undisturbed):
    path, expected, _, _ = undisturbed
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(path, out, "--workers", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (out / "tasks").is_dir() or not any(p.suffix == ".json" for p in (out / "tasks").iterdir()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been done by then
        assert process.returncode == 130
        assert "tasks are done and kept" in said
        assert not printed
    assert do(path, out) < 100
    assert content(out) == expected
