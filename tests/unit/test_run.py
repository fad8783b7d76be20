"""The whole walk on small experiments: what is conserved, what is reproducible, what may be known."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from kit import ROOT, shared
from kit.runs import SMALL, without_host

from wss.cli import cli
from wss.config import load
from wss.errors import CapacityError, ConfigError, TraceError
from wss.execution import run, run_many
from wss.metrics.measures import gini
from wss.policies import POLICIES, Allocation, Placement, Prediction, Prefetching, Signal
from wss.policies.allocation.basic import Home
from wss.report import to_json
from wss.serving.policy_host import PolicyHost
from wss.traces import RequestRouting, TraceReader, write_trace
from wss.traces.load_dumps import Loads
from wss.traces.load_parquet import write_loads
from wss.traces.synthetic.spec import synth_meta, synthesise


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_experiments_in_lockstep_are_each_as_if_run_alone(small):
    """On other wafers, with other policies and several seeds; the routing is that of all."""
    common = ["replications=2", "layers=[1, 3]"]
    changes = [["policies=[base]"], ["wafer.mesh=[2, 2]", "policies=[base]"], ["policies=[ep, pred]", "baseline=ep"]]
    experiments = [load(small, [*common, *change]) for change in changes]
    steps = []
    together = run_many(experiments, lambda what, done, total, where: steps.append((done, total)))
    assert steps == [(i + 1, len(steps)) for i in range(len(steps))]
    for experiment, result in zip(experiments, together, strict=True):
        alone = run(experiment).to_dict()
        both = result.to_dict()
        assert both["runs"] == alone["runs"]
        assert both["replications"] == alone["replications"]
        assert both["provenance"]["notes"] == alone["provenance"]["notes"]
        assert both["provenance"]["config"] == alone["provenance"]["config"]
        times = both["provenance"]["times"]
        assert sorted(times["layer_runs_cpu_s"]) == sorted(policy.name for policy in experiment.policies)
        assert 0 < times["trace_cpu_s"] < times["cpu_s"]


def test_experiments_of_different_routing_do_not_run_in_lockstep(small):
    one = load(small)
    with pytest.raises(ConfigError, match="seed: differs between experiments that are to run in lockstep"):
        run_many([one, replace(one, seed=one.seed + 1)])


def test_the_summary_adds_up(small):
    result = run(load(small))
    assert result.to_dict()["schema"] == "wss-summary/2"
    runs = {r["policy"]: r for r in result.to_dict()["runs"]}
    assert list(runs) == sorted(runs)
    for ledger in result.ledgers:
        own = runs[ledger.policy]
        decode = [row for row in ledger.rows if row.step > 0]
        assert own["kernels"] == len(decode) == 9
        assert own["decode_time_s"] == pytest.approx(sum(row.time_s for row in decode))
        assert own["hops"] == sum(row.hops for row in decode)
        assert own["speedup"] == pytest.approx(runs["base"]["decode_time_s"] / own["decode_time_s"])
        assert own["bound_ratio"] == pytest.approx(own["decode_time_s"] / own["lower_bound_s"])
        assert own["bound_ratio"] >= 1
        assert own["imbalance"] == pytest.approx(own["decode_time_s"] / sum(row.mean_die_time_s for row in decode))
        flop = 6 * 1024 * 2048 * sum(row.tokens for row in decode)
        assert own["compute_share"] == pytest.approx(flop / (6 * 989e12) / own["decode_time_s"])
        assert own["throughput_tokens_per_s"] == pytest.approx(3 * 40 / own["decode_time_s"])
        assert own["step_time_mean_s"] * 3 == pytest.approx(own["decode_time_s"])
        assert own["link_bytes"] == pytest.approx(own["byte_hops"] * 1.25)
        assert own["prefill_time_s"] > 0
        assert all(row.time_s >= row.lower_bound_s for row in ledger.rows)
    assert runs["ep"]["hops"] == runs["ep"]["remote_read_bytes"] == 0
    assert runs["base"]["local_write_bytes"] == 0
    assert runs["pred"]["local_write_bytes"] > 0
    reads = {r["local_read_bytes"] + r["remote_read_bytes"] for r in (runs["base"], runs["ep"], runs["pred"])}
    assert len(reads) == 1, "whole experts are read once each, wherever"


def test_kernels_and_links_are_written_beside_the_summary(small, tmp_path):
    result = run(load(small))
    out = result.write(tmp_path / "out")
    layer_runs = pq.read_table(out / "layers.parquet").to_pydict()
    assert len(layer_runs["time_s"]) == 5 * 3 * 4
    assert set(layer_runs["phase"]) == {"prefill", "decode"}
    assert set(layer_runs["layer"]) == {1, 2, 3}
    links = pq.read_table(out / "links.parquet").to_pydict()
    for own in result.to_dict()["runs"]:
        rows = [i for i, policy in enumerate(links["policy"]) if policy == own["policy"]]
        assert len(rows) == 14
        assert sum(links["bytes"][i] for i in rows) == pytest.approx(own["link_bytes"])
        assert max(links["utilization"][i] for i in rows) == pytest.approx(own["max_link_utilization"])
        assert max(links["busy_s"][i] for i in rows) <= own["decode_time_s"] * (1 + 1e-9)
    assert json.loads((out / "summary.json").read_text()) == result.to_dict()


def test_the_same_experiment_gives_the_same_bytes_in_any_order_of_policies(small):
    first = run(load(small))
    again = run(load(small))
    turned = run(load(small, ["policies=[allo_pred, pred, ep, allo, base]"]))
    assert to_json(without_host(first.to_dict())) == to_json(without_host(again.to_dict()))
    assert to_json(without_host(first.to_dict())) == to_json(without_host(turned.to_dict()))


def test_another_seed_gives_another_result(small):
    times = [run(load(small, [f"seed={seed}"])).to_dict()["runs"][0]["decode_time_s"] for seed in (0, 1)]
    assert times[0] != times[1]


def test_a_synthetic_trace_on_disk_runs_as_the_one_made_on_the_spot(small, tmp_path):
    experiment = load(small)
    path = tmp_path / "t.parquet"
    spec = experiment.trace
    write_trace(path, synth_meta(spec, experiment.model, 0, 40), synthesise(spec, experiment.model, 0))
    on_the_spot = run(experiment).to_dict()["runs"]
    from_disk = run(load(small, [f"trace.path={path}"])).to_dict()["runs"]
    assert from_disk == on_the_spot
    assert all(r["synthetic"] for r in from_disk)


@pytest.mark.parametrize("cut", [1, 2])
def test_no_policy_sees_the_future(small, tmp_path, cut):
    """Routing after step *cut* is replaced: no row up to that step may change, and some row after it must."""
    experiment = load(small, ["steps=4"])
    before = run(experiment)
    spec, model = experiment.trace, experiment.model

    def with_another_future():
        for request in synthesise(spec, model, 0):
            experts = request.experts.copy()
            later = slice(request.num_prefill + cut, None)
            experts[later] = (experts[later] + 5) % model.num_experts
            yield RequestRouting(
                request=request.request, position=request.position, num_prefill=request.num_prefill, experts=experts
            )

    path = tmp_path / "t.parquet"
    write_trace(path, synth_meta(spec, model, 0), with_another_future())
    after = run(load(small, ["steps=4", f"trace.path={path}"]))
    for old, new in zip(before.ledgers, after.ledgers, strict=True):
        past = [row for row in old.rows if row.step <= cut]
        assert past == [row for row in new.rows if row.step <= cut]
        assert old.rows != new.rows


def test_fewer_steps_are_the_beginning_of_more(small):
    short, long = run(load(small, ["steps=2"])), run(load(small, ["steps=4"]))
    for few, many in zip(short.ledgers, long.ledgers, strict=True):
        assert few.rows == many.rows[: len(few.rows)]


def test_layers_do_not_meet(small):
    """Copies and LLCs apart, a layer runs alone as it runs with the others; throughput is then unknown."""
    no_llc = "wafer.die.llc.size=0 B"
    whole, part = run(load(small, [no_llc])), run(load(small, [no_llc, "layers=[2]"]))
    for name in ("base", "ep", "allo"):
        all_rows = next(ledger.rows for ledger in whole.ledgers if ledger.policy == name)
        rows = next(ledger.rows for ledger in part.ledgers if ledger.policy == name)
        assert rows == [row for row in all_rows if row.layer == 2]
    assert all(r["throughput_tokens_per_s"] is None for r in part.to_dict()["runs"])
    assert part.to_dict()["runs"][0]["layers_run"] == 1


def test_what_does_not_fit_is_refused_with_the_shortfall_and_a_way_out():
    configs = ROOT / "configs"
    with pytest.raises(CapacityError) as error:
        run(load(configs / "kimi_k2.yaml", ["precision=fp16"]))
    weights, usable = 60 * 384 * 3 * 7168 * 2048 * 2, 25 * 72e9
    (fault,) = error.value.faults
    for part in (
        "allo: moonshotai/Kimi-K2-Instruct in fp16 does not fit dojo: its experts take ",
        f"on die (0,0), {16 * 60 * 3 * 7168 * 2048 * 2 / 1e9 - 72:.4g} GB more than the usable 72 GB of its HBM",
        f"(all dies: {weights / 1e12:.4g} TB of {usable / 1e12:.4g} TB, at 2 B a weight)",
        "precision fp8 fits",
    ):
        assert part in fault


class Cheat(Allocation):
    """Allocations that break the rules, one each."""

    def __init__(self, breach):
        self._breach = breach

    def allocate(self, view):
        plan = Home().allocate(view)
        changed = {
            "half the tokens": {"tokens": plan.tokens // 2 + 0},
            "a die too many": {"die": plan.die * 0 + view.num_dies},
            "not a holder": {"source": (plan.source + 1) % view.num_dies},
        }[self._breach]
        return replace(plan, **changed)


@pytest.mark.parametrize("breach", ["half the tokens", "a die too many", "not a holder"])
def test_a_policy_that_breaks_the_rules_is_refused(small, breach):
    experiment = load(small)
    policy = replace(experiment.policies[1], name="base", allocation=Cheat(breach))
    with pytest.raises(ConfigError, match="policy base: its plan"):
        run(replace(experiment, policies=(policy,)))


def test_a_policy_cannot_write_to_what_it_sees(small):
    class Vandal(Allocation):
        def allocate(self, view):
            view.counts[0] = 0
            return Home().allocate(view)

    experiment = load(small)
    with pytest.raises(ConfigError, match=r"its allocation failed at test_run\.py:\d+ \(ValueError: .*read-only"):
        run(replace(experiment, policies=(replace(experiment.policies[0], allocation=Vandal()),)))


class Broken:
    """A part that answers wrongly."""

    def __init__(self, answer):
        self._answer = answer


class BrokenAllocation(Broken, Allocation):
    def allocate(self, view):
        return self._answer(view)


class BrokenPlacement(Broken, Placement):
    def place(self, view):
        return self._answer(np.ones((view.num_layers, view.num_experts, view.num_dies), np.bool_))


class BrokenPrediction(Broken, Prediction):
    def predict(self, view):
        return self._answer(view.plan)


class BrokenPrefetching(Broken, Prefetching):
    signals = frozenset({Signal.POPULARITY})

    def prefetch(self, view):
        return self._answer(view.popularity)


BROKEN = {
    "allocation": BrokenAllocation,
    "placement": BrokenPlacement,
    "prediction": BrokenPrediction,
    "prefetching": BrokenPrefetching,
}


def changed(**columns):
    return lambda view: replace(Home().allocate(view), **{k: f(Home().allocate(view)) for k, f in columns.items()})


WRONG = {
    "no plan": ("allocation", lambda view: None, "is a NoneType"),
    "fractions": ("allocation", changed(tokens=lambda p: p.tokens + 0.5), "it should have whole numbers"),
    "lengths that differ": ("allocation", changed(die=lambda p: p.die[:-1]), "one length"),
    "two dimensions": ("allocation", changed(die=lambda p: p.die[None]), "one length"),
    "an expert too many": ("allocation", changed(expert=lambda p: p.expert + 9999), "uses experts that do not exist"),
    "an error": ("allocation", lambda view: 1 / 0, "its allocation failed at test_run.py:"),
    "nowhere": ("placement", lambda all_: all_ & False, "puts expert 0 of layer 0 on no die"),
    "numbers": ("placement", lambda all_: all_ * 1.0, "its placement is float64"),
    "a flat one": ("placement", lambda all_: all_[0], "its placement is bool [12, 6]"),
    "counts": ("prediction", lambda plan: plan.tokens, "its prediction is int64"),
    "one for all": ("prediction", lambda plan: np.True_, "its prediction is bool []"),
    "a flat prefetch": ("prefetching", lambda seen: seen, "its prefetching is int64"),
    "what no die holds": (
        "prefetching",
        lambda seen: np.full((6, 1), 11),
        "its prefetching names experts that the die does not hold",
    ),
    "expert 99": ("prefetching", lambda seen: np.full((6, 1), 99), "its prefetching names experts that do not exist"),
    "a ragged prefetch": ("prefetching", lambda seen: [[1], [2, 3]], "its prefetching is not an array"),
    "a ragged plan": ("allocation", changed(tokens=lambda p: [[1], [2, 3]]), "its tokens is not an array"),
    "a changed plan": ("prediction", lambda plan: plan.tokens.fill(1), "its prediction failed at test_run.py:"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_part_that_answers_wrongly_is_named_in_one_line(small, case):
    seam, answer, expected = WRONG[case]
    experiment = load(small, ["policies=[base]"])
    policy = replace(experiment.policies[0], **{seam: BROKEN[seam](answer)})
    with pytest.raises(ConfigError, match="policy base: ") as error:
        run(replace(experiment, policies=(policy,)))
    (fault,) = error.value.faults
    assert expected in fault


@pytest.mark.filterwarnings("always")
def test_what_a_policy_warns_of_does_not_precede_its_error(recwarn):
    def answers(parts):
        return np.log(np.zeros(1)), 1 // parts

    with pytest.raises(ConfigError, match="its allocation failed at"):
        PolicyHost(POLICIES["ep"]).call("allocation", answers, 0)
    assert not recwarn.list
    PolicyHost(POLICIES["ep"]).call("allocation", answers, 1)
    assert [str(warning.message) for warning in recwarn.list] == ["divide by zero encountered in log"]


def test_a_batch_beyond_the_trace_repeats_it_and_says_so(small):
    result = run(load(small, ["batch=100"]))
    assert result.to_dict()["runs"][0]["unique_requests"] == 40
    assert result.to_dict()["runs"][0]["batch"] == 100
    assert any("repeats the 40 requests" in note for note in result.notes)


def tiny_trace(path, experiment, **changes):
    spec = replace(experiment.trace, requests=12)
    meta = replace(synth_meta(spec, experiment.model, 0, 12), **changes)
    write_trace(path, meta, synthesise(spec, experiment.model, 0))


def test_a_trace_of_another_shape_is_refused_and_of_another_name_is_noted(small, tmp_path):
    experiment = load(small)
    path = tmp_path / "t.parquet"
    tiny_trace(path, experiment, num_experts=13, moe_layers=(0, 2, 3))
    with pytest.raises(TraceError) as error:
        run(load(small, [f"trace.path={path}"]))
    assert [fault.split(": ")[1].split(",")[0] for fault in error.value.faults] == [
        "has num_experts 13",
        "has moe_layers 3 layers in 0..3",
    ]
    tiny_trace(path, experiment, model="cousin")
    notes = run(load(small, [f"trace.path={path}"])).notes
    assert any("the trace is of cousin" in note for note in notes)


def test_steps_beyond_the_longest_request_are_refused(small, tmp_path):
    path = tmp_path / "t.parquet"
    tiny_trace(path, load(small))
    with pytest.raises(ConfigError, match="give at most 6"):
        run(load(small, [f"trace.path={path}", "steps=7"]))
    with pytest.raises(ConfigError, match="give at most 6"):
        run(load(small, ["steps=7"]))
    assert run(load(small, ["steps=all"])).to_dict()["runs"][0]["steps_run"] == 6


def test_requests_can_be_taken_in_the_order_of_their_names(small, tmp_path):
    """Of requests 0..11, the first three as text are 0, 1, 10: base sees their experts in that order."""
    path = tmp_path / "t.parquet"
    tiny_trace(path, load(small))
    by_name = run(load(small, [f"trace.path={path}", "trace.order=string", "batch=3"]))
    with TraceReader(path) as reader:
        chosen = list(reader.requests({0, 1, 10}))
        meta = reader.meta
    write_trace(path, meta, chosen)
    by_file = run(load(small, [f"trace.path={path}", "batch=3"]))
    assert by_name.to_dict()["runs"] == by_file.to_dict()["runs"]


def test_gini():
    assert gini(np.array([1.0, 1.0, 1.0])) == pytest.approx(0)
    assert gini(np.array([0.0, 0.0, 0.0, 8.0])) == pytest.approx(0.75)


def test_real_llama4_layer_45_sends_nearly_all_to_one_expert_and_runs(tmp_path):
    subject = shared("traces", "parquet", "meta-llama__Llama-4-Maverick-17B-128E-Instruct__mmlu__anatomy.parquet")
    configs = ROOT / "configs"
    settings = [f"trace.path={subject}", "layers=[43, 45]", "steps=2", "batch=135"]
    result = run(load(configs / "llama4_maverick.yaml", settings))
    rows = [row for row in result.ledgers[0].rows if row.phase == "decode"]
    hot = [row.max_expert_tokens / row.tokens for row in rows if row.layer == 45]
    assert min(hot) > 0.98
    assert max(row.max_expert_tokens / row.tokens for row in rows if row.layer == 43) < 0.9
    assert not result.to_dict()["runs"][0]["synthetic"]


def test_real_gpt_oss_starts_without_prefill(tmp_path):
    path = shared("traces", "parquet", "openai__gpt-oss-20b__mmlu_test.parquet")
    configs = ROOT / "configs"
    result = run(load(configs / "gpt_oss_20b.yaml", [f"trace.path={path}", "layers=[0, 12]", "steps=1"]))
    assert any("no prefill" in note for note in result.notes)
    assert all(r["prefill_time_s"] == 0 for r in result.to_dict()["runs"])


def test_the_fullest_hbm_holds_experts_and_the_buffers_of_one_chunk_of_prefill(small):
    """One die: 36 experts of 12.6 MB, and buffers of 80 token-experts however long the prompts are."""
    (one,) = run(load(small, ["wafer.mesh=[1, 1]", "policies=[ep]", "baseline=ep"])).to_dict()["runs"]
    assert one["hbm_peak_bytes"] == 36 * 3 * 1024 * 2048 * 2 + 80 * 2 * (2 * 1024 + 2 * 2048)


def test_layers_that_are_not_run_flush_the_llcs_and_those_next_to_each_other_do_not(small):
    """Six LLCs with room for all experts: they stay from step to step, but for what other layers would have used."""
    everything, one = (
        run(load(small, ["policies=[ep]", "baseline=ep", "wafer.die.llc.size=500 MB", *more])).to_dict()["runs"][0]
        for more in ([], ["layers=[2]"])
    )
    assert everything["llc_hits"] > 0
    assert one["llc_hits"] == 0


def test_what_is_prefetched_is_for_the_next_layer_that_is_run(small):
    """Layers 1 and 3: prefetched in one, hit in the other, though layer 2 is left out between them."""
    ahead = "policies=[{name: ahead, preset: ep, prefetching: popular}]"
    (one,) = run(load(small, [ahead, "baseline=ahead", "layers=[1, 3]"])).to_dict()["runs"]
    assert one["llc_hits"] > 0


def test_prefetching_where_no_expert_fits_an_llc_is_said_to_do_nothing(small):
    ahead = "policies=[{name: ahead, preset: ep, prefetching: popular}]"
    notes = [
        run(load(small, [ahead, "baseline=ahead", f"wafer.die.llc.size={size}"])).to_dict()["provenance"]["notes"]
        for size in ("12 MB", "13 MB")
    ]
    assert any("ahead prefetches nothing: an expert of 12582912 bytes" in note for note in notes[0])
    assert not any("prefetches nothing" in note for note in notes[1])


def test_buffers_that_do_not_fit_name_policy_step_and_layer(small):
    with pytest.raises(CapacityError, match=r"^policy base, prefill, layer 1: die \d: \d+ bytes of activation buffers"):
        run(load(small, ["wafer.die.hbm.size=84 MB", "policies=[base]"]))


def test_a_policy_that_tries_to_leave_is_refused(small):
    class Leaver(Allocation):
        def allocate(self, view):
            raise SystemExit(0)

    experiment = load(small, ["policies=[base]"])
    with pytest.raises(ConfigError, match="its allocation failed"):
        run(replace(experiment, policies=(replace(experiment.policies[0], allocation=Leaver()),)))


def test_a_kernel_that_beats_its_bound_is_an_error_of_ours(small, monkeypatch):
    monkeypatch.setattr("wss.metrics.ledger.Bounds.of", lambda *_: 1.0)
    with pytest.raises(AssertionError, match=r"beats the lower bound of 1\.0 s"):
        run(load(small))


def test_requests_can_be_mixed_by_the_seed_and_come_in_as_others_end(small, tmp_path):
    experiment = load(small)
    path = tmp_path / "t.parquet"
    write_trace(
        path, synth_meta(experiment.trace, experiment.model, 0), synthesise(experiment.trace, experiment.model, 0)
    )

    def time_of(*settings):
        common = [f"trace={{path: {path}}}", "batch=10", "policies=[ep]", "baseline=ep", "steps=6"]
        (one,) = run(load(small, [*common, *settings])).to_dict()["runs"]
        return one["decode_time_s"], one["steps_run"]

    in_order, mixed, other = time_of(), time_of("trace.order=mixed"), time_of("trace.order=mixed", "seed=5")
    assert len({in_order, mixed, other}) == 3
    longer = [*[f"trace={{path: {path}, replay: continuous}}"], "batch=10", "policies=[ep]", "baseline=ep", "steps=20"]
    (one,) = run(load(small, longer)).to_dict()["runs"]
    assert one["steps_run"] == 20
    with pytest.raises(ConfigError, match="give at most 24"):
        run(load(small, [*longer[:-1], "steps=25"]))
    with pytest.raises(ConfigError, match="has no end"):
        run(load(small, [*longer[:-1], "steps=all"]))


def test_a_policy_runs_alike_beside_one_that_predicts(small):
    """Alone it is fed counts of a stream; beside a predictor, of requests that are held."""
    alone = run(load(small, ["policies=[base]"])).ledgers[0].rows
    beside = next(led.rows for led in run(load(small, ["policies=[base, pred]"])).ledgers if led.policy == "base")
    assert alone == beside


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (["drift_at=9"], ["drift_at is 9, and decode ends with step 2: nothing drifts"]),
        (["drift_at=2"], ["from decode step 2 on, all requests switch to other experts (trace.synth.drift_at)"]),
        (["drift_at=1", "drift_share=0.5"], ["from decode step 1 on, a share of 0.5 of the requests switch to other"]),
        ([], []),
    ],
)
def test_whether_routing_drifts_is_said(small, setting, says):
    notes = run(load(small, [*(f"trace.synth.{each}" for each in setting), "steps=2"])).notes
    drifts = [note for note in notes if "drift" in note]
    assert all(said in note for said, note in zip(says, drifts, strict=True))


def test_dies_without_experts_and_copies_without_room_are_told_of(small):
    """16 dies of 72 MB have room for five experts of 12.6 MB: one of each of the three layers, and none beside it."""
    crowded = ["policies=[ep, eplb, dup]", "baseline=ep", "steps=1", "wafer.mesh=[4, 4]", "wafer.die.hbm.size=80 MB"]
    few = "a layer has 12 experts for 16 dies: a die without an expert has to read those that it computes"
    cut = "its placement asks for extra: 1 experts a die and layer, and the HBM has room for 0 beside the 1 of an even"
    notes = run(load(small, crowded)).notes
    assert notes.count(few) == 1
    assert [note.split(":")[0] for note in notes if cut in note] == ["dup", "eplb"]
    roomy = run(load(small, [*crowded[:-1], "wafer.mesh=[3, 4]"])).notes
    assert not [note for note in roomy if "a layer has" in note or "room for" in note]


def test_how_often_experts_are_placed_is_told_of_the_layers_run(small):
    settings = ["policies=[eplb]", "baseline=eplb"]
    for layers, said in ((["layers=[1]"], "in the layers run"), ([], "in all layers")):
        notes = run(load(small, [*settings, *layers])).to_dict()["provenance"]["notes"]
        assert any(note.endswith(f"replicas on average, {said}") for note in notes)


def test_percentiles_of_steps_and_the_mean_of_links_worked_out_from_the_rows():
    config = ROOT / "configs" / "gpt_oss_20b.yaml"
    result = run(load(config, ["steps=5", "layers=[0, 1]", "policies=[base]", "batch=16"]))
    own, ledger = result.to_dict()["runs"][0], result.ledgers[0]
    steps = sorted(sum(row.time_s for row in ledger.decode if row.step == step) for step in range(1, 6))
    assert steps[3] < steps[4]
    assert own["step_time_p99_s"] == pytest.approx(steps[3] + 0.96 * (steps[4] - steps[3]), rel=1e-12)
    assert own["step_time_p50_s"] == steps[2]
    used = ledger.link_bytes / (result.wafer.link_bandwidth * sum(steps))
    assert used.mean() < used.max()
    assert own["mean_link_utilization"] == pytest.approx(sum(used) / len(used), rel=1e-12)
    assert own["max_link_utilization"] == pytest.approx(max(used), rel=1e-12)


def test_synthetic_requests_follow_the_batch_unless_set():
    settings = ["steps=1", "layers=[0]", "policies=[ep]", "baseline=ep"]
    config = ROOT / "configs" / "gpt_oss_20b.yaml"
    free, few = (run(load(config, [*settings, "batch=5000", *more])) for more in ([], ["trace.synth.requests=7"]))
    assert free.to_dict()["runs"][0]["unique_requests"] == 5000
    assert few.to_dict()["runs"][0]["unique_requests"] == 7
    assert any("repeats the 7 requests" in note for note in few.notes)
    many = run(load(config, [*settings, "batch=8", "trace.synth.requests=5000"]))
    assert many.to_dict()["runs"][0]["unique_requests"] == 8


def test_another_models_preset_is_noted():
    settings = ["steps=1", "layers=[1]", "policies=[ep]", "baseline=ep", "batch=8", "precision=fp8"]
    config = ROOT / "configs" / "kimi_k2.yaml"
    own, other = (run(load(config, [*settings, *more])).notes for more in ([], ["trace.synth=deepseek_v3"]))
    said = [note for note in other if "parameters of deepseek_v3" in note]
    assert len(said) == 1
    assert not any("parameters of" in note for note in own)


def test_a_written_trace_tells_whose_parameters_it_was_made_with(tmp_path):
    config = ROOT / "configs" / "gpt_oss_20b.yaml"
    for preset, said in (("qwen3_235b", 1), ("gpt_oss_20b", 0)):
        out = tmp_path / f"{preset}.parquet"
        made = ["trace", "synth", "gpt_oss_20b", "--preset", preset, "--requests", "3", "--decode-tokens", "2"]
        cli([*made, "--out", str(out)], standalone_mode=False)
        more = ["steps=1", "layers=[0]", "policies=[ep]", "baseline=ep", "batch=3", f"trace.path={out}"]
        notes = run(load(config, more)).notes
        assert len([note for note in notes if f"generated with the parameters of {preset}" in note]) == said


def test_recorded_popularity_is_not_said_to_be_made_up(tmp_path):
    experiment = load(ROOT / "configs" / "gpt_oss_20b.yaml")
    counts = np.arange(1, 1 + 24 * 32).reshape(24, 32)
    layers = experiment.model.moe_layers
    table = [Loads(name="mmlu", phase="decode", layers=layers, counts=counts, top_k=experiment.model.top_k)]
    write_loads(tmp_path / "loads.parquet", table)
    settings = ["steps=1", "layers=[0]", "policies=[ep]", "baseline=ep", "batch=8"]
    said = {"loads": str(tmp_path / "loads.parquet"), "workload": "mmlu"}
    changes = [f"trace.synth.{key}={value}" for key, value in said.items()]
    notes = run(load(ROOT / "configs" / "gpt_oss_20b.yaml", [*settings, *changes])).notes
    assert not any("generated from named parameters, not recorded" in note for note in notes)
    assert any("recorded (mmlu of loads.parquet)" in note for note in notes)
