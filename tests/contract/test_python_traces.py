"""Routing traces in Python."""

import numpy as np
import pytest

import wss
from wss.errors import OutputError, TraceError


def test_a_trace_is_written_and_read(tmp_path):
    model = wss.MODELS["gpt_oss_20b"]
    rng = np.random.default_rng(1)
    arrays = [rng.random((tokens, 24, 32)).argsort(axis=2)[..., :4] for tokens in (5, 7)]
    path = wss.write_trace(tmp_path / "a.parquet", iter(arrays), [2, 3], model=model, source="a test", note="ours")
    with wss.open_trace(path) as trace:
        assert (trace.meta.model, trace.meta.source, trace.meta.note) == (model.name, "a test", "ours")
        assert (trace.meta.moe_layers, trace.meta.num_requests, trace.num_rows) == (model.moe_layers, 2, 12)
        for request, array, prompt in zip(trace.requests(), arrays, (2, 3), strict=True):
            assert np.array_equal(request.experts, array)
            assert request.num_prefill == prompt
            assert request.position.tolist() == list(range(len(array)))
    experiment = wss.load("gpt_oss_20b", trace={"path": path}, batch=2, steps=1, layers=[0], policies=["base", "ep"])
    assert not wss.run(experiment).figure("ep", "synthetic").value


SOUND = np.arange(4 * 24 * 3).reshape(3, 24, 4) % 32
BAD = {
    "an expert that does not exist": ([np.where(SOUND == 31, 32, SOUND)], [1], "layer 7: expert 32 does not exist"),
    "an expert of another number": ([SOUND + 2**16], [1], "layer 0: expert 65536 does not exist; ids lie in 0..31"),
    "padding": ([np.where(SOUND == 31, -1, SOUND)], [1], "layer 7: expert -1 does not exist"),
    "an expert twice": ([np.zeros_like(SOUND)], [1], "experts [0, 0, 0, 0] repeat"),
    "too few layers": ([SOUND[:, :5]], [1], "request 0 has experts of shape (3, 5, 4)"),
    "no layers": ([SOUND[0]], [1], "request 0: its experts are int64 [24, 4]; give whole numbers"),
    "weights": ([SOUND / 32], [1], "request 0: its experts are float64 [3, 24, 4]; give whole numbers"),
    "ragged": ([[[[1], [1, 2]]]], [1], "request 0: its experts are float64 [0]"),
    "too long a prompt": ([SOUND], [4], "request 0 has 3 tokens, 4 of them prefill"),
    "no length": ([SOUND, SOUND], [1], "request 1: its prompt length is None"),
    "a length too many": ([SOUND], [1, 1], "there are more prompt_lengths than requests"),
    "half a token": ([SOUND], [1.5], "request 0: its prompt length is 1.5"),
    "one length": ([SOUND], 1, "experts and prompt_lengths must be lists"),
    "nothing": ([], [], "there is no request to write"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_trace_that_does_not_fit_its_model_is_not_written(name, tmp_path):
    arrays, lengths, right = BAD[name]
    with pytest.raises(TraceError) as error:
        wss.write_trace(tmp_path / "a.parquet", arrays, lengths, model="gpt_oss_20b", source="a test")
    assert right in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_trace_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "a.parquet"
    for force in (False, True):
        wss.write_trace(path, [SOUND], [1], model="gpt_oss_20b", source="a test", force=force)
    with pytest.raises(OutputError, match="exists; give another path, or force=True to replace it"):
        wss.write_trace(path, [SOUND], [1], model="gpt_oss_20b", source="a test")
    path.write_text("not ours")
    with pytest.raises(OutputError, match="is not a trace that wss wrote"):
        wss.write_trace(path, [SOUND], [1], model="gpt_oss_20b", source="a test", force=True)
    assert path.read_text() == "not ours"
