"""What the user asks advice on: the cluster, the model and the size of a step; and the experiment that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wss.config import Experiment
from wss.config.document import Document
from wss.config.load import experiment_of
from wss.errors import ConfigError
from wss.hardware import WAFERS, SwitchedSpec
from wss.metrics.sampling import LEAST

MOST_REDUNDANT = 64  # experts per GPU
_OPTIONS = ("wafer", "model", "batch", "precision", "steps", "seed")


@dataclass(frozen=True, kw_only=True)
class Question:
    """The cluster, the model and the load of a step.

    Attributes
    ----------
    wafer, nodes, model, precision
        Names as in a configuration; *nodes* None: as in the preset.
    redundant
        Numbers of redundant experts per GPU to try.
    batch
        Tokens of a decode step, of all GPUs together.
    steps, layers
        Decode steps to simulate, and MoE layers to draw; all if the model has no more.
    only
        Names of the dumps or workloads of the input to use; all if empty.
    seed
        Seed of the drawn layers and of synthetic routing.
    """

    wafer: str
    model: str
    nodes: int | None = None
    redundant: tuple[int, ...] = (0, 1, 2)
    batch: int = 4096
    precision: str = "fp8"
    steps: int = 4
    layers: int = 16
    only: tuple[str, ...] = ()
    seed: int = 0

    def experiment(self) -> Experiment:
        """Return the experiment without its layouts and routing, which come later.

        Raises ConfigError with one line per wrong value, named as the option of `wss advise`.
        """
        if not self.redundant or not all(0 <= count <= MOST_REDUNDANT for count in self.redundant):
            shown = ",".join(map(str, self.redundant)) or "none"
            right = f"give numbers of experts per GPU from 0 to {MOST_REDUNDANT}, such as 0,1,2"
            raise ConfigError(f"--redundant {shown}: is not right; {right}")
        if self.layers < LEAST:
            raise ConfigError(f"--layers {self.layers}: is not right; give at least {LEAST}")
        preset = WAFERS.get(self.wafer)
        if self.nodes is not None and preset is not None and not isinstance(preset, SwitchedSpec):
            what = f"is for nodes of GPUs, and {self.wafer} is a wafer; leave it out"
            raise ConfigError(f"--nodes {self.nodes}: {what}, or give --wafer h100_nvl8")
        single = self._read(once_per="die")
        is_cluster = isinstance(single.wafer, SwitchedSpec) and single.wafer.nodes > 1
        return self._read(once_per="node") if is_cluster else single

    def _read(self, once_per: str) -> Experiment:
        wafer: Any = self.wafer if self.nodes is None else {"preset": self.wafer, "nodes": self.nodes}
        values = {name: getattr(self, name) for name in ("model", "batch", "precision", "steps", "seed")}
        document = Document(
            "wss advise",
            {
                **values,
                "wafer": wafer,
                "trace": {"synth": {}},
                "layers": {"sample": self.layers},
                "dispatch": {"once_per": once_per},
                "policies": ["ep"],
                "baseline": "ep",
            },
        )
        document.called = {(name,): f"--{name}" for name in _OPTIONS}
        document.called |= {("wafer", "preset"): "--wafer", ("wafer", "nodes"): "--nodes", ("layers",): "--layers"}
        return experiment_of(document)
