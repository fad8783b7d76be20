"""Small sweeps: their files, how they are run, and what they leave."""

from wss.config.sweep_file import load_sweep
from wss.report.sweep_folder import write_sweep
from wss.sweeps import Folder, run_sweep, tasks_of
from wss.sweeps.check import identity_of
from wss.sweeps.collect import links_of, provenance_of, rows_of
from wss.sweeps.execute import as_json

TINY = """
config:
  model: {name: tiny, num_layers: 3, moe_layers: [0, 1, 2], num_experts: 8, top_k: 2, hidden_size: 512,
          moe_intermediate_size: 256, source: made up}
  wafer: {preset: dojo, mesh: [2, 2]}
  trace: {synth: {requests: 8, prompt_min: 2, prompt_max: 4, decode_tokens: 3, clusters: 4, subjects: 2}}
  batch: 8
  steps: 2
  policies: [base, ep, pred, allo, allo_pred]
"""
FEW = TINY + "grid:\n  batch: [8, 16]\n  seed: [0, 1]\n"
MANY = TINY + "grid:\n  seed: [0, 1, 2, 3, 4]\n  batch: [8, 16]\n  window: [1, 2]\n"  # 100 tasks
FILES = ("results.parquet", "results.csv", "links.parquet")


def quiet(what, done, total, where):
    pass


def sweep_file(tmp_path, text=FEW, name="tiny.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def do(path, out, workers=1, dask=None):
    """Run a sweep, write its files, and return how many tasks were run."""
    sweep = load_sweep(path, allow_code=True)
    tasks = tasks_of(sweep)
    folder = Folder(out)
    identity = identity_of(sweep, tasks)
    folder.begin(identity, sweep.name)
    count = run_sweep([t for own in tasks for t in own], folder, workers, dask, quiet)
    write_sweep(out, rows_of(sweep, tasks, folder), links_of(sweep, tasks, folder))
    (out / "sweep.json").write_bytes(as_json(provenance_of(sweep, tasks, folder, identity, {})))
    return count


def content(out):
    return {name: (out / name).read_bytes() for name in FILES}


def tasks_in(out):
    return sorted(path.name for path in (out / "tasks").iterdir())
