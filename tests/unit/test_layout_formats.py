"""Layouts in the forms that engines write, each read as the same; and what does not fit, refused."""

import json

import numpy as np
import pytest
import yaml
from kit import placement_view, wafer_of

from wss.config import load
from wss.errors import WssError
from wss.execution import layout_of
from wss.policies.placement.layout_engines import Target
from wss.policies.placement.layout_file import LayoutFile
from wss.workload.fixed_batch import open_batch

from kit.trace_files import save_pt  # isort: skip

WAFER = wafer_of((2, 2))
MAP = [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0]]


def batch_of(experiment):
    return open_batch(experiment.trace, experiment.model, experiment.batch, experiment.steps, experiment.seed)[0]


def history(**changes):
    """Of three layers, the last two MoE, eight experts on four dies."""
    known = {"layers": (1, 2), "num_model_layers": 3, "tokens": 8} | changes
    return placement_view(WAFER, np.zeros((2, 8), np.int64), **known)


def placed(path):
    return LayoutFile(path=str(path)).place(history())


def written(tmp_path, content, name="layout.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def ascend(first=0, **changes):
    """vLLM-Ascend's form of `MAP`; its layers are numbered from *first*."""
    layers = [
        {
            "layer_id": first + layer,
            "device_count": 4,
            "device_list": [{"device_id": die, "device_expert": row[2 * die : 2 * die + 2]} for die in range(4)],
        }
        for layer, row in enumerate(MAP)
    ]
    return {"moe_layer_count": 2, "layer_list": layers} | changes


def ascend_with(first):
    """`ascend`, with other experts on the first device of its first layer."""
    layers = ascend()["layer_list"]
    layers[0]["device_list"][0]["device_expert"] = first
    return ascend(layer_list=layers)


def as_text(value):
    """*value* with its numbers as text."""
    if isinstance(value, dict):
        return {key: as_text(own) for key, own in value.items()}
    return [as_text(own) for own in value] if isinstance(value, list) else str(value)


WHOLE = {
    "SGLang, MoE rows": {"physical_to_logical_map": MAP},
    "SGLang, all rows": {"physical_to_logical_map": [[0] * 8, *MAP]},
    "with sizes": {"physical_to_logical_map": MAP, "ep_size": 4, "num_experts_per_layer": 8, "other": "x"},
    "with sizes, deeper": {
        "metadata": {"ep_size": "4", "nslots": 8, "dp": 2, "tp_size": 4, "num_redundant_experts": 0},
        "draft": {"num_layers": 1},
        "ep": True,
        "experts": ["a", "b"],
        "physical_to_logical_map": MAP,
    },
    "by ranks": {"physical_to_logical_map": np.reshape(MAP, (2, 4, 2)).tolist()},
    "EPLB's inverse": {"logical_to_physical_map": [[[e, -1] for e in range(8)], [[7 - e, -1] for e in range(8)]]},
    "both of EPLB's": {
        "physical_to_logical_map": MAP,
        "logical_to_physical_map": [[[e, -1] for e in range(8)], [[7 - e, -1] for e in range(8)]],
        "expert_to_ep_rank": [[0, 0, 1, 1, 2, 2, 3, 3], [3, 3, 2, 2, 1, 1, 0, 0]],
    },
    "vLLM, bare": MAP,
    "vLLM, ranks": {"expert_to_ep_rank": [[0, 0, 1, 1, 2, 2, 3, 3], [3, 3, 2, 2, 1, 1, 0, 0]]},
    "vLLM 2": {"version": 2, "model_maps": {"Toy": {"physical_to_logical_map": MAP}}},
    "Ascend": ascend(),
    "Ascend, absolute": ascend(1),
    "Ascend, in text": as_text(ascend()),
    "TensorRT-LLM": yaml.safe_dump({"initial_global_assignments": {1: MAP[0], 2: MAP[1]}, "num_slots": 8}),
    "TensorRT-LLM, nested": "# options, as given\n"
    + yaml.safe_dump({"load_balancer": {"initial_global_assignments": {1: MAP[0], 2: MAP[1]}}, "ep": {"a": 1}}),
    "TensorRT-LLM, nested deeper": {
        "moe_config": {"load_balancer": {"initial_global_assignments": dict(enumerate(MAP, 1))}}
    },
    "sizes beside it": {"version": 1, "num_layers": 3, "num_slots": 8, "ep_size": None, "physical_to_logical_map": MAP},
    "sizes beside a model": {
        "version": 2,
        "ep_size": 4,
        "model_maps": {"Toy": {"num_layers": 2, "physical_to_logical_map": MAP}},
    },
    "TensorRT-LLM, JSON": {"initial_global_assignments": {"1": MAP[0], "2": MAP[1]}},
}


@pytest.mark.parametrize("form", WHOLE)
def test_every_form_is_the_same_layout(form, tmp_path):
    found = placed(written(tmp_path, WHOLE[form], "layout.yaml" if isinstance(WHOLE[form], str) else "layout.json"))
    expected = np.zeros((2, 8, 4), np.int64)
    expected[0, np.arange(8), np.arange(8) // 2] = 1
    expected[1, np.arange(8), 3 - np.arange(8) // 2] = 1
    np.testing.assert_array_equal(found, expected)


def test_a_pt_file_is_read_as_json_is(tmp_path):
    of_json = placed(written(tmp_path, {"physical_to_logical_map": MAP}))
    of_pt = placed(save_pt(tmp_path / "map.pt", {"physical_to_logical_map": np.array(MAP)}))
    np.testing.assert_array_equal(of_pt, of_json)
    counts = np.random.default_rng(0).integers(1, 99, (5, 3, 8))
    of_counts = placed(save_pt(tmp_path / "count.pt", {"logical_count": counts, "rank": 0}))
    np.testing.assert_array_equal(of_counts, placed(written(tmp_path, {"logical_count": counts.tolist()})))


INVERSE = [[[e] for e in range(8)]] * 2  # slots 0-7 hold experts 0-7


@pytest.mark.parametrize("said", [{"num_physical_experts": 12}, {"meta": {"num_redundant_experts": 4}}])
def test_the_slots_that_a_file_says_are_those_of_its_inverse_map(said, tmp_path):
    last_empty = placed(written(tmp_path, {"logical_to_physical_map": INVERSE} | said))
    assert last_empty.sum(axis=1).tolist() == [[3, 3, 2, 0]] * 2
    holes = [[[e + e // 2] for e in range(8)]] * 2  # 0, 1, none | 2, 3, none | ...
    found = placed(written(tmp_path, {"logical_to_physical_map": holes} | said))
    assert [die.nonzero()[0].tolist() for die in found[0].T] == [[0, 1], [2, 3], [4, 5], [6, 7]]


EPLB = (np.array(MAP), np.array(MAP)[:, :, None], np.ones((2, 8), np.int64))  # a map that is its own inverse


@pytest.mark.parametrize(
    "content",
    [np.array(MAP), tuple(np.array(MAP)), np.reshape(MAP, (2, 4, 2)), EPLB],
    ids=["a map", "a row a layer", "by ranks", "what EPLB returns"],
)
def test_an_array_that_names_every_expert_is_a_map(content, tmp_path):
    of_json = placed(written(tmp_path, {"physical_to_logical_map": MAP}))
    np.testing.assert_array_equal(placed(save_pt(tmp_path / "map.pt", content)), of_json)
    if isinstance(content, np.ndarray):
        np.save(tmp_path / "map.npy", content)
        np.testing.assert_array_equal(placed(tmp_path / "map.npy"), of_json)


def test_what_eplb_returns_has_to_agree(tmp_path):
    path = save_pt(tmp_path / "map.pt", (EPLB[0], EPLB[1][::-1].copy(), EPLB[2]))
    with pytest.raises(WssError, match="contradicts itself in slot 0 of layer 1: its physical_to_logical_map has exp"):
        placed(path)


def test_an_array_that_can_be_no_map_is_of_loads(tmp_path):
    counts = np.random.default_rng(0).integers(1, 99, (3, 8))
    of_json = placed(written(tmp_path, {"logical_count": counts.tolist()}))
    for array in (counts, counts.astype(np.float32), np.stack([counts, 0 * counts]), tuple(counts)):
        np.testing.assert_array_equal(placed(save_pt(tmp_path / "count.pt", array)), of_json)
    records = [{"global_physical_count": counts}]
    content = {"records": records, "last_physical_to_logical_map": np.tile(np.arange(8), (3, 1))}
    np.testing.assert_array_equal(placed(save_pt(tmp_path / "count.pt", content)), of_json)
    with pytest.raises(WssError, match="as a layout it leaves experts out, and as loads it is of few tokens; save it"):
        placed(save_pt(tmp_path / "few.pt", counts % 5))


def test_experts_by_rank_alone_may_be_unequal(tmp_path):
    found = placed(written(tmp_path, {"expert_to_ep_rank": [0, 0, 0, 0, 0, 1, 2, 3], "num_slots": 8}))
    assert found.sum(axis=1).tolist() == [[5, 1, 1, 1]] * 2


def test_a_file_of_loads_says_what_of_it_is_left_out(tmp_path):
    target = Target((1, 2), 3, 8, 4)
    path = written(tmp_path, {"logical_count": [[1] * 8, [2] * 8, [3] * 8]})
    (note,) = LayoutFile(path=str(path)).notes(target)
    assert note.startswith("layout.json: 8 of 48 tokens (17%) are in layer 0, which the model says is dense")
    assert LayoutFile(path=str(written(tmp_path, MAP))).notes(target) == []


CONFIG = """
model: {name: toy, num_layers: 3, moe_layers: [1, 2], num_experts: 8, top_k: 2, hidden_size: 64,
  moe_intermediate_size: 64}
wafer: {preset: dojo, mesh: [2, 2]}
precision: fp16
trace: {synth: {preset: gpt_oss_20b, loads: loads.json, workload: loads}}
batch: 8
steps: 1
gemm: ideal
baseline: mine
policies: [{name: mine, placement: {kind: file, path: loads.json}, allocation: even},
  {name: past, preset: eplb, history: {path: loads.json}}]
"""


def test_a_run_says_what_of_its_loads_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"logical_count": [[1] * 8, [2] * 8, [3] * 8]}, "loads.json")
    experiment = load(written(tmp_path, CONFIG, "c.yaml"))
    left_out = "loads.json: 8 of 48 tokens (17%) are in layer 0, which the model says is dense, and left out"
    for policy in ("mine", "past"):
        assert f"{policy}: {left_out}" in layout_of(experiment, policy).notes
    assert left_out in batch_of(experiment).notes


@pytest.mark.parametrize("extra", [0, 1, 7])
def test_extra_is_for_loads_alone(extra, tmp_path):
    layout = LayoutFile(path=str(written(tmp_path, MAP)), extra=extra)
    with pytest.raises(WssError, match=rf"is a layout, on which extra: {extra} has no effect; leave extra out$"):
        layout.place(history())
    loads = {"logical_count": MAP}
    found = LayoutFile(path=str(written(tmp_path, loads)), extra=extra).place(history())
    assert (found.sum(axis=1) == 2 + extra).all()


FOUR = """
model: {name: toy, num_layers: 4, moe_layers: [1, 3], num_experts: 8, top_k: 2, hidden_size: 64,
  moe_intermediate_size: 64}
wafer: {preset: dojo, mesh: [2, 2]}
precision: fp16
trace: {synth: {preset: gpt_oss_20b}}
batch: 8
steps: 1
baseline: base
policies: [base, {name: mine, placement: {kind: file, path: loads.json}, allocation: even},
  {name: past, preset: eplb, history: {path: loads.json}}]
"""


@pytest.mark.parametrize("used", ["mine", "past", "loads"])
def test_loads_in_layers_that_the_model_says_are_dense_are_refused_wherever_they_go(used, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"logical_count": [[3] * 8, [0] * 8, [5] * 8, [0] * 8]}, "loads.json")
    text = FOUR.replace("preset: gpt_oss_20b", "preset: gpt_oss_20b, loads: loads.json, workload: loads")
    experiment = load(written(tmp_path, text if used == "loads" else FOUR, "c.yaml"))
    with pytest.raises(WssError, match=r"has 100% of its tokens in layers that the model says are dense \(0, 2\)"):
        batch_of(experiment) if used == "loads" else layout_of(experiment, used)


def test_one_row_is_that_of_all_layers(tmp_path):
    found = placed(written(tmp_path, MAP[1]))
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0, 7].tolist() == [1, 0, 0, 0]


REFUSED = {
    "8 ranks": ({"physical_to_logical_map": MAP, "ep_size": 8}, "says ep_size: 8, and here are 4 dies"),
    "16 experts": ({"physical_to_logical_map": MAP, "num_logical_experts": 16}, "says num_logical_experts: 16, and"),
    "2 ranks": ({"physical_to_logical_map": np.reshape(MAP, (2, 2, 4)).tolist()}, "is for 2 ranks, and here are 4"),
    "5 rows": ({"physical_to_logical_map": [MAP[0]] * 5}, "has 5 rows, the model has 2 MoE layers"),
    "expert 8": ({"physical_to_logical_map": [[0, 1, 2, 3, 4, 5, 6, 8]] * 2}, "names expert 8; the model has 0..7"),
    "no expert 7": ({"physical_to_logical_map": [[0, 1, 2, 3, 4, 5, 6, 6]] * 2}, "no slot for expert 7 of layer 1"),
    "7 slots": ({"physical_to_logical_map": [[0, 1, 2, 3, 4, 5, 6]] * 2}, "has 7 slots per layer, which 4 dies cannot"),
    "true": ({"physical_to_logical_map": [[True] * 8] * 2}, "is not a table of whole numbers"),
    "ragged": ({"physical_to_logical_map": [[0], [1, 2]]}, "is not a table of whole numbers"),
    "rank 4": ({"expert_to_ep_rank": [0, 0, 1, 1, 2, 2, 3, 4]}, "names rank 4, and here are 0..3"),
    "ranks of 4": ({"expert_to_ep_rank": [0, 1, 2, 3]}, "is for 4 experts, the model has 8"),
    "two models": ({"model_maps": {"A": {"physical_to_logical_map": MAP}, "B": {}}}, "its model_maps are for A, B"),
    "a slot twice": ({"logical_to_physical_map": [[[0]] * 8] * 2}, "has slot 0 of layer 1 twice"),
    "a device less": (ascend(layer_list=[{"layer_id": 0, "device_list": []}]), "layer 0 is not on devices 0..3"),
    "layers 5, 6": (ascend(5), "its layers are 2 in 5..6, the model's MoE layers 2 in 1..2"),
    "3 layers said": (ascend(moe_layer_count=3), "says moe_layer_count: 3, and the model has 2 MoE"),
    "no devices": ({"layer_list": [{}]}, "is not as vLLM-Ascend writes it"),
    "slots said": ({"initial_global_assignments": {"1": MAP[0], "2": MAP[1]}, "num_slots": 9}, "says num_slots: 9"),
    "a layer less": ({"initial_global_assignments": {"1": MAP[0]}}, "its layers are 1 in 1..1, the model's MoE layers"),
    "another file": (
        "load_balancer: balancer.yaml\n",
        "names another file for its load balancer, 'balancer.yaml'; give",
    ),
    "no assignments": (
        "moe_config:\n  load_balancer: {num_slots: 8}\n",
        "has no initial_global_assignments, so it gives no",
    ),
    "two balancers": ({"load_balancer": {}, "moe_config": {"load_balancer": {}}}, "has two load balancers; keep one"),
    "nested ranks": (
        {"moe_expert_parallel_size": 8, "load_balancer": {"initial_global_assignments": dict(enumerate(MAP, 1))}},
        "says moe_expert_parallel_size: 8, and here are 4 dies",
    ),
    "a layer in words": (
        ascend(layer_list=[ascend()["layer_list"][0] | {"layer_id": "one"}]),
        "its layer_id 'one' is not a whole",
    ),
    "an expert in words": (ascend_with(["0", "one"]), "its device_expert is not a table of whole numbers"),
    "no layers": ({"layer_list": []}, "its layer_list is empty"),
    "a slot more": (
        ascend_with([0, 1, 2]),
        "has 3 experts on device 0 of layer 0, 2 on device 1 of layer 0; vLLM-Ascend",
    ),
    "a rank more": (
        {"physical_to_logical_map": [[[0, 1, 2], [3, 4], [5, 6], [7, 0]]] * 2},
        "rows and ranks of equal length",
    ),
    "a hole": (
        {"logical_to_physical_map": [[[e + (e > 3), -1] for e in range(8)]] * 2},
        "leaves slot 4 of layer 1 empty",
    ),
    "a slot beyond what is said": (
        {"logical_to_physical_map": [[[e + 5] for e in range(8)]] * 2, "num_physical_experts": 12},
        "names slot 12, but by the rest of the file slots are 0..11",
    ),
    "too many said": (
        {"logical_to_physical_map": INVERSE, "num_physical_experts": 10**12},
        "says num_physical_experts: 1000000000000, and a layer of 8 experts has 8 to 65536 slots",
    ),
    "an inverse of another map": (
        {"physical_to_logical_map": MAP, "logical_to_physical_map": INVERSE},
        "contradicts itself in slot 0 of layer 2: its physical_to_logical_map has expert 7 there, "
        "its logical_to_physical_map 0; keep one of the two",
    ),
    "other ranks than the map": (
        {"physical_to_logical_map": MAP, "expert_to_ep_rank": [0, 0, 1, 1, 2, 2, 3, 3]},
        "contradicts itself in die 0 of layer 2: its physical_to_logical_map has expert 6, 7 there, "
        "its expert_to_ep_rank 0, 1; keep one",
    ),
    "5 layers said": (
        {"physical_to_logical_map": MAP, "num_layers": 5},
        "says num_layers: 5, and its map has 2 rows, the",
    ),
    "2 layers of 3 rows": (
        {"physical_to_logical_map": [MAP[0], *MAP], "num_layers": 2},
        "says num_layers: 2, and its map",
    ),
    "9 slots said": (
        {"physical_to_logical_map": MAP, "num_physical_experts": 9},
        "says num_physical_experts: 9, and its",
    ),
    "a word": ({"physical_to_logical_map": MAP, "ep_size": "four"}, "says ep_size: 'four', and here are 4 dies"),
    "8 ranks by another name": ({"physical_to_logical_map": MAP, "ep": 8}, "says ep: 8, and here are 4 dies"),
    "8 parts": ({"physical_to_logical_map": MAP, "dp_size": 8}, "says dp_size: 8, and here are 4 dies"),
    "8 ranks, deeper": (
        {"physical_to_logical_map": MAP, "metadata": {"args": {"ep-size": "8"}}},
        "says metadata.args.ep-size: 8, and here are 4 dies",
    ),
    "16 slots, deeper": (
        {"physical_to_logical_map": MAP, "metadata": {"num_physical_experts": 16}},
        "says metadata.num_physical_experts: 16, and its map has 8 slots",
    ),
    "8 spare slots": (
        {"physical_to_logical_map": MAP, "ep_num_redundant_experts": 8},
        "says ep_num_redundant_experts: 8, and its map has 8 slots per layer, for 8 experts",
    ),
    "4 slots a rank": (
        {"physical_to_logical_map": MAP, "num_local_physical_experts": 4},
        "says num_local_physical_experts: 4, and its map has 8 slots per layer, on 4 dies",
    ),
    "16 slots of a balancer": (
        {"load_balancer": {"initial_global_assignments": dict(enumerate(MAP, 1))}, "moe": {"num_slots": 16}},
        "says moe.num_slots: 16, and its map has 8 slots",
    ),
    "version 2 alone": ({"version": 2, "physical_to_logical_map": MAP}, "says version: 2, and has no model_maps, as"),
    "version 3": (
        {"version": 3, "model_maps": {"A": {"physical_to_logical_map": MAP}}},
        "says version: 3, and has model_",
    ),
    "8 ranks of a model": (
        {"ep_size": 8, "model_maps": {"A": {"physical_to_logical_map": MAP}}},
        "says ep_size: 8, and",
    ),
    "layers from 0": ({"initial_global_assignments": {"0": MAP[0], "1": MAP[1]}}, "its layers are 2 in 0..1"),
    "a layer twice": (
        f"initial_global_assignments:\n  1: {MAP[0]}\n  2: {MAP[1]}\n  2: {MAP[0]}\n",
        "has the key '2' twice",
    ),
    "a map twice": (
        f'{{"physical_to_logical_map": {MAP}, "physical_to_logical_map": {MAP[::-1]}}}',
        "the key 'physical_to_logical_map' twice",
    ),
    "a slot beyond": ({"logical_to_physical_map": [[[10**12]] * 8] * 2}, "names slot 1000000000000, and 8 replicas at"),
    "one true": ({"physical_to_logical_map": [[0, True, 2, 3, 4, 5, 6, 7]] * 2}, "is not a table of whole numbers"),
    "flows": ({"topology": {}, "flows": []}, "is a set of transfers; run it with `wss flows`"),
    "a result": ({"schema": "wss-summary/2"}, "is wss-summary/2, a result of wss; draw it with `wss report`"),
    "routing": ([{"0": None, "1": [[1]]}], "is recorded routing; import it with `wss trace import`"),
    "a model": ({"num_hidden_layers": 3}, "is a model's config.json; give it as model"),
    "requests": (
        '{"timestamp": 1, "input_length": 2}\n{"timestamp": 2}\n',
        "is a trace of requests and holds no routing",
    ),
    "text": ("nothing of the kind", "has neither physical_to_logical_map nor logical_count"),
    "nothing": ("", "is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case, tmp_path):
    content, what = REFUSED[case]
    path = written(tmp_path, content)
    with pytest.raises(WssError) as error:
        placed(path)
    (fault,) = error.value.faults
    assert fault.startswith(f"{path}: ")
    assert what in fault
