"""Importing in parallel, going on after a kill, and round trips."""

import filecmp
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import shared, wss
from kit.trace_files import experts_of
from kit.traces import mutated

from wss.errors import TraceError
from wss.models import MODELS
from wss.traces import RequestRouting, TraceReader, write_trace
from wss.traces.export import as_json, export_paper_json
from wss.traces.importers import open_paper_json, open_source, paper_json
from wss.traces.importers import pipeline as importing
from wss.traces.importers.scan import read_usual
from wss.traces.schema import TraceMeta

MODEL = MODELS["llama4_maverick"]


@pytest.fixture
def folder(tmp_path):
    """Twelve requests of 30 tokens in two subjects."""
    for number in range(12):
        below = tmp_path / "data/meta-llama/Llama-4-Maverick-17B-128E-Instruct/mmlu" / ("a" if number < 7 else "b")
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{number}.json").write_text(as_json(request_of(number), meta()))
    return tmp_path / "data"


def meta():
    return TraceMeta(
        model=MODEL.name, benchmark="b", subject="s", moe_layers=MODEL.moe_layers, num_layers=48, num_experts=128,
        top_k=1, num_requests=1, source="s", note="",
    )  # fmt: skip


def request_of(number):
    experts = experts_of(30, 24, 1, 128, seed=number).astype(np.int16)
    return RequestRouting(request=number, position=np.arange(30, dtype=np.int32), num_prefill=9, experts=experts)


@pytest.mark.slow
def test_the_result_does_not_depend_on_workers_or_blocks(folder, tmp_path, monkeypatch):
    importing.import_source(tmp_path / "one", open_paper_json(folder))
    monkeypatch.setattr(importing, "BLOCK_BYTES", 1)
    monkeypatch.setattr(importing, "SMALL_BYTES", 0)
    importing.import_source(tmp_path / "two", open_paper_json(folder), workers=2)
    assert filecmp.cmp(tmp_path / "one", tmp_path / "two", shallow=False)
    assert not [p for p in tmp_path.iterdir() if "parts" in p.name]


def test_it_goes_on_where_it_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "BLOCK_BYTES", 1)
    importing.import_source(tmp_path / "whole", open_paper_json(folder))
    monkeypatch.setattr(importing, "SMALL_BYTES", 0)
    source = open_paper_json(folder)

    class StopError(Exception):
        pass

    def stop(done):
        if done == 5:
            raise StopError

    with pytest.raises(StopError):
        importing.import_source(tmp_path / "t", source, on_files=stop)
    assert not (tmp_path / "t").exists()
    seen = []
    done = importing.import_source(tmp_path / "t", source, on_files=seen.append)
    assert (done.resumed, seen[0], seen[-1]) == (5, 5, 12)
    assert filecmp.cmp(tmp_path / "whole", tmp_path / "t", shallow=False)


def test_a_changed_file_is_read_anew(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "SMALL_BYTES", 0)

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importing.import_source(tmp_path / "t", open_paper_json(folder), on_files=stop)
    first = open_paper_json(folder).files[0]
    os.utime(first, (1, 1))
    assert importing.import_source(tmp_path / "t", open_paper_json(folder)).resumed == 0


@pytest.mark.slow
def test_a_killed_import_leaves_no_result_and_the_next_one_gives_it(folder, tmp_path):
    """SIGKILL of the parent while two workers read."""
    script = (
        "import sys; from pathlib import Path; from wss.traces.importers import pipeline as importing; "
        "from wss.traces.importers import open_paper_json\n"
        "importing.BLOCK_BYTES, importing.SMALL_BYTES = 1, 0\n"
        "if __name__ == '__main__':\n"
        f"    importing.import_source(Path({str(tmp_path / 't')!r}), open_paper_json(Path({str(folder)!r})), workers=2,"
        " on_files=lambda n: print(n, flush=True))\n"
    )
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(1)  # the workers notice
    assert not (tmp_path / "t").exists()
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[0]) >= 1
    with TraceReader(tmp_path / "t") as reader:
        assert len(list(reader.requests())) == 12


def test_subjects_come_along_and_an_export_is_what_was_imported(folder, tmp_path):
    importing.import_source(tmp_path / "t", open_paper_json(folder))
    with TraceReader(tmp_path / "t") as reader:
        assert [reader.subjects()[n] for n in range(12)] == ["a"] * 7 + ["b"] * 5
    command = ["trace", "export", tmp_path / "t", "--format", "hf-json", "--out", tmp_path / "back"]
    assert wss(*command).returncode == 0
    same_tree(folder, tmp_path / "back")
    done = wss(*command)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def same_tree(a: Path, b: Path):
    files = sorted(p.relative_to(a) for p in a.rglob("*.json"))
    assert files == sorted(p.relative_to(b) for p in b.rglob("*.json"))
    assert files
    assert all((a / file).read_bytes() == (b / file).read_bytes() for file in files)


def test_real_files_come_back_byte_for_byte(tmp_path):
    raw = shared("traces", "raw_json")
    importing.import_source(tmp_path / "t", open_paper_json(raw))
    with TraceReader(tmp_path / "t") as reader:
        assert export_paper_json(reader, tmp_path / "back") == 24
    same_tree(raw, tmp_path / "back")


def test_a_trace_without_prefill_is_not_exported(tmp_path):
    write_trace(tmp_path / "t", meta(), [replace(request_of(0), num_prefill=0)])
    with TraceReader(tmp_path / "t") as reader, pytest.raises(Exception, match="has no prefill"):
        export_paper_json(reader, tmp_path / "back")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_the_scanner_accepts_nothing_that_the_parser_refuses(folder):
    """On damaged files it gives what the parser gives, or leaves them to it."""
    raw = next(folder.rglob("0.json")).read_bytes()
    is_moe = np.zeros(48, np.bool_)
    is_moe[list(MODEL.moe_layers)] = True
    rng, taken = random.Random(3), 0
    for _ in range(int(os.environ.get("WSS_FUZZ", "200"))):
        text = mutated(raw, rng)
        found = read_usual(text, is_moe, 1, 128)
        if found is None:
            continue
        taken += 1
        try:
            elements = paper_json._elements(Path("x"), text)
            expected = np.concatenate(paper_json._routing(Path("x"), elements, MODEL))
        except TraceError as error:
            raise AssertionError("the scanner took what the parser refuses") from error
        assert np.array_equal(found[0], expected)
    assert taken > 0
    assert np.array_equal(read_usual(raw, is_moe, 1, 128)[0], request_of(0).experts)


def test_what_is_exported_from_a_synthetic_trace_is_known_as_synthetic(tmp_path):
    write_trace(tmp_path / "t", replace(meta(), source="synthetic: by hand"), [request_of(0)])
    with TraceReader(tmp_path / "t") as reader:
        export_paper_json(reader, tmp_path / "back")
    importing.import_source(tmp_path / "again", open_paper_json(tmp_path / "back", MODEL))
    with TraceReader(tmp_path / "again") as reader:
        assert reader.meta.synthetic


def test_parts_of_an_import_are_no_source(folder, tmp_path, monkeypatch):
    """An import into its own folder that was killed goes on."""
    monkeypatch.setattr(importing, "SMALL_BYTES", 0)

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importing.import_source(folder / "t", open_paper_json(folder), on_files=stop)
    assert importing.import_source(folder / "t", open_source(folder)).resumed == 12


def test_only_the_block_of_a_mended_file_is_read_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "SMALL_BYTES", 0)
    monkeypatch.setattr(importing, "BLOCK_BYTES", 1)
    bad = next(folder.rglob("3.json"))
    text = bad.read_text()
    bad.write_text("[")
    with pytest.raises(TraceError, match="1 of 12 files are bad"):
        importing.import_source(tmp_path / "t", open_paper_json(folder))
    bad.write_text(text)
    assert importing.import_source(tmp_path / "t", open_paper_json(folder)).resumed == 11
    assert not [p for p in tmp_path.iterdir() if "parts" in p.name]
