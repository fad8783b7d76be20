"""Placing by what was served before: layouts of two workloads by hand, what may be known, what is refused."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError, TraceError
from wss.execution import layout_of, run
from wss.policies import POLICIES, LoadHistorySpec
from wss.policies.rebalancing import Coming
from wss.serving.load_history import build_load_history
from wss.sweeps.tasks import tasks_of
from wss.testing import check_policy
from wss.testing.policy_contract import check_parts
from wss.traces import RequestRouting, TraceMeta, write_trace
from wss.traces.fingerprints import Fingerprints
from wss.traces.merge import join
from wss.traces.schema import Label
from wss.traces.synthetic.spec import SYNTHS, synth_meta, synthesise

# Where an expert has a token, computing counts, not reading: experts are placed by their tokens.
TINY = """\
model:
  name: tiny
  num_layers: 1
  moe_layers: [0]
  num_experts: 4
  top_k: 1
  hidden_size: 1024
  moe_intermediate_size: 2048
wafer: {preset: dojo, mesh: [1, 2], die: {hbm: {bandwidth: 3000 TB/s}, flops: {fp16: 1 TFLOPS}}}
trace: {path: now.parquet}
batch: 4
steps: 1
gemm: ideal
baseline: ep
policies: [ep, remap]
"""
META = TraceMeta(
    model="tiny", benchmark="b", subject="*", moe_layers=(0,), num_layers=1,
    num_experts=4, top_k=1, num_requests=1, source="by hand", note="",
)  # fmt: skip
# Two decode tokens of each of six requests: in algebra expert 0 has 6, 1 has 5, 2 has 1; in anatomy 2, 3 and 1 have.
ALGEBRA = [(0, 1), (1, 0), (0, 1), (1, 0), (0, 1), (0, 2)]
ANATOMY = [(2, 3), (3, 2), (2, 3), (3, 2), (2, 3), (2, 1)]


def written(path, workloads, meta=META):
    """Write a trace of [(subject, [experts of each request])]; every request has a prompt token, of expert 3."""
    labelled = [(subject, experts) for subject, requests in workloads for experts in requests]
    requests = [
        RequestRouting(
            request=number,
            position=np.arange(1 + len(experts), dtype=np.int32),
            num_prefill=1,
            experts=np.array([3, *experts], np.int16)[:, None, None],
        )
        for number, (_, experts) in enumerate(labelled)
    ]
    labels = tuple(Label(request=number, subject=subject) for number, (subject, _) in enumerate(labelled))
    write_trace(path, replace(meta, requests=labels), requests)
    return path


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    written(tmp_path / "served.parquet", [("algebra", ALGEBRA), ("anatomy", ANATOMY)])
    written(tmp_path / "now.parquet", [("algebra", [(1,), (1,), (1,)]), ("anatomy", [(3,)])])
    return tmp_path / "tiny.yaml"


def mine(history, preset="remap"):
    return f"policies=[ep, {{name: mine, preset: {preset}, history: {history}}}]"


def dies(path, history):
    """Return the experts of each die."""
    (row,) = json.loads(layout_of(load(path, [mine(history)]), "mine").text)["physical_to_logical_map"]
    return {*row[:2]}, {*row[2:]}


def test_layouts_of_two_workloads_by_hand(tiny, tmp_path):
    """The heaviest first, to the emptier die that is not full: first and fourth together, second and third."""
    algebra, anatomy, both = ({0, 3}, {1, 2}), ({2, 0}, {3, 1}), ({2, 3}, {0, 1})
    assert dies(tiny, "{path: served.parquet, only: [algebra]}") == algebra
    assert dies(tiny, "{path: served.parquet, only: [anatomy]}") == anatomy
    # 6, 6, 7 and 5 tokens
    assert dies(tiny, "{path: served.parquet}") == dies(tiny, "{path: served.parquet, only: [b]}") == both
    # three in four of the batch are of algebra: 18, 16, 9 and 5 of 48; then one in four: 6, 8, 19 and 15
    assert dies(tiny, "{path: served.parquet, by: subject}") == algebra
    assert dies(tiny, "{path: served.parquet, by: benchmark}") == both
    written(tmp_path / "now.parquet", [("algebra", [(1,)]), ("anatomy", [(3,), (3,), (3,)])])
    assert dies(tiny, "{path: served.parquet, by: subject}") == anatomy


def test_the_share_of_each_workload_in_the_batch(tiny, tmp_path):
    """1/4 of the batch is of law, of which nothing was served: all that was stands for it."""
    written(tmp_path / "now.parquet", [("algebra", [(1,), (1,)]), ("anatomy", [(3,)]), ("law", [(0,)])])
    known = build_load_history(load(tiny).setup, LoadHistorySpec(path="served.parquet", by="subject"))
    algebra, anatomy, both = np.array([6, 5, 1, 0]) / 12, np.array([0, 1, 6, 5]) / 12, np.array([6, 6, 7, 5]) / 24
    np.testing.assert_allclose(known.load[0] / 1e9, algebra / 2 + anatomy / 4 + both / 4, atol=1e-8)
    assert known.notes == (
        "placed by the loads of earlier requests, 12 requests of served.parquet, each request of the batch by those of "
        "its subject",
        "25% of the batch has a subject without a history; the loads of all requests are used for it",
    )


def test_requests_of_the_batch_are_not_known_beforehand(tiny, tmp_path):
    """The batch is six of twelve requests of the file: the other six are what was served before."""
    (tmp_path / "served.parquet").replace(tmp_path / "now.parquet")
    known = build_load_history(load(tiny, ["batch=6"]).setup, LoadHistorySpec(path="now.parquet"))
    np.testing.assert_allclose(known.load[0] / 1e9, np.array([0, 1, 6, 5]) / 12, atol=1e-8)
    assert known.notes[1] == "6 requests of the history are in the batch and not counted"
    with pytest.raises(TraceError, match=r"now.parquet: all its requests are among those to be served"):
        build_load_history(load(tiny, ["batch=12"]).setup, LoadHistorySpec(path="now.parquet"))


def test_made_up_requests_are_told_by_seed_and_number(tmp_path, tiny):
    synth = "trace={synth: {requests: 8, decode_tokens: 2, prompt_min: 1, prompt_max: 1, clusters: 2}}"
    experiment = load(tiny, [synth, "steps=1", "batch=4"])
    for seed, number in ((0, 4), (1, 8)):
        spec, model = experiment.trace, experiment.model
        write_trace(tmp_path / "made.parquet", synth_meta(spec, model, seed), synthesise(spec, model, seed))
        known = build_load_history(experiment.setup, LoadHistorySpec(path="made.parquet"))
        assert f"{number} requests of made.parquet" in known.notes[0]


def test_made_up_requests_are_told_in_a_joined_trace_whatever_their_numbers(tmp_path, tiny):
    """The file has seed 0 after seed 1, whose numbers those of seed 0 had."""
    synth = "trace={synth: {requests: 8, decode_tokens: 3, prompt_min: 30, prompt_max: 30, clusters: 2}}"
    experiment = load(tiny, [synth, "steps=1", "batch=4"])
    spec, model = replace(experiment.trace, decode_tokens=2), experiment.model
    parts = [tmp_path / f"{seed}.parquet" for seed in (1, 0)]
    for seed, part in zip((1, 0), parts, strict=True):
        write_trace(part, synth_meta(spec, model, seed), synthesise(spec, model, seed))
    join(tmp_path / "joined.parquet", parts)
    known = build_load_history(experiment.setup, LoadHistorySpec(path="joined.parquet"))
    assert known.notes == (
        "placed by the loads of earlier requests, 12 requests of joined.parquet",
        "4 requests of the history are in the batch and not counted",
    )


@pytest.mark.parametrize(("now", "before"), [(4, 40), (40, 4)])
def test_a_request_of_the_batch_is_known_however_much_of_it_was_recorded(now, before, tmp_path, tiny):
    spec, model = SYNTHS["deepseek_v3"], load(tiny).model
    for name, tokens in (("now", now), ("served", before)):
        own = replace(spec, requests=8, decode_tokens=tokens, prompt_min=15, prompt_max=15, clusters=2)
        write_trace(tmp_path / f"{name}.parquet", synth_meta(own, model, 0), synthesise(own, model, 0))
    known = build_load_history(load(tiny, ["batch=3"]).setup, LoadHistorySpec(path="served.parquet"))
    assert known.notes[1] == "3 requests of the history are in the batch and not counted"


def test_requests_are_told_by_all_their_experts():
    """Fewer than *least* tokens alike are chance, unless there are no more on either side."""
    told = Fingerprints([asked(1, 2, 3, 4), asked(5)], 3)
    assert all(request in told for request in (asked(1, 2, 3, 4), asked(1, 2, 3), asked(1, 2, 3, 4, 0), asked(5)))
    others = (asked(1, 2), asked(1, 2, 4), asked(2, 1, 3, 4), asked(5, 1), asked(4), asked(0), asked())
    assert not any(request in told for request in others)
    assert asked(1) not in Fingerprints([], 1)


def asked(*experts):
    """Return a request of these decode tokens."""
    routed = np.array(experts, np.int16)[:, None, None]
    return RequestRouting(request=0, position=np.arange(len(experts), dtype=np.int32), num_prefill=0, experts=routed)


def test_a_batch_with_more_slots_than_requests_has_the_first_ones_more_often(tiny):
    """Five slots: the three requests of algebra and the one of anatomy, and the first of algebra again."""
    known = build_load_history(load(tiny, ["batch=5"]).setup, LoadHistorySpec(path="served.parquet", by="subject"))
    algebra, anatomy = np.array([6, 5, 1, 0]) / 12, np.array([0, 1, 6, 5]) / 12
    np.testing.assert_allclose(known.load[0] / 1e9, algebra * 0.8 + anatomy * 0.2, atol=1e-8)
    assert known.load.sum() == 10**9, "rounded, not cut"


def test_of_requests_that_come_in_later_the_workload_is_not_known(tiny):
    """Two slots: both are of algebra, and the request of anatomy comes last."""
    experiment = load(tiny, ["trace={path: now.parquet, replay: continuous}", "batch=2", "steps=2"])
    known = build_load_history(experiment.setup, LoadHistorySpec(path="served.parquet", by="subject"))
    np.testing.assert_allclose(known.load[0] / 1e9, np.array([6, 5, 1, 0]) / 12, atol=1e-8)


def test_a_workload_that_is_all_served_now_is_said_to_be(tiny, tmp_path):
    """The batch is the requests of algebra; of anatomy nothing is left out."""
    (tmp_path / "served.parquet").replace(tmp_path / "now.parquet")
    experiment = load(tiny, ["batch=6"])
    with pytest.raises(TraceError, match="all its requests of algebra are among those to be served"):
        build_load_history(experiment.setup, LoadHistorySpec(path="now.parquet", only=("algebra",)))
    known = build_load_history(experiment.setup, LoadHistorySpec(path="now.parquet", only=("anatomy",)))
    assert known.notes == ("placed by the loads of earlier requests, 6 requests of now.parquet (anatomy)",)


def test_a_workload_without_decode_is_known_by_its_prefill(tiny, tmp_path):
    written(tmp_path / "served.parquet", [("algebra", [(), ()])])
    known = build_load_history(load(tiny).setup, LoadHistorySpec(path="served.parquet"))
    assert known.load.tolist() == [[0, 0, 0, 10**9]]


def tables(path, dumps):
    """Write a table of loads, of one layer."""
    columns = {"dump": [*dumps], "phase": ["decode"] * len(dumps), "layer": pa.array([0] * len(dumps), pa.int16())}
    pq.write_table(pa.table(columns | {"logical_count": [*dumps.values()]}), path)


def test_tables_of_loads_count_alike(tiny, tmp_path):
    """However long each was recorded."""
    tables(tmp_path / "loads.parquet", {"short": [1, 0, 0, 1], "long": [0, 3000, 1000, 0]})
    known = build_load_history(load(tiny).setup, LoadHistorySpec(path="loads.parquet"))
    assert (known.load[0] / 1e9).tolist() == [0.25, 0.375, 0.125, 0.25]
    known = build_load_history(load(tiny).setup, LoadHistorySpec(path="loads.parquet", only=("long",)))
    assert (known.load[0] / 1e9).tolist() == [0, 0.75, 0.25, 0]
    assert known.notes == ("placed by the loads of earlier requests, 1 tables of loads of loads.parquet (long)",)
    tables(tmp_path / "loads.parquet", {"shares": [0.1, 0, 0, 0.3], "long": [0, 3000, 1000, 0]})
    known = build_load_history(load(tiny).setup, LoadHistorySpec(path="loads.parquet"))
    assert (known.load[0] / 1e9).tolist() == [0.125, 0.375, 0.125, 0.375]


REFUSED = {
    "no file": ("{path: none.parquet}", "none.parquet: does not exist"),
    "no such workload": (
        "{path: served.parquet, only: [anatomi]}",
        "has no workload 'anatomi'; did you mean 'anatomy'",
    ),
    "of another model": ("{path: other.parquet}", "other.parquet: has 1 layers of 5 experts, tiny has 1 of 4"),
    "of other layers": ("{path: later.parquet}", "later.parquet: its MoE layers are not those of tiny"),
    "loads of another model": (
        "{path: loads.parquet}",
        "loads.parquet: d: has loads of 3 experts a layer, the",
    ),
    "no subject of the batch": ("{path: law.parquet, by: subject}", "law.parquet: has no request of a subject that"),
    "a wrong key": (
        "{path: served.parquet, of: law}",
        "policies.1.history.of: is not a key here; known: by, only, path",
    ),
    "a wrong way": ("{path: served.parquet, by: hand}", "policies.1.history.by: 'hand' is not right"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_said_in_one_line(case, tiny, tmp_path):
    history, says = REFUSED[case]
    written(tmp_path / "other.parquet", [("algebra", ALGEBRA)], replace(META, num_experts=5))
    written(tmp_path / "later.parquet", [("algebra", ALGEBRA)], replace(META, num_layers=2, moe_layers=(1,)))
    written(tmp_path / "law.parquet", [("law", ALGEBRA)])
    tables(tmp_path / "loads.parquet", {"d": [1, 2, 3]})
    with pytest.raises((ConfigError, TraceError), match=re.escape(says)) as caught:
        run(load(tiny, [mine(history)]))
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("preset", "reads"),
    [("ep", "no signal"), ("separated", "prefill_load and coactivation"), ("oracle_best", "decode_load")],
)
def test_a_placement_that_reads_other_signals_is_refused(preset, reads, tiny):
    with pytest.raises(ConfigError, match=f"policy mine: its placement reads {reads}, and not only the loads"):
        run(load(tiny, [mine("{path: served.parquet}", preset)]))


def test_a_whole_run_waits_for_the_die_with_most_tokens(tiny, tmp_path):
    """6, 5 and 1 tokens of algebra: 6 and 6 on the dies by its own loads, 7 and 5 by anatomy's, 11 and 1 without."""
    written(tmp_path / "now.parquet", [("algebra", [(0,)] * 6 + [(1,)] * 5 + [(2,)])])
    history = "{{name: {0}, preset: remap, history: {{path: served.parquet, only: [{0}]}}}}".format
    policies = f"policies=[ep, remap, {history('algebra')}, {history('anatomy')}]"
    result = run(load(tiny, ["batch=12", policies]))
    time = {figures["policy"]: figures["decode_time_s"] for figures in result.to_dict()["runs"]}
    assert time["anatomy"] == pytest.approx(time["algebra"] * 7 / 6, rel=0.01)
    assert time["ep"] == pytest.approx(time["algebra"] * 11 / 6, rel=0.01)
    said = {policy["name"]: policy for policy in result.to_dict()["provenance"]["config"]["policies"]}
    assert said["anatomy"]["history"] == {"path": "served.parquet", "only": ["anatomy"], "by": "all"}
    assert "history" not in said["remap"]
    digest = hashlib.sha256((tmp_path / "served.parquet").read_bytes()).hexdigest()
    assert result.to_dict()["provenance"]["outside"] == {"history served.parquet": digest}
    assert "outside" not in run(load(tiny, ["batch=12"])).to_dict()["provenance"]
    assert any(
        note.startswith("algebra: placed by the loads of earlier requests, 6 requests of") for note in result.notes
    )


COMING = (
    "{name: mine, preset: remap, history: {path: served.parquet, only: [anatomy]}, "
    "rebalancing: {kind: coming, at: 3, %s, history: {path: served.parquet, only: [algebra]}}}"
)


@pytest.mark.parametrize("how", ["how: blocking", "how: background", "how: background, gain: 0.2"])
def test_experts_move_for_a_workload_that_is_to_come(how, tiny, tmp_path):
    """The dies have 7 and 5 of 12 tokens before step 3 and, laid out for algebra, 6 and 6 from it on.

    A seventh is gained, and not a fifth.
    """
    written(tmp_path / "now.parquet", [("algebra", [(0,) * 4] * 6 + [(1,) * 4] * 5 + [(2,) * 4])])
    result = run(load(tiny, ["batch=12", "steps=4", f"policies=[ep, {COMING % how}]"]))
    (ledger,) = [ledger for ledger in result.ledgers if ledger.policy == "mine"]
    step = {row.step: row.time_s for row in ledger.rows}
    then = 1 if "gain" in how else 6 / 7
    assert step[2] == pytest.approx(step[1], rel=0.01)
    assert step[4] == pytest.approx(step[1] * then, rel=0.01)
    assert (
        "mine, when it rebalances: placed by the loads of earlier requests, 6 requests of served.parquet (algebra)"
        in result.notes
    )


def test_of_sampled_layers_each_moves_by_its_own_loads(tiny, tmp_path):
    """In layer l expert e is called (e + l) mod 4; 7 and 5 tokens become 6 and 6 in every one of those drawn."""
    meta = replace(META, num_layers=6, moe_layers=tuple(range(6)))

    def layered(name, requests, subjects):
        rows = [np.array([3, *experts], np.int16)[:, None, None] for experts in requests]
        routed = [
            RequestRouting(
                request=number,
                position=np.arange(len(row), dtype=np.int32),
                num_prefill=1,
                experts=(row + np.arange(6, dtype=np.int16)[:, None]) % 4,
            )
            for number, row in enumerate(rows)
        ]
        labels = tuple(Label(request=number, subject=subject) for number, subject in enumerate(subjects))
        write_trace(tmp_path / name, replace(meta, requests=labels), routed)

    layered("served.parquet", ALGEBRA + ANATOMY, ["algebra"] * 6 + ["anatomy"] * 6)
    layered("now.parquet", [(0,) * 4] * 6 + [(1,) * 4] * 5 + [(2,) * 4], ["algebra"] * 12)
    model = ["model.num_layers=6", "model.moe_layers=[0, 1, 2, 3, 4, 5]", "layers={sample: 4}"]
    policy = COMING % "how: blocking"
    result = run(load(tiny, [*model, "batch=12", "steps=4", f"policies=[ep, {policy}]"]))
    (ledger,) = [ledger for ledger in result.ledgers if ledger.policy == "mine"]
    time = {(row.step, row.layer): row.time_s for row in ledger.rows if row.phase == "decode"}
    assert len(time) == 4 * 4
    for step, layer in time:
        if step == 4:
            assert time[4, layer] == pytest.approx(time[1, layer] * 6 / 7, rel=0.01)


def test_that_decode_ended_before_the_workload_came_is_said(tiny, tmp_path):
    written(tmp_path / "now.parquet", [("algebra", [(0,) * 3] * 4)])
    for steps in (2, 3):
        notes = run(load(tiny, [f"steps={steps}", f"policies=[ep, {COMING % 'how: blocking'}]"])).notes
        assert ("mine: decode ended before it rebalanced" in notes) == (steps == 2)


def test_the_contract_is_kept_with_a_history_too(tiny):
    """It is tried without it: the trial has models of its own."""
    check_parts(POLICIES["remap"])
    earlier = LoadHistorySpec(path="served.parquet")
    policy = replace(POLICIES["remap"], history=earlier, rebalancing=Coming(at=3, history=earlier))
    check_policy(policy, wafers=["a die alone"])


def test_what_a_history_says_is_part_of_a_sweeps_task(tiny, tmp_path):
    config = "".join(f"  {line}\n" for line in TINY.splitlines() if not line.startswith("policies"))
    policies = "  policies: [ep, {name: mine, preset: remap, history: {path: served.parquet}}]\n"
    (tmp_path / "sweep.yaml").write_text(f"config:\n{config}{policies}grid: {{seed: [0]}}\n", encoding="utf-8")

    def keys():
        ((ep, own),) = tasks_of(load_sweep(tmp_path / "sweep.yaml"))
        return ep.key, own.key

    before = keys()
    assert keys() == before
    written(tmp_path / "served.parquet", [("algebra", ALGEBRA)])
    assert [a == b for a, b in zip(keys(), before, strict=True)] == [True, False]


def test_what_a_table_of_popularity_says_is_part_of_a_sweeps_task(tiny, tmp_path):
    config = "".join(f"  {line}\n" for line in TINY.splitlines() if not line.startswith(("trace", "policies")))
    trace = "  trace: {synth: {loads: loads.parquet, workload: d}}\n  policies: [ep]\n"
    (tmp_path / "sweep.yaml").write_text(f"config:\n{config}{trace}grid: {{seed: [0]}}\n", encoding="utf-8")
    found = []
    for load_of_0 in (1, 1, 2):
        tables(tmp_path / "loads.parquet", {"d": [load_of_0, 1, 1, 1]})
        ((ep,),) = tasks_of(load_sweep(tmp_path / "sweep.yaml"))
        found.append(ep.key)
    assert found[0] == found[1] != found[2]
