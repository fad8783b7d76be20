"""Speed of traces in CPU seconds: synthesis, writing, counting, importing; and memory of synthesis against requests.

    python benchmarks/traces.py [FOLDER of the paper's JSON files]

Machines differ, and this one may be busy: beside each rate stands that of a plain loop or library call in the same run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from wss.config import load
from wss.execution import open_routing
from wss.models import MODELS
from wss.traces import TraceReader, write_trace
from wss.traces.importers import open_paper_json
from wss.traces.synthetic import SYNTHS, synth_meta, synthesise

ROOT = Path(__file__).resolve().parents[1]
MODEL, SPEC = MODELS["deepseek_v3"], replace(SYNTHS["deepseek_v3"], requests=512)


def cpu_s(act: Callable[[], object]) -> float:
    """Return the CPU seconds of *act*, run once before to compile."""
    act()
    started = time.process_time()
    act()
    return time.process_time() - started


def memory_of(requests: int) -> float:
    """Return the peak memory in MB of a process that makes *requests* of 20 tokens and writes them."""
    code = (
        "import tempfile; from dataclasses import replace; from pathlib import Path\n"
        "from wss.models import MODELS; from wss.traces import write_trace\n"
        "from wss.traces.synthetic import SYNTHS, synth_meta, synthesise\n"
        f"m, s = MODELS['deepseek_v3'], replace(SYNTHS['deepseek_v3'], requests={requests}, decode_tokens=4)\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    write_trace(Path(folder) / 't', synth_meta(s, m, 0), synthesise(s, m, 0))\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def main(folder: Path | None) -> None:
    """Print a line for each."""
    requests = list(synthesise(SPEC, MODEL, 0))
    tokens = sum(len(r.position) for r in requests)
    ids = sum(r.experts.size for r in requests)
    token_layers = tokens * len(MODEL.moe_layers)
    took = cpu_s(lambda: list(synthesise(SPEC, MODEL, 0)))
    rng = np.random.default_rng(0)
    plain = cpu_s(lambda: rng.integers(0, 256, (tokens, 58, 8), np.int16))
    print(f"synthesis   {token_layers / took / 1e6:8.2f} M token-layers/s   ({took / plain:.0f} x numpy's integers)")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "t.parquet"
        took = cpu_s(lambda: write_trace(path, synth_meta(SPEC, MODEL, 0), requests))
        plain = cpu_s(lambda: np.save(Path(name) / "t.npy", np.concatenate([r.experts for r in requests])))
        print(f"writing     {2 * ids / took / 1e6:8.1f} MB/s raw           ({took / plain:.0f} x numpy's save)")

        def read() -> list[object]:
            with TraceReader(path) as reader:
                return list(reader.requests())

        took_reading = cpu_s(read)
        print(f"reading     {ids / took_reading / 1e6:8.1f} M expert ids/s")

        settings = [f"trace={{path: '{path}'}}", "batch=512", f"steps={SPEC.decode_tokens}"]
        experiment = load(ROOT / "configs" / "deepseek_v3.yaml", settings)

        def count() -> None:
            for _ in open_routing(experiment).layer_runs():
                pass

        took = cpu_s(count)
        print(f"counting    {ids / took / 1e6:8.1f} M expert ids/s     from Parquet to counts of every (step, layer)")
    if folder is not None:
        source = open_paper_json(folder)
        size = sum(file.stat().st_size for file in source.files)
        took = cpu_s(lambda: list(source.requests()))
        plain = cpu_s(lambda: [json.loads(file.read_bytes()) for file in source.files])
        print(f"JSON        {size / took / 1e6:8.1f} MB/s               ({plain / took:.1f} x as fast as json.loads)")
    print("memory     ", ", ".join(f"{count:,} requests {memory_of(count):.0f} MB" for count in (1024, 4096, 16384)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
