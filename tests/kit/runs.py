"""Small experiments, as YAML and as objects, and a summary without what differs between machines."""

import json
from dataclasses import replace

from wss.config import Experiment
from wss.hardware import WAFERS
from wss.models import ModelShape
from wss.policies import POLICIES
from wss.traces.synthetic.spec import SynthSpec

SMALL = """\
model:
  name: tiny
  num_layers: 4
  moe_layers: [1, 2, 3]
  num_experts: 12
  top_k: 2
  hidden_size: 1024
  moe_intermediate_size: 2048
wafer: {preset: dojo, mesh: [2, 3]}
trace: {synth: {skew: 1.2, requests: 40, decode_tokens: 6, prompt_min: 2, prompt_max: 5}}
batch: 40
steps: 3
gemm: ideal
policies: [base, ep, pred, allo, allo_pred]
"""


def without_host(summary):
    summary = json.loads(json.dumps(summary))
    del summary["provenance"]["host"], summary["provenance"]["times"]
    return summary


ROW_MODEL = ModelShape(
    name="tiny", num_layers=2, moe_layers=(0, 1), num_experts=6, top_k=2, hidden_size=1024, moe_intermediate_size=2048
)
THREE_DIES = Experiment(
    model=ROW_MODEL, wafer=replace(WAFERS["dojo"], mesh=(1, 3)), trace=SynthSpec(requests=40, decode_tokens=4),
    batch=40, steps=3, policies=(POLICIES["base"], POLICIES["pred"]),
)  # fmt: skip
