"""Specs of the Gateway API's kinds, small enough that what they name is often there."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b"])
NAMESPACES = st.sampled_from(["default", "default", "prod"])
PORTS = st.sampled_from([80, 81])
HOSTNAMES = st.sampled_from(["a.example.com", "*.example.com", "b.example.com"])


def _maybe(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), values.map(lambda value: {name: value}))


def _merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda maps: {key: value for one in maps for key, value in one.items()})


LISTENERS = st.builds(
    lambda port, more, namespaces, kind: {
        "name": f"{kind}-{port}",
        "port": port,
        **{
            "http": {"protocol": "HTTP", **more},
            "tls": {"protocol": "TLS", "tls": {"mode": "Passthrough"}, **more},
            "tcp": {"protocol": "TCP"},
        }[kind],
        "allowedRoutes": {"namespaces": namespaces},
    },
    PORTS,
    _maybe("hostname", HOSTNAMES),
    st.sampled_from(
        [
            {"from": "Same"},
            {"from": "All"},
            {"from": "Selector", "selector": {"matchLabels": {"team": "v1"}}},
        ]
    ),
    st.sampled_from(["http", "http", "tls", "tcp"]),
)
PARENTS = _merged(
    st.one_of(
        NAMES.map(lambda name: {"name": name}),
        NAMES.map(lambda name: {"name": name, "kind": "Service", "group": ""}),
        st.just({"name": "a", "kind": "ServiceEntry", "group": "networking.istio.io"}),
    ),
    _maybe("namespace", NAMESPACES),
    _maybe("port", PORTS),
)
BACKENDS = st.one_of(
    _merged(
        NAMES.map(lambda name: {"name": name, "port": 80}),
        _maybe("namespace", NAMESPACES),
        _maybe("weight", st.sampled_from([0, 1, 3])),
    ),
    st.just({"kind": "Hostname", "group": "networking.istio.io", "name": "api.example.com"}),
)
MATCHES = _merged(
    _maybe("path", st.sampled_from([{"value": "/x"}, {"type": "Exact", "value": "/x"}])),
    _maybe("method", st.just("GET")),
)
MIRRORS = BACKENDS.map(lambda one: {name: value for name, value in one.items() if name != "weight"}).map(
    lambda one: {"type": "RequestMirror", "requestMirror": {"backendRef": one}}
)
FILTERS = st.one_of(
    MIRRORS,
    st.just({"type": "URLRewrite", "urlRewrite": {"hostname": "b.example.com"}}),
)
RULES = _merged(
    st.lists(BACKENDS, max_size=2).map(lambda backends: {"backendRefs": backends}),
    st.lists(MATCHES, max_size=2).map(lambda matches: {"matches": matches}),
    _maybe("filters", FILTERS.map(lambda one: [one])),
)
CALLS = _merged(
    st.lists(BACKENDS, max_size=2).map(lambda backends: {"backendRefs": backends}),
    _maybe("matches", st.just([{"method": {"service": "x"}}])),
    _maybe("filters", MIRRORS.map(lambda one: [one])),
)
CONNECTION_RULES = st.lists(BACKENDS, min_size=1, max_size=2).map(
    lambda backends: {"rules": [{"backendRefs": backends}]}
)
PARENT_REFS = PARENTS.map(lambda parent: {"parentRefs": [parent]})

SPECS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "Gateway.gateway.networking.k8s.io": st.builds(
        lambda listener, labels: {
            "gatewayClassName": "ray-mesh",
            "listeners": [listener],
            "infrastructure": {"labels": labels},
        },
        LISTENERS,
        st.sampled_from([{}, {"version": "v1"}]),
    ),
    "HTTPRoute": _merged(
        PARENT_REFS,
        _maybe("hostnames", st.sets(HOSTNAMES, min_size=1, max_size=2).map(sorted)),
        st.lists(RULES, min_size=1, max_size=2).map(lambda rules: {"rules": rules}),
    ),
    "GRPCRoute": _merged(
        PARENT_REFS,
        _maybe("hostnames", st.sets(HOSTNAMES, min_size=1, max_size=2).map(sorted)),
        st.lists(CALLS, max_size=2).map(lambda rules: {"rules": rules}),
    ),
    "TCPRoute": _merged(PARENT_REFS, CONNECTION_RULES),
    "TLSRoute": _merged(PARENT_REFS, CONNECTION_RULES, HOSTNAMES.map(lambda host: {"hostnames": [host]})),
    "ReferenceGrant": st.builds(
        lambda kind, namespace: {
            "from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": namespace}],
            "to": [{"group": "", "kind": "Service"}],
        },
        st.sampled_from(["HTTPRoute", "GRPCRoute", "TCPRoute"]),
        NAMESPACES,
    ),
    "Namespace": st.just({}),
}
