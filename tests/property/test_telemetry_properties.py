from __future__ import annotations

from itertools import pairwise
from math import ceil, exp2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.rendezvous import owner
from ray_mesh.telemetry.histogram import MAX_BUCKETS, ExpHistogram, check_histogram, difference
from ray_mesh.telemetry.merge import Collector, merge_series
from ray_mesh.telemetry.series import Edge, Series
from ray_mesh.telemetry.table import SeriesTable

latencies = st.lists(st.floats(1e-6, 60.0), min_size=1, max_size=200)
any_number = st.lists(st.floats(-1.0, 1e300) | st.just(0.0), max_size=60)
wide = st.lists(st.integers(-16_000, 16_000).map(lambda step: exp2(step / 16)), max_size=600)


def filled(seconds: list[float]) -> ExpHistogram:
    histogram = ExpHistogram()
    for one in seconds:
        histogram.add(one)
    return histogram


def merged(*parts: list[float]) -> ExpHistogram:
    whole = ExpHistogram()
    for part in parts:
        whole.merge(filled(part))
    return whole


def shape(histogram: ExpHistogram) -> tuple[object, ...]:
    snapshot = histogram.snapshot()
    return snapshot.scale, snapshot.zeros, snapshot.counts, snapshot.smallest, snapshot.largest


@given(latencies, st.floats(0.0, 1.0))
def test_quantiles_are_off_by_at_most_two_and_a_half_percent(seconds: list[float], q: float) -> None:
    true = sorted(seconds)[max(1, ceil(q * len(seconds))) - 1]
    assert filled(seconds).quantile(q) == pytest.approx(true, rel=0.025)


@given(any_number, any_number, any_number)
def test_merging_is_associative_and_commutative(a: list[float], b: list[float], c: list[float]) -> None:
    left = merged(a, b)
    left.merge(filled(c))
    right = merged(c, b)
    right.merge(filled(a))
    inner = filled(a)
    inner.merge(merged(b, c))
    assert shape(left) == shape(right) == shape(inner)
    assert left.total == pytest.approx(right.total)


@settings(max_examples=25)
@given(wide, wide, wide)
def test_merging_is_exact_also_when_it_coarsens(a: list[float], b: list[float], c: list[float]) -> None:
    in_one_go = filled([*a, *b, *c])
    assert shape(merged(a, b, c)) == shape(merged(c, a, b)) == shape(in_one_go)
    assert len(in_one_go.counts) <= MAX_BUCKETS


@given(any_number)
def test_what_we_make_passes_our_own_check(seconds: list[float]) -> None:
    check_histogram(filled([one for one in seconds if one < 1e100]).snapshot())


@given(any_number, any_number)
def test_a_difference_is_what_was_added(first: list[float], then: list[float]) -> None:
    histogram = filled(first)
    older = histogram.snapshot()
    for one in then:
        histogram.add(one)
    grown = difference(histogram.snapshot(), older)
    assert grown.zeros + sum(count for _, count in grown.counts) == len(then)


def edge(code: int) -> Edge:
    return Edge("source", "d/a", "a", "v1", "", "b", "d/b", "b", "v1", "", "", "http", code, "", "unknown")


def table(codes: list[int]) -> tuple[Series, ...]:
    series = SeriesTable()
    for code in codes:
        series.series(edge(code)).record(0.001 * code, 1, 2)
    return series.totals()


codes = st.lists(st.sampled_from([200, 404, 500, 503]), max_size=30)


@given(st.lists(codes, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_series_merge_in_any_order_and_grouping(tables: list[list[int]], random: object) -> None:
    everything = [series for one in tables for series in table(one)]
    whole = merge_series(everything)
    in_steps: tuple[Series, ...] = ()
    for one in reversed(tables):
        in_steps = merge_series([*table(one), *in_steps])
    assert [(s.edge, s.requests, s.duration.counts) for s in whole] == [
        (s.edge, s.requests, s.duration.counts) for s in in_steps
    ]
    assert sum(s.requests for s in whole) == sum(map(len, tables))


events = st.lists(
    st.tuples(st.sampled_from(["serve", "report", "lose", "restart"]), st.sampled_from([200, 503])),
    max_size=60,
)


@given(events)
def test_totals_never_shrink_and_windows_never_lie(steps: list[tuple[str, int]]) -> None:
    collector, served, now, epoch, sequence = Collector(), SeriesTable(), 0.0, 0, 0
    totals, everything = [0], 0
    for step, code in steps:
        now += 0.5
        if step == "serve":
            served.series(edge(code)).record(0.010, 0, 0)
            everything += 1
        elif step == "restart":
            served, epoch, sequence = SeriesTable(), epoch + 1, 0
        else:
            sequence += 1
            if step == "report":
                collector.add_report("p", f"{epoch}", sequence, 0, 1, now, served.totals(), now)
        totals.append(sum(series.requests for series in collector.edges(0, now).series))
        window = collector.edges(10, now)
        assert sum(series.requests for series in window.series) <= totals[-1] <= everything
        assert window.seconds >= 0.0
    assert all(before <= after for before, after in pairwise(totals))


@given(st.text(max_size=20), st.sets(st.text(min_size=1, max_size=10), min_size=2, max_size=8))
def test_a_member_that_leaves_moves_only_its_own_keys(key: str, members: set[str]) -> None:
    mine = owner(key, members)
    for gone in members:
        if gone != mine:
            assert owner(key, members - {gone}) == mine
    assert owner(key, sorted(members)) == owner(key, sorted(members, reverse=True)) == mine
