"""The fuzzer: that it finds what it should, a few inputs in every run of the tests, and thousands in CI's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import fuzz_judge
import fuzzing
import pytest
from fuzz_judge import Ended, fault_of
from kit import ROOT

SEED = 15
MANY = int(os.environ.get("WSS_FUZZ", "500"))


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    return fuzzing.Fuzzer(SEED, folder, folder / "kept")


@pytest.mark.slow
def test_every_case_is_right_before_it_is_mutated(fuzzer):
    cheap = [case for case in fuzzer.all_cases if case.weight > 0.15]
    found = {case.name: fuzzer.try_(fuzzer.plain(case)) for case in cheap}
    assert not {name: fault for name, fault in found.items() if fault}


@pytest.mark.slow
def test_a_few_inputs(fuzzer):
    assert [fault.what for _, fault in fuzzer.tried(0, 60) if fault is not None] == []


def test_an_input_is_made_again_by_its_number(fuzzer):
    for number in range(30):
        one, two = fuzzer.make(number), fuzzer.make(number)
        assert (one.argv, one.files, one.special) == (two.argv, two.files, two.special)


def test_a_planted_fault_is_found_and_kept(fuzzer, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("wss.report.kernels.check.predict", broken)
    given = next(case for case in fuzzer.all_cases if case.name == "kernels gemm")
    monkeypatch.setattr(fuzzer, "_cases", [given])
    monkeypatch.setattr(fuzzer, "_weights", [1])
    found = [fault for _, fault in fuzzer.tried(0, 30) if fault is not None]
    assert found
    for fault in found:
        assert "ZeroDivisionError: planted" in fault.what
        assert (fault.folder / "ARGV").read_text().startswith("kernels")


FAULTS = {
    "a code of its own": (Ended(3, "", "x", ""), "exit code 3"),
    "silence": (Ended(2, "", " ", ""), "not a word"),
    "a traceback": (Ended(2, "", "Traceback (most recent call last):", ""), "prints Traceback"),
    "no memory": (Ended(2, "", "is damaged (MemoryError)", ""), "prints MemoryError"),
    "nan": (Ended(0, "time nan s", "", ""), "prints nan"),
    "NaN in JSON": (Ended(0, '{"a": NaN}', "", ""), "prints no JSON"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_a_fault(kind, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ended, expected = FAULTS[kind]
    assert expected in fault_of(ended, {}, (), False)
    assert fault_of(Ended(0, "0.5 s, information", "", ""), {}, (), False) is None


@pytest.mark.parametrize(("file", "expected"), [("out/a", "written"), ("b", "nobody asked"), (".c.part", "behind")])
def test_what_is_left_is_a_fault(file, expected, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = Path(file)
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    assert expected in fault_of(Ended(2, "", "a fault", ""), {}, ("out",), False)


def test_a_command_that_does_not_end_is_stopped(monkeypatch):
    def forever():
        while True:
            pass

    monkeypatch.setattr(fuzz_judge, "CPU_S", 0.05)
    monkeypatch.setattr(fuzz_judge.cli, "main", forever)
    assert fuzz_judge.run([]).raised.startswith("takes too long")


@pytest.mark.slow
def test_many_inputs(tmp_path):
    command = [sys.executable, str(ROOT / "tests/fuzzing.py"), "--seed", str(SEED), "--count", str(MANY)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": ""}
    done = subprocess.run([*command, "--keep", str(tmp_path)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(rf"inputs 0 to {MANY - 1}: 0 faults", done.stdout)
