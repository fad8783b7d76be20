"""Balancedness of layouts by hand, and beside DeepSeek's own program."""

import json

import numpy as np
import pytest
from kit import shared

from wss.advice import check_layout
from wss.advice.balance import balancedness, tokens_per_gpu
from wss.errors import WssError
from wss.policies.placement.eplb import balance

LOADS = [6.0, 2, 3, 1]  # in order on two GPUs 8 and 4: 6 / 8; the best pairs are 7 and 5: 6 / 7


def files(tmp_path, layout, loads):
    for name, value in (("layout.json", {"physical_to_logical_map": layout}), ("loads.json", {"logical_count": loads})):
        (tmp_path / name).write_text(json.dumps(value))
    return tmp_path / "layout.json", tmp_path / "loads.json"


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([0, 1, 2, 3], 6 / 8),
        ([0, 3, 1, 2], 6 / 7),
        ([0, 1, 3, 0, 2, 3], 6 / 6.5),  # 3 + 2 + 0.5 and 3 + 3 + 0.5
        ([0, 0, 1, 0, 2, 3], 6 / 6),  # a third of expert 0 in each slot: 4 + 2 and 2 + 4
    ],
)
def test_a_layer_by_hand(tmp_path, slots, expected):
    found = check_layout(*files(tmp_path, [slots], [LOADS]), 2)
    assert found.overall == pytest.approx(expected, rel=1e-12)


def test_the_mean_is_over_layers_and_passes_and_leaves_out_what_has_no_tokens(tmp_path):
    """Layers 1 and 2 of three; in pass 1 the one is even, in pass 2 all are on a GPU; an empty pass counts nothing."""
    nothing = [0.0] * 4
    passes = [[nothing, LOADS, [1, 1, 1, 1]], [nothing, [5, 0, 0, 0], [3, 3, 0, 0]], [nothing] * 3]
    found = check_layout(*files(tmp_path, [[0, 1, 2, 3]] * 3, passes), 2)
    assert found.layers == (1, 2)
    np.testing.assert_allclose(found.values, [[6 / 8, 1], [0.5, 0.5]], rtol=1e-12)
    np.testing.assert_allclose(found.by_layer, [[5 / 8, 0.5], [3 / 4, 0.5]], rtol=1e-12)
    assert found.overall == pytest.approx((6 / 8 + 1 + 0.5 + 0.5) / 4)


def test_it_agrees_with_deepseeks_own_program():
    for case in json.loads(shared("reference", "eplb_reference.json").read_text(encoding="utf-8"))["cases"]:
        reference, gpus = case["reference"], case["num_gpus"]
        for layer, own in enumerate(case["load"]):
            slots = np.array(reference["physical_to_logical"][layer]).reshape(gpus, -1)
            placed = np.zeros((len(own), gpus), np.int64)
            np.add.at(placed, (slots, np.arange(gpus)[:, None]), 1)
            expected = reference["mean_gpu_load"][layer] / reference["max_gpu_load"][layer]
            assert balancedness(tokens_per_gpu(np.array(own), placed)) == pytest.approx(expected, rel=1e-9)


def test_eplb_reaches_what_is_possible_by_hand(tmp_path):
    """Two experts of 7 among sixteen on eight GPUs: 14 / 3.5 in order, 8 / 3.5 parted, 3.8 / 3.5 with five replicas."""
    loads = [7.0, 7.0] + [1.0] * 14
    for slots, largest in ((np.arange(16), 14), (balance(np.array(loads), 16, 1, 1, 8), 8)):
        assert check_layout(*files(tmp_path, [slots.tolist()], [loads]), 8).overall == pytest.approx(3.5 / largest)
    slots = balance(np.array(loads), 24, 1, 1, 8)
    assert np.bincount(slots)[:2].tolist() == [5, 5]
    assert check_layout(*files(tmp_path, [slots.tolist()], [loads]), 8).overall == pytest.approx(3.5 / 3.8)


@pytest.mark.parametrize(
    ("layout", "loads", "gpus", "said"),
    [
        ([[0, 1, 2, 3]], [LOADS], 0, "--gpus 0"),
        ([[0, 1, 2, 3]], [LOADS], 3, "3 dies cannot share evenly"),
        ([[0, 1, 2, 4]], [LOADS], 2, "names expert 4"),
        ([[0, 1, 2, 2]], [LOADS], 2, "no slot for expert 3"),
        ([[0, 1, 2, 3]] * 2, [LOADS] * 3, 2, "2 rows"),
        ([[0, 1, 2, 3]] * 3, [LOADS] * 2, 2, "3 rows"),
        ([[0, 1, 2, 3]], [[0.0] * 4], 2, "all counts are zero"),
        ([[0, 1, 2, 3]], [[-1.0, 1, 1, 1]], 2, "0 or more"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, layout, loads, gpus, said):
    with pytest.raises(WssError, match=said) as error:
        check_layout(*files(tmp_path, layout, loads), gpus)
    assert len(error.value.faults) == 1
