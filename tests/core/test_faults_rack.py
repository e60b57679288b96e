"""The rack: toxics by name, while traffic runs; which ones they take, and that it is the same again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.errors import BadToxic
from shadowcat_core.interceptors.faults import parse_toxic
from shadowcat_core.interceptors.faults.aim import Places, label_of
from shadowcat_core.messages import Message
from tests.core.fault_parts import FIVE, Lab, context, payloads, progress, request, result, sent
from tests.core.interception import in_virtual_time


def names(lab):
    return [one.name for one in lab.rack.listed]


def test_toxics_are_called_by_their_kind_and_a_number_unless_a_name_is_given():
    lab = Lab("drop", "drop", "drop:name=mine", "drop")
    assert names(lab) == ["drop", "drop-2", "mine", "drop-3"]
    assert [stage.settings.name for stage in lab.pipeline.stages] == [f"fault:{name}" for name in names(lab)]
    assert len(lab.rack) == 4


def test_a_name_is_given_once():
    lab = Lab("drop:name=x")
    with pytest.raises(BadToxic, match="there is a toxic 'x' already"):
        lab.rack.add("cut:after=1,name=x")
    assert names(lab) == ["x"]


def test_who_removes_what_is_not_there_is_told_what_is():
    lab = Lab("drop", "rate_limit")
    with pytest.raises(BadToxic, match=r"'dorp' \(did you mean drop\?\); there are drop, rate_limit"):
        lab.rack.remove("dorp")
    lab.rack.clear()
    with pytest.raises(BadToxic, match="'drop'; there are none"):
        lab.rack.remove("drop")


def test_the_list_has_texts_that_make_the_toxics_again_and_what_they_did():
    lab = Lab("drop:from=2,per=exchange", "rate_limit:probability=0.5,seed=3", "bandwidth:bytes_per_s=9")
    in_virtual_time(lab.judge(progress(1), progress(2), progress(3)))
    assert [(one.text, one.tally.matched, one.tally.taken) for one in lab.rack.listed] == [
        ("drop:name=drop,from=2,per=exchange", 3, 2),
        ("rate_limit:name=rate_limit,probability=0.5,seed=3", 0, 0),
        ("bandwidth:name=bandwidth,bytes_per_s=9", 0, 0),
    ]
    assert [parse_toxic(one.text).name for one in lab.rack.listed] == names(lab)


def test_a_cleared_rack_costs_and_does_nothing():
    lab = Lab("drop", "rate_limit", "cut:after=1")
    lab.rack.clear()
    assert (len(lab.rack), lab.rack.has_http, lab.rack.has_streams, lab.pipeline.stages) == (0, False, False, ())
    assert (lab.outlet(), lab.ask()) == (None, [])


def test_many_are_swapped_at_once_or_not_at_all():
    lab = Lab("drop", "latency", "cut:after=1,name=kept")
    toxics = [parse_toxic(text) for text in ("drop:name=latency", "latency", "jitter")]
    with pytest.raises(BadToxic, match="'latency' already"):
        lab.rack.swap(["drop"], toxics, seed=5)
    assert (names(lab), lab.rack.seed) == (["drop", "latency", "kept"], 0)
    with pytest.raises(BadToxic, match="'a' already"):
        lab.rack.swap([], [parse_toxic("drop:name=a")] * 2, seed=5)
    assert lab.rack.swap(["drop", "latency"], toxics, seed=5) == ["latency", "latency-2", "jitter"]
    assert (names(lab), lab.rack.seed) == (["kept", "latency", "latency-2", "jitter"], 5)


def test_a_toxic_that_is_removed_lets_go_of_what_it_held_with_the_next_bytes():
    lab = Lab("reorder:by=3,name=r", "duplicate:from=3")
    outlet = lab.outlet()
    assert sent(outlet.send(FIVE[0])) == b""
    lab.rack.remove("r")
    assert sent(outlet.send(FIVE[1])) == FIVE[0] + FIVE[1]
    assert sent(outlet.send(FIVE[2])) == FIVE[2] * 2
    lab.rack.clear()
    assert sent(outlet.send(FIVE[3])) == FIVE[3]
    assert list(outlet.end()) == []


def test_what_a_removed_toxic_held_comes_at_the_end_at_the_latest():
    lab = Lab("reorder:by=3")
    outlet = lab.outlet()
    list(outlet.send(FIVE[0]))
    lab.rack.clear()
    assert sent(outlet.end()) == FIVE[0]


def test_a_toxic_that_is_added_works_on_streams_that_run():
    lab = Lab("duplicate:from=100")
    outlet = lab.outlet()
    assert sent(outlet.send(FIVE[0])) == FIVE[0]
    lab.rack.add("cut:after=1")
    assert sent(list(outlet.send(FIVE[1] + FIVE[2]))) == FIVE[1]


def test_bytes_of_a_torn_frame_go_on_when_the_last_toxic_goes():
    lab = Lab("duplicate")
    outlet = lab.outlet()
    assert sent(outlet.send(FIVE[0][:20])) == b""
    lab.rack.clear()
    assert sent(outlet.send(FIVE[0][20:])) == FIVE[0]


# Which ones it takes


def taken(toxic, shown, *, seed=0, exchange_id=1, lab=None):
    """The numbers of the progress notifications of one exchange that a toxic drops."""
    lab = lab or Lab(toxic, seed=seed)
    left = payloads(in_virtual_time(lab.judge(*map(progress, shown), exchange_id=exchange_id)))
    return [n for n in shown if progress(n) not in left]


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ("from=3", [3, 4, 5, 6]),
        ("times=2", [1, 2]),
        ("from=2,times=3", [2, 3, 4]),
        ("probability=0", []),
        ("probability=1", [1, 2, 3, 4, 5, 6]),
        ("from=7", []),
    ],
)
def test_from_and_times_count_those_that_match(fields, numbers):
    assert taken(f"drop:{fields}", range(1, 7)) == numbers


@pytest.mark.parametrize(("per", "second"), [("run", [1, 2, 3]), ("exchange", [2])])
def test_counts_are_over_the_run_or_for_each_exchange(per, second):
    lab = Lab(f"drop:from=2,per={per}" + (",times=1" if per == "exchange" else ""))
    assert taken("", [1, 2, 3], lab=lab, exchange_id=1) == ([2] if per == "exchange" else [2, 3])
    assert taken("", [1, 2, 3], lab=lab, exchange_id=2) == second


def test_times_count_what_chance_let_through():
    assert len(taken("drop:probability=0.3,times=5", range(200))) == 5


def test_a_probability_is_kept_to():
    assert 240 <= len(taken("drop:probability=0.3", range(1000))) <= 360


def test_seeds_differ_and_a_toxics_own_seed_comes_before_the_racks():
    shown = range(60)
    half = "drop:probability=0.5"
    assert taken(half, shown, seed=1) == taken(half, shown, seed=1)
    assert taken(half, shown, seed=1) != taken(half, shown, seed=2)
    assert taken(f"{half},seed=1", shown, seed=2) == taken(half, shown, seed=1)
    assert taken(half, shown, seed=1) != taken(f"{half},name=other", shown, seed=1)


# The same again


TOXICS = ["drop:probability=0.4", "corrupt:probability=0.3,from=2,per=exchange", "wrong_id:probability=0.5"]
STREAM_TOXICS = [
    "duplicate:probability=0.4",
    "reorder:probability=0.3",
    "line_ends:probability=0.5",
    "cut:after=4,probability=0.3",
]


async def run(order):
    """Eight calls whose events come in some order among each other; gives what each call's client got."""
    lab = Lab(*TOXICS, *STREAM_TOXICS, seed=11)
    asked = {n: [request(name=f"tool-{n}", n=n)] for n in range(8)}
    outlets = {}
    arrivals = list(range(8))
    random.Random(order).shuffle(arrivals)
    for n in arrivals:
        outlets[n] = lab.outlet(n, asked=asked[n])
    steps = [n for n in range(8) for _ in range(6)]
    random.Random(order).shuffle(steps)
    got = {n: [] for n in range(8)}
    sent_so_far = dict.fromkeys(range(8), 0)
    for n in steps:
        sent_so_far[n] += 1
        payload = result() if sent_so_far[n] == 6 else progress(sent_so_far[n])
        judged = await lab.judge(payload, exchange_id=n)
        if judged:
            got[n] += outlets[n].send(judged)
    return {n: [*got[n], *outlets[n].end()] for n in range(8)}, lab.taken


def test_concurrent_streams_do_not_change_each_others_faults():
    outcomes = [in_virtual_time(run(order)) for order in range(6)]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    clients = [repr(steps) for steps in outcomes[0][0].values()]
    assert len(set(clients)) == len(clients)  # no two calls got the same faults
    assert sum(outcomes[0][1]) > 20


@given(st.integers(0, 50))
def test_the_same_seed_and_messages_give_the_same_faults(seed):
    def once():
        lab = Lab(*STREAM_TOXICS, "split_utf8", "oversize:bytes=400,probability=0.5", seed=seed)
        return lab.steps(FIVE), lab.notes

    assert once() == once()


def test_the_same_toxics_again_bring_the_same_faults_again():
    lab, spec = Lab(), "drop:probability=0.5,seed=3"

    def of(exchange_id):
        lab.rack.open(exchange_id, "POST", [request()])
        return taken(spec, range(30), exchange_id=exchange_id, lab=lab)

    lab.rack.open(9, "POST", [request()])
    lab.rack.add(spec)
    first = of(1), of(2)
    assert first[0] != first[1]
    lab.rack.clear()
    lab.rack.add(spec)
    assert (of(3), of(4)) == first


def label(**params):
    return label_of("POST", [request(**params)])


def test_an_exchange_is_labelled_by_what_it_asks_and_not_by_what_changes_from_run_to_run():
    same = {"arguments": {"a": 1}}
    assert label(**same) == label(**same, _meta={"traceparent": "x"}) == label(**same, requestState="y")
    others = [label(), label(arguments={"a": 2}), label(name="x"), label(method="tools/list"), label(request_id="7")]
    assert len({label(**same), *others, label_of("GET", []), label_of("POST", [])}) == 8
    assert label_of("POST", [Message(b"broken", context("c2s"))]) not in others


def test_the_same_request_again_draws_anew():
    places = Places()
    assert [places.open(n, "same").label for n in (1, 2, 1)] == ["same#1", "same#2", "same#1"]
    places.close(1)
    places.close(1)
    assert (places.open(1, "same").label, len(places)) == ("same#3", 2)


def test_the_label_that_was_asked_longest_ago_is_forgotten_first():
    places = Places(max_labels=2)
    for exchange_id, what in enumerate("abac"):
        places.open(exchange_id, what)
    assert [places.open(10, "a").label, places.open(11, "b").label] == ["a#3", "b#1"]


def test_the_exchanges_whose_counts_are_kept_are_bounded():
    places = Places(max_labels=2)
    first = places.open(1, "a")
    assert places.open(1, "b") is first
    places.open(2, "b")
    places.open(3, "c")
    assert len(places) == 2
    assert places.open(1, "a") is not first


def test_an_exchange_that_is_over_is_forgotten():
    lab = Lab("drop:from=2,per=exchange")
    assert taken("", [1, 2], lab=lab) == [2]
    lab.rack.close(1)
    assert taken("", [1, 2], lab=lab) == [2]
