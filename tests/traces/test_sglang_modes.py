"""What each forward pass of SGLang's recorder is, and which request its tokens belong to."""

from pathlib import Path

import numpy as np
import pytest
from kit.trace_files import experts_of, save_pt

from wss.errors import TraceError
from wss.models import ModelShape
from wss.traces.importers import Hints, open_source

L, E, K = 3, 16, 4  # layer 0 is dense
EXTEND, DECODE, MIXED, IDLE, VERIFY, DRAFT = 1, 2, 3, 4, 5, 6
HINTS = Hints(top_k=K)


def record(path: Path, *passes: tuple, seed: int = 0, dense: int = -1, beyond: bool = False) -> Path:
    """Write passes of (mode, positions, extend lengths or None, whether experts were recorded)."""
    records = []
    for number, (mode, positions, lengths, *recorded) in enumerate(passes):
        experts = np.full((L, len(positions), 8), -1, np.int32)
        experts[:, :, :K] = experts_of(len(positions), L, K, E, seed=seed * 1000 + number).transpose(1, 0, 2)
        experts[0, :, :K] = dense
        if beyond:
            experts[1:, :, K - 1] = E
        if recorded and not recorded[0]:
            experts[:] = -1
        records.append(
            {
                "forward_pass_id": number,
                "input_ids": list(range(len(positions))),
                "positions": list(positions),
                "extend_seq_lens": lengths,
                "forward_mode": mode,
                "topk_ids_of_layer": experts,
                "misc_objects": [],
            }
        )
    identity = np.tile(np.arange(E), (L, 1)).astype(np.int64)
    return save_pt(path, {"records": records, "last_physical_to_logical_map": identity})


def read(path, hints=HINTS):
    source = open_source(path, "sglang", hints)
    return [(r.num_prefill, r.position.tolist()) for r in source.requests()], source


def test_a_rejected_draft_is_left_out_and_the_last_drafts_are_kept_and_counted(tmp_path):
    path = record(
        tmp_path / "a.pt",
        (EXTEND, range(4), [4]),
        (VERIFY, (4, 5), None),
        (VERIFY, (6, 7), None),
        (VERIFY, (7, 8), None),
    )
    found, source = read(path)
    assert found == [(4, [0, 1, 2, 3, 4, 5, 6, 7, 8])]
    (request,) = source.requests()
    last = experts_of(2, L, K, E, seed=3)[:, 1:]
    assert np.array_equal(request.experts[7:], last), "position 7 is of the pass that was accepted"
    assert sorted(source.remarks.values()) == [1, 1]


def test_verify_passes_of_several_requests(tmp_path):
    """Two requests bring three tokens each; the second accepts less, the first ends; a draft model runs between."""
    path = record(
        tmp_path / "a.pt",
        (EXTEND, (0, 1, 2, 0, 1), [3, 2]),
        (VERIFY, (3, 4, 5, 2, 3, 4), None),
        (DRAFT, (3, 4, 5, 2, 3, 4), [3, 3]),
        (DECODE, (6, 5), None, False),
        (VERIFY, (6, 7, 8, 3, 4, 5), None),
        (VERIFY, (4, 5, 6), None),
        (DECODE, (5,), None),
    )
    found, source = read(path)
    assert found == [(3, list(range(9))), (2, [0, 1, 2, 3, 4, 5])]
    note = source.finish(source.meta).note
    assert "1 passes of a draft model left out" in note
    assert "1 passes in which no expert was recorded left out" in note


@pytest.mark.parametrize(
    "passes",
    [
        [(EXTEND, range(4), [4]), (VERIFY, (4, 5, 5, 6), None)],  # a tree of drafts
        [(EXTEND, range(4), [4]), (VERIFY, (9, 10), None)],  # began before the recording
        [(EXTEND, (0, 1, 0, 1, 2, 3), [2, 4]), (VERIFY, (2, 3, 4, 5), None)],  # one request of 4, or two of 2
    ],
)
def test_verify_passes_that_do_not_fit_are_refused_by_name(tmp_path, passes):
    with pytest.raises(TraceError, match=r"a\.pt: .*record without speculative decoding") as error:
        read(record(tmp_path / "a.pt", *passes))
    assert len(error.value.faults) == 1


def test_a_mixed_pass_has_prompts_and_decode_tokens(tmp_path):
    path = record(
        tmp_path / "a.pt",
        (EXTEND, range(4), [4]),
        (DECODE, (4,), None),
        (MIXED, (0, 1, 2, 5), [3, 1]),
        (MIXED, (3, 4, 6), [2, 1]),  # the second chunk of the prompt
        (DECODE, (7, 5), None),
    )
    assert read(path)[0] == [(4, list(range(8))), (5, list(range(6)))]


def test_a_prompt_of_one_token_in_a_mixed_pass_begins_a_request(tmp_path):
    path = record(tmp_path / "a.pt", (EXTEND, range(4), [4]), (MIXED, (0, 0, 4), [1, 1, 1]), (DECODE, (5, 1, 1), None))
    assert read(path)[0] == [(4, list(range(6))), (1, [0, 1]), (1, [0, 1])]


def test_idle_passes_say_nothing(tmp_path):
    path = record(tmp_path / "a.pt", (EXTEND, range(4), [4]), (IDLE, (), None), (DECODE, (4,), None))
    found, source = read(path)
    assert found == [(4, [0, 1, 2, 3, 4])]
    assert not source.remarks


def test_the_mode_and_not_the_lengths_say_what_a_pass_is(tmp_path):
    path = record(tmp_path / "a.pt", (EXTEND, range(4), [4]), (DECODE, (4,), [1]), (DECODE, (5,), [1]))
    assert read(path)[0] == [(4, [0, 1, 2, 3, 4, 5])]
    with pytest.raises(TraceError, match="record 1 is an extend pass without extend_seq_lens"):
        read(record(tmp_path / "b.pt", (EXTEND, (0,), [1]), (EXTEND, (1,), None)))


@pytest.mark.parametrize("mode", [7, 8, 9, 10])
def test_other_modes_are_refused_by_name(tmp_path, mode):
    with pytest.raises(TraceError, match=f"record 1 has forward_mode {mode}, which is not read"):
        read(record(tmp_path / "a.pt", (EXTEND, range(4), [4]), (mode, (4, 5), [2])))
    for wrong in (0, -1, "extend", 1.5, True):
        with pytest.raises(TraceError, match="is not as SGLang's recorder writes it"):
            read(record(tmp_path / "a.pt", (wrong, range(4), [4])))


def test_ranks_are_told_apart_by_their_whole_recording(tmp_path):
    first = (EXTEND, range(4), [4])
    for name in ("rank0.pt", "rank2.pt"):  # copies of one
        record(tmp_path / name, first, (DECODE, (4,), None), (EXTEND, range(5), [5]), (DECODE, (5, 5), None))
    record(tmp_path / "rank1.pt", first, (EXTEND, range(3), [3]), (EXTEND, range(7), [7]), (DECODE, (4, 3, 7), None))
    record(tmp_path / "rank3.pt", (IDLE, (), None))
    found, source = read(tmp_path)
    assert len(found) == 5
    assert sum(len(positions) for _, positions in found) == 12 + 17
    assert "1 ranks with the tokens of another left out" in source.meta.note


def test_dense_rows_that_are_filled_are_left_out_by_the_model(tmp_path):
    model = ModelShape(
        name="tiny", num_layers=3, moe_layers=(1, 2), num_experts=E, top_k=K, hidden_size=8, moe_intermediate_size=8
    )
    path = record(tmp_path / "a.pt", (EXTEND, range(9), [9]), dense=0)
    _, source = read(path, Hints(model=model))
    assert source.meta.moe_layers == (1, 2)
    with pytest.raises(TraceError, match=r"layer 0: every token has id 0, .* --moe-layers 1-2"):
        read(path)


def test_a_shared_expert_behind_all_slots_is_named(tmp_path):
    with pytest.raises(TraceError, match="expert 16 is used by every token in every layer: a shared expert"):
        read(record(tmp_path / "a.pt", (EXTEND, range(9), [9]), beyond=True))


def test_recorded_columns_of_routed_experts_are_never_cut_off(tmp_path):
    path = record(tmp_path / "a.pt", (EXTEND, range(12), [12]))
    model = ModelShape(
        name="t", num_layers=L, moe_layers=(1, 2), num_experts=E, top_k=2, hidden_size=8, moe_intermediate_size=8
    )
    for hints in (Hints(top_k=2), Hints(model=model)):
        with pytest.raises(
            TraceError, match="record 0 has tokens with 4 experts, more than top-2; give the --top-k, or"
        ):
            read(path, hints)
    fused = record(tmp_path / "b.pt", (EXTEND, range(12), [12]), beyond=True)
    (request,) = read(fused, Hints(top_k=3))[1].requests()
    assert np.array_equal(request.experts, experts_of(12, L, K, E)[:, 1:, :3]), "a fused shared expert's column"
