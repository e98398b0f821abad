"""The Gateway API's documents: the rules of their CRDs, and what is refused by name."""

from __future__ import annotations

import pytest

from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.gateway.admission import key_of
from ray_mesh.resources import KINDS, HttpRouteSpec, load, read

GATEWAY = "Gateway.gateway.networking.k8s.io"
LISTENER = "{name: a, port: 80, protocol: HTTP}"
PREFIX = "{type: ReplacePrefixMatch, replacePrefixMatch: /x}"
REDIRECT = "{type: RequestRedirect, requestRedirect: {hostname: a.org}}"
BACKEND = "backendRefs: [{name: a, port: 80}]"
FILES = "options: {mesh.ray.io/server-certificate: /c, mesh.ray.io/private-key: /k}"


def text(kind: str, spec: str, version: str = "") -> str:
    version = version or KINDS[kind].api_versions[0].rpartition("/")[2]
    return (
        f"apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind.partition('.')[0]}\n"
        f"metadata: {{name: one}}\nspec: {spec}\n"
    )


def rule(written: str) -> str:
    return text("HTTPRoute", f"{{rules: [{{{written}}}]}}")


def grpc_method(method: str) -> str:
    return text("GRPCRoute", f"{{rules: [{{matches: [{{method: {method}}}]}}]}}")


def listeners(*written: str) -> str:
    return text(GATEWAY, f"{{gatewayClassName: istio, listeners: [{', '.join(written)}]}}")


def gateway(more: str) -> str:
    return text(GATEWAY, f"{{gatewayClassName: istio, listeners: [{LISTENER}], {more}}}")


def refusal(document: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(document, "f.yaml")
    assert not isinstance(caught.value, NotSupported), str(caught.value)
    return str(caught.value)


def test_the_two_kinds_of_gateways_are_told_apart() -> None:
    [one] = load(listeners(LISTENER), "f.yaml")
    assert (one.kind, one.key) == (GATEWAY, "k8sgateway.default.one")
    assert one.title == f"{GATEWAY} default/one"
    istio = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: one}\n"
    istio += "spec: {servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}]}\n"
    [other] = load(istio, "f.yaml")
    assert (other.kind, other.key) == ("Gateway", "gateway.default.one")
    assert "write gateway.networking.k8s.io/v1" in refusal(listeners(LISTENER).replace("io/v1", "io/v2"))


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("gw", "gateway.default.one"),
        ("gtw", "k8sgateway.default.one"),
        ("Gateways.Gateway.networking.k8s.io", "k8sgateway.default.one"),
        ("gateway.networking.istio.io", "gateway.default.one"),
        ("gateway", "gateway.default.one"),
        ("httproutes", "httproute.default.one"),
    ],
)
def test_what_people_call_kinds(word: str, key: str) -> None:
    assert key_of(word, "default", "one") == key


def test_a_word_for_two_kinds_means_the_object_that_is_there() -> None:
    both = ("gateway.default.one", "k8sgateway.default.one")
    assert key_of("gateway", "default", "one", both[1:]) == both[1]
    with pytest.raises(ConfigError, match=r"write gateway.networking.istio.io or gateway.gateway.networking"):
        key_of("gateway", "default", "one", both)


@pytest.mark.parametrize(
    "version", ["HTTPRoute v1beta1", "TCPRoute v1alpha2", "TLSRoute v1alpha3", "ReferenceGrant v1beta1"]
)
def test_older_versions(version: str) -> None:
    kind, _, number = version.partition(" ")
    spec = {
        "HTTPRoute": "{}",
        "TCPRoute": f"{{rules: [{{{BACKEND}}}]}}",
        "TLSRoute": f"{{hostnames: [a.org], rules: [{{{BACKEND}}}]}}",
        "ReferenceGrant": "{from: [{group: '', kind: A, namespace: b}], to: [{group: '', kind: Service}]}",
    }[kind]
    assert load(text(kind, spec, number), "f.yaml")


def test_defaults() -> None:
    [one] = load(text("HTTPRoute", "{}"), "f.yaml")
    [written] = one.read(HttpRouteSpec).rules
    [match] = written.conditions
    assert (match.path.type, match.path.value) == ("PathPrefix", "/")
    [one] = load(rule(f"matches: [], {BACKEND}"), "f.yaml")
    assert len(one.read(HttpRouteSpec).rules[0].conditions) == 1
    assert one.read(HttpRouteSpec).rules[0].backend_refs[0].weight == 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (rule("matches: [{path: {value: a}}]"), "must be an absolute path and start with '/'"),
        (rule("matches: [{path: {value: /a//b}}]"), "must not contain '//'"),
        (rule("matches: [{path: {value: /a/../b}}]"), "must not contain '/../'"),
        (rule("matches: [{path: {value: /a/.}}]"), "must not end with"),
        (rule("matches: [{path: {value: '/a b'}}]"), "must only contain valid characters (matching ^(?:"),
        (rule("matches: [{path: {type: RegularExpression, value: '('}}]"), "not a regular expression"),
        (rule("matches: [{method: get}]"), "is not one of"),
        (rule("matches: [{headers: [{name: 'a b', value: c}]}]"), "headers[0].name"),
        (rule("matches: [{headers: [{name: a, value: c}, {name: a, value: d}]}]"), "a is named twice"),
        (rule("backendRefs: [{name: a}]"), "Must have port for Service reference"),
        (rule("backendRefs: [{name: a, port: 80, weight: -1}]"), "weight"),
        (rule(f"filters: [{REDIRECT}], {BACKEND}"), "must not be used together with backendRefs"),
        (rule(f"filters: [{REDIRECT}, {REDIRECT}]"), "RequestRedirect filter cannot be repeated"),
        (rule("filters: [{type: RequestRedirect}]"), "must be specified for RequestRedirect filter.type"),
        (
            rule("filters: [{type: URLRewrite, urlRewrite: {hostname: a.org}, cors: {}}]"),
            "must be nil if the filter.type is not CORS",
        ),
        (
            rule(f"filters: [{REDIRECT}, {{type: URLRewrite, urlRewrite: {{hostname: a.org}}}}]"),
            "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite",
        ),
        (
            rule(
                f"matches: [{{path: {{type: Exact, value: /a}}}}], {BACKEND}, "
                f"filters: [{{type: URLRewrite, urlRewrite: {{path: {PREFIX}}}}}]"
            ),
            "exactly one PathPrefix match must be specified",
        ),
        (
            rule(
                f"filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath}}}}}}], {BACKEND}"
            ),
            "replaceFullPath must be specified",
        ),
        (
            rule(
                "filters: [{type: RequestHeaderModifier, requestHeaderModifier: "
                f"{{set: [{{name: A, value: b}}], remove: [a]}}}}], {BACKEND}"
            ),
            "only one action for a header",
        ),
        (
            rule(
                "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, "
                f"percent: 1, fraction: {{numerator: 1}}}}}}], {BACKEND}"
            ),
            "Only one of percent or fraction",
        ),
        (rule(f"filters: [{{type: CORS, cors: {{allowOrigins: [a.org]}}}}], {BACKEND}"), "or an origin"),
        (rule(f"timeouts: {{request: 1s, backendRequest: 2s}}, {BACKEND}"), "cannot be longer"),
        (rule(f"timeouts: {{request: 1.5s}}, {BACKEND}"), "is not a duration"),
        (rule(f"retry: {{codes: [200]}}, {BACKEND}"), "codes[0]"),
        (text("HTTPRoute", "{rules: []}"), "at least 1 item"),
        (text("HTTPRoute", "{rules: [{name: a}, {name: a}]}"), "Rule name must be unique"),
        (text("HTTPRoute", "{hostnames: [1.2.3.4]}"), "an address: write a host"),
        (text("HTTPRoute", "{hostnames: ['a.*.org']}"), "not a host"),
        (text("HTTPRoute", "{parentRefs: [{name: a}, {name: a}]}"), "must be unique when parentRefs"),
        (
            text("HTTPRoute", "{parentRefs: [{name: a}, {name: a, sectionName: b}]}"),
            "must be specified when parentRefs",
        ),
        (text("HTTPRoute", "{hostname: a.org}"), "did you mean hostnames?"),
        (text("TCPRoute", "{rules: []}"), "at least 1 item"),
        (text("TLSRoute", f"{{rules: [{{{BACKEND}}}]}}"), "spec.hostnames: required"),
        (
            text("GRPCRoute", "{rules: [{matches: [{method: {}}]}]}"),
            "'service' or 'method' must be specified",
        ),
        (
            text("GRPCRoute", "{rules: [{matches: [{method: {service: '.*'}}]}]}"),
            "service must only contain valid characters",
        ),
        (grpc_method("{type: RegularExpression, service: 'a)|(b'}"), "method.service: not a regular"),
        (grpc_method("{type: RegularExpression, service: 'a{900}', method: 'b{900}'}"), "at most"),
        (
            text(
                "GRPCRoute", "{rules: [{matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]}]}"
            ),
            "a is named twice",
        ),
        (
            text(
                "GRPCRoute",
                "{rules: [{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: "
                "{set: [{name: host, value: a}]}}]}]}",
            ),
            "a response has no authority",
        ),
        (
            text("HTTPRoute", "{rules: [" + ", ".join(["{matches: [" + "{}, " * 20 + "]}"] * 7) + "]}"),
            "total number of matches across all rules",
        ),
        (text("ReferenceGrant", "{from: [], to: []}"), "at least 1 item"),
        (listeners(), "at least 1 item"),
        (gateway("infrastructure: {labels: {'a b': c}}"), "infrastructure.labels"),
        (gateway("addresses: [{value: a.org}]"), "is not an IP address"),
        (gateway("addresses: [{type: Hostname, value: 'a.org:80'}]"), "is not a host"),
        (gateway("addresses: [{value: 1.2.3.4}, {value: 1.2.3.4}]"), "IPAddress values must be unique"),
        (gateway("addresses: [{type: nonsense}]"), "addresses[0].type"),
        (
            gateway("tls: {frontend: {default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]}}"),
            "Port for TLS configuration must be unique",
        ),
        (
            rule(f"sessionPersistence: {{cookieConfig: {{lifetimeType: Permanent}}}}, {BACKEND}"),
            "AbsoluteTimeout must be specified",
        ),
        (rule("filters: [{type: ExternalAuth, externalAuth: {}}]"), "externalAuth.protocol: required"),
        (
            rule(
                "filters: [{type: ExternalAuth, externalAuth: "
                "{protocol: GRPC, http: {}, backendRef: {name: a, port: 80}}}]"
            ),
            "grpc must be specified when protocol is set to 'GRPC'",
        ),
        (listeners(LISTENER, LISTENER.replace("80", "81")), "Listener name must be unique"),
        (listeners(LISTENER, LISTENER.replace("a,", "b,")), "port, protocol and hostname must be unique"),
        (listeners("{name: a, port: 80, protocol: HTTP, tls: {}}"), "tls must not be specified"),
        (listeners("{name: a, port: 80, protocol: TCP, hostname: a.org}"), "hostname must not be specified"),
        (listeners("{name: a, port: 80, protocol: HTTPS, tls: {mode: Passthrough}}"), "must be Terminate"),
        (listeners(f"{{name: a, port: 80, protocol: TLS, tls: {{{FILES}}}}}"), "tls mode must be set"),
        (listeners("{name: a, port: 80, protocol: HTTPS, tls: {mode: Terminate}}"), "must be specified when"),
        (
            listeners(
                "{name: a, port: 80, protocol: HTTPS, tls: {options: {mesh.ray.io/server-certificate: /c}}}"
            ),
            'options["mesh.ray.io/private-key"]: is missing',
        ),
        (
            listeners("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}"),
            "from: Selector needs one",
        ),
    ],
)
def test_what_is_invalid(document: str, message: str) -> None:
    told = refusal(document)
    assert message in told, told


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            text("GRPCRoute", f"{{rules: [{{sessionPersistence: {{sessionName: a}}, {BACKEND}}}]}}"),
            "consistentHash in a DestinationRule",
        ),
        (
            text(
                "GRPCRoute",
                "{rules: [{backendRefs: [{name: a, port: 80, filters: [{type: RequestMirror, "
                "requestMirror: {backendRef: {name: a, port: 80}}}]}]}]}",
            ),
            "RequestMirror of one backend: say it of the rule",
        ),
        (rule(f"sessionPersistence: {{sessionName: a}}, {BACKEND}"), "consistentHash in a DestinationRule"),
        (
            rule("filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}], " + BACKEND),
            "filters[0].extensionRef",
        ),
        (
            rule(f"backendRefs: [{{name: a, port: 80, filters: [{REDIRECT}]}}]"),
            "RequestRedirect of one backend",
        ),
        (
            rule("backendRefs: [{name: a, kind: ServiceImport, group: multicluster.x-k8s.io}]"),
            "ServiceImport",
        ),
        (
            rule("matches: [{headers: [{name: a, value: b}, {name: A, value: b}]}], " + BACKEND),
            "named above in other case",
        ),
        (text("HTTPRoute", "{parentRefs: [{name: a, kind: Mesh, group: x.io}]}"), "Mesh of x.io"),
        (text("HTTPRoute", "{useDefaultGateways: All}"), "useDefaultGateways"),
        (text("HTTPRoute", "{parentRefs: [{name: a, kind: Service}]}"), 'write group: ""'),
        (gateway("addresses: [{value: 1.2.3.4}, {type: Hostname, value: a.org}]"), "spec.addresses"),
        (gateway("allowedListeners: {namespaces: {from: Same}}"), "there are no ListenerSets"),
        (gateway("tls: {frontend: {default: {}, perPort: [{port: 1, tls: {}}]}}"), "spec.tls"),
        (
            rule(
                "filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {path: /a}, "
                f"backendRef: {{name: a, port: 80}}}}}}], {BACKEND}"
            ),
            "no authorization by another service",
        ),
        (
            rule(
                "filters: [{type: URLRewrite, urlRewrite: "
                f"{{path: {{type: ReplaceFullPath, replaceFullPath: foo}}}}}}], {BACKEND}"
            ),
            "does not begin with /",
        ),
        (listeners(LISTENER).replace("istio", "nginx"), "nginx: write ray-mesh or istio"),
        (listeners(LISTENER.replace("HTTP", "UDP")), "UDP: listeners speak"),
        (
            listeners(
                "{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}",
            ),
            "tls.certificateRefs: name files",
        ),
        (
            listeners(f"{{name: a, port: 80, protocol: HTTPS, tls: {{{FILES.replace('ray', 'rai')}}}}}"),
            "did you mean mesh.ray.io/server-certificate?",
        ),
        (
            listeners(LISTENER, f"{{name: b, port: 80, protocol: HTTPS, tls: {{{FILES}}}}}"),
            "port 80 is HTTP in a listener above",
        ),
        (
            listeners("{name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: TCPRoute}]}}"),
            "TCPRoute at a listener of HTTP",
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: a}\n",
            "the classes ray-mesh and istio are built in",
        ),
    ],
)
def test_what_is_valid_and_not_honoured(document: str, message: str) -> None:
    with pytest.raises(NotSupported) as caught:
        load(document, "f.yaml")
    assert message in str(caught.value), str(caught.value)


def test_analysis_keeps_what_is_not_honoured() -> None:
    spec = "{rules: [{sessionPersistence: {}}]}"
    documents, problems = read(text("GRPCRoute", spec), "f.yaml")
    assert [one.key for one in documents] == ["grpcroute.default.one"]
    assert all(one.later for one in problems)
