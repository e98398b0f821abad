"""Health checks: when an endpoint counts as sick, and what a HealthCheck compiles to."""

from __future__ import annotations

import pytest
from compile_world import document, service, world

from ray_mesh.compile import admit, affected, compile_key
from ray_mesh.errors import ConfigError
from ray_mesh.proxy.health import Record
from ray_mesh.snapshot import HealthCheck, Service

CHECK = HealthCheck("check", unhealthy_threshold=3, healthy_threshold=2)


@pytest.mark.parametrize(
    ("results", "is_sick"),
    [
        ("fff", True),
        ("ff", False),
        ("ffsff", False),
        ("ffsfff", True),
        ("fffs", True),
        ("fffss", False),
        ("fffsfs", True),
        ("fffssff", False),
    ],
)
def test_thresholds(results: str, is_sick: bool) -> None:
    record, sick = Record(0.0), False
    for result in results:
        sick = record.note(CHECK, sick, result == "s")
    assert sick == is_sick


def check(spec: str, name: str = "reviews") -> list[HealthCheck | None]:
    made = compile_key(
        world(service("reviews"), document("HealthCheck", name, spec)), "service.default.reviews"
    )
    assert isinstance(made, Service)
    return [made.health]


def test_every_field() -> None:
    said = (
        "{host: reviews, http: {path: '/up?full=1'}, interval: 2s, timeout: 300ms, unhealthyThreshold: 4, "
        "healthyThreshold: 5}"
    )
    assert check(said) == [HealthCheck("HealthCheck default/reviews", "/up?full=1", 2.0, 0.3, 4, 5)]
    assert check("{host: reviews, tcp: {}}") == [HealthCheck("HealthCheck default/reviews")]
    assert check("{host: reviews.default, tcp: {}}", "elsewhere/reviews") == [None]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("{host: reviews}", "set one of http and tcp"),
        ("{host: reviews, http: {}, tcp: {}}", "set one of http and tcp"),
        ("{host: '*.default', tcp: {}}", "is not a host"),
        ("{host: reviews, http: {path: 'a b'}}", "path"),
        ("{host: reviews, tcp: {}, interval: 1ms}", "at least 100ms"),
        ("{host: reviews, tcp: {}, unhealthyThreshold: 0}", "unhealthyThreshold"),
    ],
)
def test_flaws(spec: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check(spec)


def test_admission_and_what_a_change_affects() -> None:
    before = world(service("reviews"))
    good = document("HealthCheck", "a", "{host: reviews, tcp: {}}")
    assert admit(before, [good]) == []
    assert affected(before, before.replace({good.key: good}), [good.key]) == {"service.default.reviews"}
    missing = document("HealthCheck", "a", "{host: ratings, tcp: {}}")
    foreign = document("HealthCheck", "other/a", "{host: reviews.default, tcp: {}}")
    for one, message in ((missing, "there is no service"), (foreign, "belongs into the namespace")):
        (finding,) = admit(before, [one])
        assert (finding.severity, finding.code) == ("error", "IST0101")
        assert message in finding.message
