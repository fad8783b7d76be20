"""Python examples of documents and notebooks, executed at a reduced size."""

import json
import re
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from wss.api import experiments, sweeps
from wss.config.experiment import LayerSample

BATCH, STEPS = 32, 1


def reduced(experiment):
    """The experiment with a small batch, one step and few layers."""
    layers = experiment.layers
    if isinstance(layers, LayerSample):
        layers = replace(layers, sample=4)
    else:
        layers = (experiment.model.moe_layers if layers == "all" else layers)[:2]
    return replace(experiment, batch=min(BATCH, experiment.batch), steps=STEPS, layers=layers)


def python_of(markdown):
    """The Python blocks of a Markdown text."""
    return re.findall(r"```python\n(.*?)```", markdown, re.S)


def cells_of(path):
    """The code cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def execute(blocks, name):
    """Execute *blocks* one after another in the current folder, every experiment reduced; return the namespace."""
    load, load_sweep = experiments.load_experiment, sweeps.load_sweep

    def small(*arguments, **more):
        return reduced(load(*arguments, **more))

    def small_sweep(*arguments, **more):
        plan = load_sweep(*arguments, **more)
        return replace(plan, points=tuple(replace(p, experiment=reduced(p.experiment)) for p in plan.points))

    script = ModuleType("__main__")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_experiment", small)
        patch.setattr(sweeps, "load_sweep", small_sweep)
        patch.setitem(sys.modules, "__main__", script)
        patch.setenv("MPLBACKEND", "Agg")
        for number, block in enumerate(blocks):
            exec(compile(block, f"{name}, block {number}", "exec"), script.__dict__)
    return script.__dict__
