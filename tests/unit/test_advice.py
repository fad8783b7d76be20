"""Advice: the input is parted, the layout that is best by hand wins, and no layout is judged on what made it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kit.trace_files import experts_of, save_pt, save_sglang

from wss.advice import Question, advise
from wss.advice.engines import engine_notes, start_lines
from wss.advice.evidence import Wanted, read_evidence
from wss.advice.judging import best_of, over_steps
from wss.advice.running_batch import write_running_batch
from wss.advice.text import advice_text, conclusion
from wss.config.models import model_of
from wss.errors import WssError
from wss.traces import RequestRouting, TraceFile, TraceMeta, TraceReader
from wss.traces.load_dumps import Loads
from wss.traces.load_parquet import write_loads
from wss.traces.loads import read_dumps
from wss.traces.reader import write_trace

MODEL = """\
name: tiny
num_layers: 5
moe_layers: [1, 2, 3, 4]
num_experts: 16
top_k: 1
hidden_size: 4096
moe_intermediate_size: 8192
"""
HOT = [14, 14, 8, 8] + [1] * 12  # on eight GPUs the first has 28 of 56 in order; the mean is 7


@pytest.fixture
def model(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MODEL)
    return str(tmp_path / "tiny.yaml")


def dump(path, passes):
    """A dump of SGLang's recorder in mode stat: a ring buffer of steps, of which the last is unused."""
    counts = np.array([[[0] * 16] + [own] * 4 for own in passes] + [np.zeros((5, 16))])
    return save_pt(path, {"rank": 0, "logical_count": counts.astype(np.int32), "average_utilization_rate": None})


def question(model, **changes):
    return Question(**{"wafer": "h100_nvl8", "model": model, "redundant": (0, 1), "batch": 4096, "steps": 2, **changes})


def wanted(model, folder, **changes):
    return Wanted(
        **{"model": model_of(model), "batch": 64, "steps": 2, "only": (), "seed": 0, "folder": folder, **changes}
    )


def test_the_best_layout_by_hand_wins(model, tmp_path):
    """Many tokens, so the fullest GPU decides: 28 in order, 15 parted, and 8 with a redundant expert per GPU.

    EPLB has 3.5 of each 14 and 4 of each 8 in a slot then: 4 + 1 + 1 on four GPUs, 3.5 + 3.5 + 1 on the others.
    """
    path = dump(tmp_path / "d.pt", [HOT] * 4)
    found = advise(path, question(model))
    rows = {row.name: row for row in found.judged}
    assert found.best.name == "eplb_1"
    for name, largest in (("contiguous", 28), ("remap", 15), ("eplb_0", 15), ("eplb_1", 8)):
        assert rows[name].balancedness == pytest.approx(7 / largest, rel=0.03)
    assert rows["contiguous"].gain == 1.0
    assert rows["contiguous"].layer_s / rows["eplb_1"].layer_s == pytest.approx(rows["eplb_1"].gain)
    assert 28 / 15 * 0.8 < rows["eplb_0"].gain < 28 / 15 < rows["eplb_1"].gain < 28 / 8
    assert rows["eplb_1"].redundant_bytes == 4 * found.experiment.model.expert_bytes("fp8")
    assert (found.over, found.layers_run, found.redundant_in_all) == ("steps", 4, 8)
    assert found.best.low < found.best.gain < found.best.high
    assert "eplb with 1 redundant expert per GPU is fastest" in conclusion(found)


def test_no_layout_is_judged_on_the_passes_it_was_made_from(model, tmp_path):
    """The experts that are hot in the second half were cold in the first, so that no replica of them was made."""
    later = HOT[4:] + HOT[:4]
    found = advise(dump(tmp_path / "d.pt", [HOT, HOT, later, later]), question(model, redundant=(1,)))
    rows = {row.name: row for row in found.judged}
    assert rows["eplb_1"].balancedness < 0.5  # 0.87 on the first half
    made = read_evidence(tmp_path / "d.pt", wanted(model, tmp_path))
    halves = read_dumps(Path(made.history.path), model_of(model))
    np.testing.assert_array_equal(halves["made"], [np.multiply(HOT, 2)] * 4)
    np.testing.assert_array_equal(halves["judged"], [np.multiply(later, 2)] * 4)


def test_of_several_dumps_every_second_one_judges_with_equal_weights(model, tmp_path):
    """Three dumps: the first and the third make the layouts, whatever their lengths."""
    path, layers = tmp_path / "three.parquet", (1, 2, 3, 4)
    counts = {"a": HOT, "b": HOT[::-1], "c": np.multiply(HOT[::-1], 1000)}
    write_loads(
        path,
        [
            Loads(name=name, phase="", layers=layers, counts=np.array([own] * 4, np.float64), top_k=1)
            for name, own in counts.items()
        ],
    )
    evidence = read_evidence(path, wanted(model, tmp_path))
    halves = read_dumps(Path(evidence.history.path), model_of(model))
    shares = {name: half[0] / half[0].sum() for name, half in halves.items()}
    np.testing.assert_allclose(shares["made"], np.add(HOT, HOT[::-1]) / 112)
    np.testing.assert_allclose(shares["judged"], np.array(HOT[::-1]) / 56)
    one = read_evidence(path, wanted(model, tmp_path, only=("b",)))
    assert "upper bounds" in one.about[0]


def test_a_trace_is_parted_by_requests(model, tmp_path):
    passes = [(np.concatenate([np.arange(3)] * 12), [3] * 12, experts_of(36, 5, 1, 16, 1))]
    passes += [(np.full(12, 3 + step), None, experts_of(12, 5, 1, 16, 2 + step)) for step in range(3)]
    for _, _, experts in passes:
        experts[:, 0] = -1
    path = save_sglang(tmp_path / "t.pt", passes, np.tile(np.arange(16), (5, 1)))
    evidence = read_evidence(path, wanted(model, tmp_path, steps=9))
    assert isinstance(evidence.trace, TraceFile)
    assert evidence.steps == 3
    parts = [evidence.history.path, tmp_path / "judged.parquet"]
    routing = []
    for part in parts:
        with TraceReader(Path(part)) as reader:
            routing.append([request.experts.tobytes() for request in reader.requests()])
    assert [len(part) for part in routing] == [6, 6]
    assert not set(routing[0]) & set(routing[1])
    found = advise(path, question(model, batch=64))
    assert {row.name for row in found.judged} == {"contiguous", "remap", "eplb_0", "eplb_1", "dup_1"}
    assert "each is repeated 11 times to fill a batch of 64" in found.about[0]


def test_requests_are_served_from_different_places_of_their_decode(tmp_path):
    """Two requests, of 3 + 90 and 0 + 2 tokens, whose experts name the token; a third has no decode."""
    shape = {"moe_layers": (0,), "num_layers": 1, "num_experts": 128, "top_k": 1, "num_requests": 3}
    meta = TraceMeta(model="m", benchmark="", subject="", source="made up", note="", **shape)
    requests = [
        RequestRouting(request=number, position=np.arange(count, dtype=np.int32), num_prefill=prefill, experts=experts)
        for number, (count, prefill) in enumerate([(93, 3), (2, 0), (4, 4)])
        for experts in [np.arange(count, dtype=np.int16)[:, None, None]]
    ]
    write_trace(tmp_path / "t.parquet", meta, requests)
    assert write_running_batch(tmp_path / "r.parquet", tmp_path / "t.parquet", 20, 4, 0) == (10, 4)
    with TraceReader(tmp_path / "r.parquet") as reader:
        found = [request.experts[:, 0, 0].tolist() for request in reader.requests()]
    assert len(found) == 20
    assert all(tokens == list(range(tokens[0], tokens[0] + 4)) for tokens in found[:10])
    firsts = sorted(tokens[0] for tokens in found[:10])
    assert firsts[0] >= 3
    assert set(np.diff(firsts)) <= {8, 9}  # 87 places, ten copies
    assert found[10:] == [[0, 1]] * 10
    write_trace(tmp_path / "p.parquet", meta, requests[2:])
    assert write_running_batch(tmp_path / "q.parquet", tmp_path / "p.parquet", 20, 4, 0) == (0, 0)


def test_an_even_load_keeps_the_contiguous_layout(model, tmp_path):
    found = advise(dump(tmp_path / "d.pt", [[2.0] * 16] * 2), question(model, batch=64, redundant=(1,)))
    assert found.best.kind == "contiguous"
    assert "Keep the contiguous layout" in conclusion(found)
    assert "--init-expert-location" not in " ".join(start_lines(found, "sglang", "l.json"))


def test_how_engines_are_started(model, tmp_path):
    found = advise(dump(tmp_path / "d.pt", [HOT] * 2), question(model, nodes=2))
    line = " ".join(start_lines(found, "sglang", "l.json"))
    extra = found.redundant_in_all
    assert extra == found.best.slots * 16 - 16
    assert "--ep-size 16" in line
    assert "--nnodes 2" in line
    assert f"--init-expert-location l.json --ep-num-redundant-experts {extra}" in line
    assert "--init-expert-location 'my layout.json' --ep" in " ".join(start_lines(found, "sglang", "my layout.json"))
    vllm = " ".join(start_lines(found, "vllm", "l.json"))
    assert f"""--eplb-config '{{"num_redundant_experts": {extra}}}'""" in vllm
    assert "l.json" not in vllm
    assert "loads no layout" in engine_notes(found, "vllm")[-1]
    assert engine_notes(found, "vllm")[0].endswith("--data-parallel-start-rank 8")
    contiguous = next(row for row in found.judged if row.kind == "contiguous")
    half = 4096 / 2  # of the tokens cross, each with a byte of 4,096 elements there and two back
    assert contiguous.cross_node_bytes == pytest.approx(half * 4096 * (1 + 2), rel=1e-9)
    for engine in ("sglang", "vllm"):
        assert max(map(len, advice_text(found, engine, None).splitlines())) <= 100
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("gains", "best"),
    [
        ({("contiguous", 2): 1.0, ("remap", 2): 1.009}, "contiguous"),
        ({("contiguous", 2): 1.0, ("remap", 2): 1.02, ("eplb", 2): 1.03}, "eplb"),
        ({("contiguous", 2): 1.0, ("remap", 2): 1.02, ("eplb", 3): 1.025}, "remap"),
        ({("contiguous", 2): 1.0, ("remap", 2): 1.02, ("eplb", 3): 1.04}, "eplb"),
    ],
)
def test_within_a_percent_the_fewest_redundant_experts_win(gains, best):
    rows = [SimpleNamespace(kind=kind, slots=slots, gain=gain) for (kind, slots), gain in gains.items()]
    assert best_of(rows).kind == best


def test_the_interval_over_steps_by_hand():
    """Ratio 2; residuals 1, 0, -1, with a standard deviation of 1; t of two degrees of freedom is 4.303."""
    low, high = over_steps(np.array([21.0, 20, 19]), np.array([10.0, 10, 10]))
    assert (low, high) == pytest.approx((2 - 4.3027 * 0.1 / 3**0.5, 2 + 4.3027 * 0.1 / 3**0.5), rel=1e-4)
    assert over_steps(np.array([2.0]), np.array([1.0])) is None


def test_experts_that_gpus_cannot_share_evenly_are_noted(model, tmp_path):
    found = advise(dump(tmp_path / "d.pt", [HOT] * 2), question(model, nodes=3, batch=64, redundant=(0,)))
    assert "16 experts cannot be shared evenly by 24 GPUs" in found.notes[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes": 0}, "--nodes: 0 is not right"),
        ({"nodes": 2, "wafer": "dojo"}, "--nodes 2: is for nodes of GPUs"),
        ({"wafer": "h200"}, "--wafer: 'h200' is not known"),
        ({"redundant": ()}, "--redundant none"),
        ({"redundant": (0, -1)}, "--redundant 0,-1"),
        ({"batch": 0}, "--batch: 0 is not right"),
        ({"steps": 0}, "--steps: 0 is not right"),
        ({"layers": 3}, "--layers 3"),
        ({"precision": "fp3"}, "--precision"),
        ({"only": ("x",)}, "has no dump 'x'"),
        ({"model": "deepseek_v3"}, "has loads of 16 experts a layer, the model has 256"),
    ],
)
def test_a_wrong_question_is_one_line(model, tmp_path, changes, said):
    path = dump(tmp_path / "d.pt", [HOT] * 2)
    with pytest.raises(WssError, match=said) as error:
        advise(path, question(**{"model": model, **changes}))
    assert len(error.value.faults) == 1


def test_loads_that_leave_no_choice_of_experts_are_refused(model, tmp_path):
    path = dump(tmp_path / "d.pt", [HOT] * 2)
    content = json.dumps({"logical_count": [[HOT] * 4, [HOT] * 3 + [[0] * 16]]})
    (tmp_path / "few.json").write_text(content)
    with pytest.raises(WssError, match="layer 4 has tokens on fewer than 1 experts in the part that judges"):
        advise(tmp_path / "few.json", question(model))
    np.save(tmp_path / "nan.npy", np.full((4, 16), np.nan))
    for name in ("nan.npy", "nothing.pt"):
        with pytest.raises(WssError, match=name) as error:
            advise(path.parent / name, question(model))
        assert len(error.value.faults) == 1
