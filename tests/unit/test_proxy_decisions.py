"""The data plane's pure decisions."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace

import pytest

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy.balance import Picker, WeightedSplit, least_request, picker, round_robin
from ray_mesh.proxy.cluster import LONGEST_EJECTION_S, Destination, Member
from ray_mesh.proxy.fault import draw
from ray_mesh.proxy.grpc import grpc_reply
from ray_mesh.proxy.hosts import meanings, split_authority
from ray_mesh.proxy.match import Scope, alternatives
from ray_mesh.proxy.outbound import accepts, asked_port
from ray_mesh.proxy.path import BASE, normalize, split_absolute
from ray_mesh.proxy.pool import IDLE_S, MAX_CONNECTIONS, Pool
from ray_mesh.proxy.replies import Reply, injected_abort
from ray_mesh.proxy.route_index import RouteIndex
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.proxy.trace import child_of, is_valid, new_request_id
from ray_mesh.proxy.virtual_hosts import VirtualHosts
from ray_mesh.snapshot import (
    Destination as To,
)
from ray_mesh.snapshot import (
    Endpoint,
    Fault,
    NamedMatch,
    Port,
    RequestMatch,
    Route,
    Service,
    StringMatch,
    Subset,
    VirtualHost,
)


class TestHosts:
    @pytest.mark.parametrize(
        ("host", "full"),
        [
            ("reviews", ("reviews.shop.svc.cluster.local",)),
            ("reviews.default", ("reviews.default.svc.cluster.local", "reviews.default")),
            ("reviews.default.svc", ("reviews.default.svc.cluster.local",)),
            ("reviews.default.svc.cluster.local", ("reviews.default.svc.cluster.local",)),
            ("example.com", ("example.com.svc.cluster.local", "example.com")),
            ("www.example.com", ("www.example.com",)),
            ("a.b.c.svc.cluster.local", ()),
            ("svc.cluster.local", ("svc.cluster.local",)),
            ("169.254.169.254", ()),
            ("[fe80::1]", ()),
            ("127.1", ()),
            ("", ()),
            ("a..b", ()),
            ("-a", ()),
        ],
    )
    def test_meanings(self, host: str, full: tuple[str, ...]) -> None:
        assert meanings(host, "shop") == full

    @pytest.mark.parametrize(
        ("authority", "split"),
        [
            (b"Reviews:9080", ("reviews", 9080)),
            (b"reviews.", ("reviews", 80)),
            (b"[::1]:8080", ("[::1]", 8080)),
            (b"reviews:0", None),
            (b"reviews:99999", None),
            (b"user@reviews", None),
            (b"reviews, other", None),
            (b"", None),
            (b"reviews:", None),
        ],
    )
    def test_split_authority(self, authority: bytes, split: tuple[str, int] | None) -> None:
        assert split_authority(authority) == split


class TestPath:
    @pytest.mark.parametrize(
        ("path", "normal"),
        [
            (b"/a/b", b"/a/b"),
            (b"/a/../b", b"/b"),
            (b"/a/./b/.", b"/a/b/"),
            (b"/../../x", b"/x"),
            (b"/a/b/..", b"/a/"),
            (b"/%61dmin", b"/admin"),
            (b"/%2e%2e/x", b"/x"),
            (b"/a%2fb", b"/a%2Fb"),
            (b"\\a\\b"[1:], b"a/b"),
            (b"/a\\..\\b", b"/b"),
            (b"//a", b"//a"),
            (b"/.", b"/"),
            (b"/...", b"/..."),
            (b"/%252e%252e/", b"/%252e%252e/"),
        ],
    )
    def test_normalize(self, path: bytes, normal: bytes) -> None:
        assert normalize(b"/" + path if path[:1] != b"/" else path) == (
            b"/" + normal if normal[:1] != b"/" else normal
        )

    @pytest.mark.parametrize("target", [b"/a%00b", b"/a#b", b"a/b", b"/%zz", b"/%%32e", b"ftp://x/", b"/%2"])
    def test_doubtful_targets_are_refused(self, target: bytes) -> None:
        with pytest.raises(ValueError, match="the "):
            BASE.split(target)

    def test_query_is_left_alone(self) -> None:
        assert BASE.split(b"/a/../b?x=../%2e") == (b"/b", b"?x=../%2e")
        assert BASE.split(b"*") == (b"*", b"")

    def test_absolute_form(self) -> None:
        assert split_absolute(b"http://reviews:80/x?y") == (b"reviews:80", b"/x?y")
        assert split_absolute(b"http://reviews?y") == (b"reviews", b"/?y")
        assert split_absolute(b"HTTP://reviews") == (b"reviews", b"/")
        assert split_absolute(b"http://user@reviews/") is None
        assert split_absolute(b"https://reviews/") is None


@dataclass
class Asked:
    """A request as route predicates see it."""

    scheme: bytes = b"http"
    method: bytes = b"GET"
    path: bytes = b"/"
    query: bytes = b""
    host: bytes = b"reviews"
    headers: dict[bytes, bytes] = field(default_factory=dict)

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)

    def values(self, name: bytes) -> list[bytes]:
        return self.headers[name].split(b"; ") if name in self.headers else []


MESH = Scope("default", frozenset({("app", "client")}), 80)


def matches(match: RequestMatch, request: Asked, scope: Scope = MESH) -> bool:
    return bool(RouteIndex([(alternatives((match,), scope), "found")]).find(request))


class TestMatch:
    def test_uri(self) -> None:
        prefix = RequestMatch(uri=StringMatch("prefix", "/api"))
        assert matches(prefix, Asked(path=b"/api/v1"))
        assert not matches(prefix, Asked(path=b"/API/v1"))
        assert matches(replace(prefix, ignore_uri_case=True), Asked(path=b"/API/v1"))
        assert not matches(RequestMatch(uri=StringMatch("exact", "/api")), Asked(path=b"/api/"))

    def test_fields_are_anded_and_matches_ored(self) -> None:
        get_api = RequestMatch(uri=StringMatch("prefix", "/api"), method=StringMatch("exact", "GET"))
        assert not matches(get_api, Asked(path=b"/api", method=b"POST"))
        either = (get_api, RequestMatch(uri=StringMatch("exact", "/x")))
        index = RouteIndex([(alternatives(either, MESH), "found")])
        assert index.find(Asked(path=b"/x", method=b"POST"))
        assert index.find(Asked(path=b"/api/x"))
        assert not index.find(Asked(path=b"/api/x", method=b"POST"))

    def test_headers(self) -> None:
        jason = NamedMatch("end-user", StringMatch("exact", "jason"))
        with_jason = RequestMatch(headers=(jason,))
        assert matches(with_jason, Asked(headers={b"end-user": b"jason"}))
        assert not matches(with_jason, Asked())
        present = RequestMatch(headers=(NamedMatch("end-user", StringMatch("present")),))
        assert matches(present, Asked(headers={b"end-user": b""}))
        without = RequestMatch(without_headers=(jason,))
        assert matches(without, Asked(headers={b"end-user": b"mary"}))
        assert not matches(without, Asked(headers={b"end-user": b"jason"}))

    def test_one_of_several_values_has_to_match(self) -> None:
        jason = (NamedMatch("end-user", StringMatch("exact", "jason")),)
        both, others = Asked(headers={b"end-user": b"amy; jason"}), Asked(headers={b"end-user": b"amy; bob"})
        for matching, request, expected in (
            (RequestMatch(headers=jason), both, True),
            (RequestMatch(headers=jason), others, False),
            (RequestMatch(without_headers=jason), both, False),
            (RequestMatch(without_headers=jason), others, True),
        ):
            assert matches(matching, request) is expected

    def test_query_parameters(self) -> None:
        match = RequestMatch(query_params=(NamedMatch("user%20name", StringMatch("exact", "a+b")),))
        assert matches(match, Asked(query=b"?x=1&user%20name=a+b&user%20name=c"))
        assert not matches(match, Asked(query=b"?user%20name=a%20b"))
        assert not matches(match, Asked(query=b"?x=1"))

    def test_authority_is_with_its_port(self) -> None:
        match = RequestMatch(authority=StringMatch("exact", "Reviews"))
        assert matches(match, Asked(host=b"reviews"))
        assert not matches(match, Asked(host=b"reviews:9080"))
        assert not matches(match, Asked(host=b"ratings"))

    def test_only_routes_that_the_path_may_mean_are_asked(self) -> None:
        present = (NamedMatch("x", StringMatch("present")),)
        prefixes = [f"/{number}/" for number in range(1000)] + ["/", "/7/deep", "/77"]
        routes = [
            Route(prefix, "", (RequestMatch(uri=StringMatch("prefix", prefix), headers=present),), (To("a"),))
            for prefix in prefixes
        ]
        table = RouteTable(routes, MESH, b"")
        asked: list[bytes] = []

        class Counted(Asked):
            def values(self, name: bytes) -> list[bytes]:
                asked.append(name)
                return []

        for path, often in ((b"/500/x", 2), (b"/7/deeper", 3), (b"/77/", 3), (b"/x", 1), (b"*", 0)):
            asked.clear()
            assert table.choose(Counted(path=path)) is None
            assert len(asked) == often, path

    def test_source(self) -> None:
        assert matches(RequestMatch(source_labels=(("app", "client"),)), Asked())
        assert not matches(RequestMatch(source_labels=(("app", "other"),)), Asked())
        assert not matches(RequestMatch(source_namespace="prod"), Asked())
        assert not matches(RequestMatch(port=9080), Asked())

    def test_gateways(self) -> None:
        gateway = replace(MESH, is_gateway=True)
        only_gateway = RequestMatch(gateways=("bookinfo",))
        both = RequestMatch(gateways=("bookinfo", "mesh"))
        only_mesh = RequestMatch(gateways=("mesh",))
        assert [matches(each, Asked()) for each in (only_gateway, both, only_mesh)] == [False, True, True]
        assert [matches(each, Asked(), gateway) for each in (only_gateway, both, only_mesh)] == [
            True,
            True,
            False,
        ]

    def test_routes_after_one_that_always_matches_are_dropped(self) -> None:
        routes = [Route(name, "", (), (To("a"),)) for name in ("one", "two")]
        table = RouteTable(routes, MESH, b"")
        chosen = table.choose(Asked())
        assert chosen is not None
        assert chosen.name == "one"

    def test_a_route_that_cannot_match_for_the_caller_is_dropped(self) -> None:
        never = Route("never", "", (RequestMatch(source_namespace="prod"),), (To("a"),))
        assert RouteTable([never], MESH, b"").choose(Asked()) is None


def endpoint(name: str, version: str = "v1") -> Endpoint:
    return Endpoint(
        f"default/{name}", "127.0.0.1", 1, name, f"spiffe://t/{name}", (("version", version),), "n"
    )


def destination(*endpoints: Endpoint) -> Destination:
    known = Destination("reviews")
    subsets = (Subset("v1", (("version", "v1"),)), Subset("v2", (("version", "v2"),), "ROUND_ROBIN"))
    known.set_service(Service("reviews", "default", "reviews", (), subsets, ()), 0.0)
    known.set_endpoints(endpoints, 0.0)
    return known


class TestBalance:
    def test_least_request_takes_the_less_busy_of_two(self) -> None:
        cluster = destination(endpoint("a"), endpoint("b")).cluster("", 0.0)
        assert cluster is not None
        cluster.members[0].active = 5
        assert {least_request(cluster.members) for _ in range(20)} == {cluster.members[1]}

    def test_round_robin_is_even(self) -> None:
        members = destination(*[endpoint(name) for name in "abc"]).cluster("", 0.0)
        assert members is not None
        pick: Picker[Member] = round_robin()
        picked = [pick(members.members) for _ in range(9)]
        assert all(picked.count(member) == 3 for member in members.members)

    def test_every_algorithm_picks_a_member(self) -> None:
        members = destination(endpoint("a"), endpoint("b")).cluster("", 0.0)
        assert members is not None
        for balance in ("LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"):
            assert picker(balance)(members.members) in members.members  # type: ignore[arg-type]

    def test_split_by_weight(self) -> None:
        split = WeightedSplit((90, 0, 10))
        assert [split.draw(point) for point in (0.0, 0.899, 0.9, 0.999)] == [0, 0, 2, 2]


class TestCluster:
    def test_subsets_select_by_labels(self) -> None:
        known = destination(endpoint("a"), endpoint("b", "v2"))
        for subset, names in (("", {"a", "b"}), ("v1", {"a"}), ("v2", {"b"})):
            cluster = known.cluster(subset, 0.0)
            assert cluster is not None
            assert {member.endpoint.sni for member in cluster.members} == names
        assert known.cluster("v3", 0.0) is None

    def test_unchanged_endpoints_keep_their_state(self) -> None:
        known = destination(endpoint("a"), endpoint("b"))
        cluster = known.cluster("", 0.0)
        assert cluster is not None
        first, second = cluster.members
        first.active = 3
        gone = known.set_endpoints([endpoint("a"), endpoint("c")], 0.0)
        assert gone == (second,)
        assert cluster.members[0] is first
        assert cluster.members[1].endpoint.sni == "c"

    def test_ejection_grows_and_ends(self) -> None:
        cluster = destination(endpoint("a"), endpoint("b")).cluster("", 0.0)
        assert cluster is not None
        bad, good = cluster.members
        now, ejections = 0.0, []
        for _ in range(7):
            ejections.append(bad.eject(now))
            assert bad.eject(now) == ejections[-1], "requests that failed together"
            now += ejections[-1]
        assert ejections == [1, 2, 4, 8, 16, LONGEST_EJECTION_S, LONGEST_EJECTION_S]
        cluster.refresh(now - 1.0)
        assert cluster.available == (good,)
        cluster.refresh(now)
        assert set(cluster.available) == {bad, good}

    def test_when_all_are_ejected_all_are_tried(self) -> None:
        cluster = destination(endpoint("a"), endpoint("b")).cluster("", 0.0)
        assert cluster is not None
        for member in cluster.members:
            member.eject(0.0)
        cluster.refresh(0.1)
        assert cluster.available == cluster.members

    def test_a_retry_goes_elsewhere_or_nowhere(self) -> None:
        cluster = destination(endpoint("a"), endpoint("b")).cluster("", 0.0)
        assert cluster is not None
        first, second = cluster.members
        assert cluster.choose((first,)) is second
        assert cluster.choose((first, second)) is None


class Idle:
    """An idle connection."""

    def __init__(self, idle_since: float = 0.0, expires_at: float = 1e9) -> None:
        self.idle_since = idle_since
        self.expires_at = expires_at
        self.is_open = True
        self.served = 0

    def set_option(self, level: int, option: int, value: int) -> None:
        raise AssertionError("nobody asked for options")

    def close(self) -> None:
        self.is_open = False


@dataclass
class Sent:
    """A request as a pool sees it."""

    is_replayable: bool


REPLAYABLE = Sent(True)


class TestPool:
    def test_the_connection_used_last_is_taken_first(self) -> None:
        pool = Pool()
        one, two = Idle(), Idle()
        pool.give_back(one, 0, 1.0)
        pool.give_back(two, 0, 2.0)
        assert pool.take(3.0, REPLAYABLE) is two
        assert pool.take(3.0, REPLAYABLE) is one
        assert pool.take(3.0, REPLAYABLE) is None

    def test_stale_and_expiring_connections_are_closed_not_used(self) -> None:
        pool = Pool()
        stale, expiring = Idle(), Idle(expires_at=10.0)
        pool.give_back(stale, 0, 0.0)
        pool.give_back(expiring, 0, 9.0)
        assert pool.take(IDLE_S + 1, REPLAYABLE) is None
        assert not stale.is_open
        assert not expiring.is_open

    def test_what_cannot_be_repeated_needs_a_fresh_connection(self) -> None:
        pool = Pool(fresh_s=1.0)
        connection = Idle()
        pool.give_back(connection, 0, 0.0)
        assert pool.take(2.0, Sent(False)) is None
        assert connection.is_open
        assert pool.take(2.0, REPLAYABLE) is connection

    def test_a_retired_generation_is_not_kept(self) -> None:
        pool = Pool()
        idle, busy = Idle(), Idle()
        pool.give_back(idle, 0, 0.0)
        pool.retire()
        pool.give_back(busy, 0, 0.0)
        assert not idle.is_open
        assert not busy.is_open
        assert pool.idle == []

    def test_a_shut_pool_keeps_nothing(self) -> None:
        pool = Pool()
        pool.shut()
        late = Idle()
        pool.give_back(late, pool.generation, 0.0)
        assert not late.is_open

    def test_connections_are_counted(self) -> None:
        pool = Pool()
        assert all(pool.admit() for _ in range(MAX_CONNECTIONS))
        assert not pool.admit()
        pool.forget(None)
        assert pool.admit()


class TestFault:
    def test_both_are_drawn_apart(self) -> None:
        fault = Fault(delay_s=2.0, delay_percent=50.0, abort_status=500, abort_percent=10.0)
        abort = injected_abort(500)
        assert draw(fault, iter([0.4, 0.05]).__next__) == (2.0, abort)
        assert draw(fault, iter([0.4, 0.5]).__next__) == (2.0, None)
        assert draw(fault, iter([0.6, 0.05]).__next__) == (0.0, abort)

    def test_full_and_zero_percent(self) -> None:
        always = Fault(abort_status=503, abort_percent=100.0)
        assert draw(always, lambda: 0.999999) == (0.0, injected_abort(503))
        assert draw(replace(always, abort_percent=0.0), lambda: 0.0) == (0.0, None)

    @pytest.mark.parametrize(("status", "http"), [("OK", 200), ("NOT_FOUND", 404), ("UNAVAILABLE", 503)])
    def test_a_status_of_grpc(self, status: str, http: int) -> None:
        number = GrpcStatus[status]
        fault = Fault(abort_percent=100.0, abort_grpc_status=number)
        _, reply = draw(fault, lambda: 0.5)
        assert reply is not None
        assert (reply.status, reply.grpc_status) == (http, number)
        assert (b"grpc-status", b"%d" % number) in grpc_reply(reply)
        assert f"aborted with {status}" in reply.message


class TestToken:
    digest = hashlib.sha256(b"secret").digest()

    def test_basic_credentials(self) -> None:
        right = base64.b64encode(b"workload:secret")
        assert accepts(b"Basic " + right, self.digest)
        assert accepts(b"basic " + right, self.digest)

    @pytest.mark.parametrize(
        "credential",
        [
            b"",
            b"Basic",
            b"Basic !!!",
            b"Bearer secret",
            b"Basic " + base64.b64encode(b"secret"),
            b"Basic " + base64.b64encode(b"workload:wrong"),
        ],
    )
    def test_everything_else_is_refused(self, credential: bytes) -> None:
        assert not accepts(credential, self.digest)


def test_asked_port() -> None:
    service = Service("h", "n", "s", (Port(9080, "http"),), (), ())
    assert asked_port(service, 9080, True) == 9080
    assert asked_port(service, 80, False) == 9080
    assert isinstance(asked_port(service, 80, True), Reply)
    assert asked_port(replace(service, ports=()), 1234, True) == 1234


def test_the_most_specific_virtual_host_wins() -> None:
    hosts = tuple(VirtualHost((name,), ()) for name in ("*", "*.com", "*.Example.com", "a.example.com"))
    names = {"a.example.com": 3, "b.example.com": 2, "c.b.example.com": 2, "b.other.com": 1, "x.org": 0}
    assert {name: VirtualHosts(hosts).find(name) for name in names} == {
        name: hosts[number] for name, number in names.items()
    }
    assert VirtualHosts(hosts[1:]).find("com") is None
    assert VirtualHosts((*hosts, VirtualHost(("*.com",), ()))).find("b.com") is hosts[1]
    assert VirtualHosts().find("x") is None


class TestTrace:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def test_a_child_keeps_the_trace_and_its_flags(self) -> None:
        child = child_of(self.parent)
        assert is_valid(child)
        assert child[:36] == self.parent[:36]
        assert child[-2:] == b"01"
        assert child != self.parent

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"junk",
            b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
            parent.replace(b"00-", b"ff-", 1),
            parent + b"-x",
        ],
    )
    def test_what_is_no_traceparent(self, value: bytes) -> None:
        assert not is_valid(value)

    def test_without_a_parent_a_new_trace_begins(self) -> None:
        assert is_valid(child_of(b""))
        assert child_of(b"")[:35] != child_of(b"")[:35]

    def test_request_ids_are_distinct(self) -> None:
        assert len({new_request_id() for _ in range(1000)}) == 1000
