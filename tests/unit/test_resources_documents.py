"""Documents: what is honoured, what is refused by name, and how mistakes are told."""

from __future__ import annotations

import json

import pytest

from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.resources import KINDS, VirtualServiceSpec, WorkloadSpec, from_json, load, read
from ray_mesh.resources.kinds import kinds_called

API = {kind: entry.api_versions[0] for kind, entry in KINDS.items()}


def document(kind: str, spec: str, metadata: str = "{name: one}") -> str:
    return f"apiVersion: {API[kind]}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"


def virtual_service(rule: str) -> str:
    return document("VirtualService", f"{{hosts: [reviews], http: [{rule}]}}")


ROUTE = "route: [{destination: {host: reviews}}]"


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, "f.yaml")
    assert not isinstance(caught.value, NotSupported), str(caught.value)
    return str(caught.value)


def not_supported(text: str) -> str:
    with pytest.raises(NotSupported) as caught:
        load(text, "f.yaml")
    return str(caught.value)


def test_a_document_has_its_key_and_canonical_json() -> None:
    [one] = load(virtual_service(f"{{{ROUTE}, timeout: 7s}}"), "f.yaml")
    assert one.key == "virtualservice.default.one"
    assert one.title == "VirtualService default/one"
    assert one.read(VirtualServiceSpec).http[0].timeout == "7s"
    again = from_json(one.json, 5.0)
    assert again.json == one.json
    assert again.admitted_at == 5.0
    with pytest.raises(TypeError, match="not a WorkloadSpec"):
        one.read(WorkloadSpec)


def test_key_order_does_not_matter() -> None:
    [one] = load(
        "kind: RateLimit\nspec: {unit: SECOND, requests: 1}\nmetadata: {name: a}\napiVersion: mesh.ray.io/v1",
        "f",
    )
    [two] = load(
        "apiVersion: mesh.ray.io/v1\nkind: RateLimit\nmetadata: {name: a}\nspec: {requests: 1, unit: SECOND}",
        "f",
    )
    assert one == two
    assert json.loads(one.json)["metadata"] == {"name": "a", "namespace": "default"}


def test_the_namespace_comes_from_the_document_the_caller_or_the_kind() -> None:
    text = document("RateLimit", "{requests: 1, unit: SECOND}")
    assert load(text, "f")[0].namespace == "default"
    assert load(text, "f", "prod")[0].namespace == "prod"
    assert load(text.replace("name: one", "name: one, namespace: own"), "f", "prod")[0].namespace == "own"
    assert load(document("MeshConfig", "{}", "{name: mesh}"), "f")[0].key == "meshconfig.mesh-system.mesh"


def test_a_misspelled_field_is_told_with_its_place_and_the_right_name() -> None:
    text = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: r\n"
        "spec:\n  hosts: [a]\n  http:\n  - rout: []\n"
    )
    assert refusal(text) == (
        "f.yaml:8:5: VirtualService default/r: spec.http[0].rout: unknown field; did you mean route?"
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (f"{{{ROUTE}, cors_policy: {{}}}}", "did you mean corsPolicy?"),
        (f"{{{ROUTE}, match: [{{queryparams: {{}}}}]}}", "did you mean queryParams?"),
        (f"{{{ROUTE}, match: [{{without_headers: {{}}}}]}}", "did you mean withoutHeaders?"),
        (f"{{{ROUTE}, zzz: 1}}", "known here: corsPolicy, delegate,"),
        ("{route: [{destination: {hots: reviews}}]}", "did you mean host?"),
    ],
)
def test_near_names_are_suggested(rule: str, expected: str) -> None:
    assert expected in refusal(virtual_service(rule))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (f"{{{ROUTE}, timeout: 7}}", "spec.http[0].timeout: input should be a valid string, got 7: quote it"),
        (f"{{{ROUTE}, timeout: 7 s}}", "not a duration"),
        (f"{{{ROUTE}, timeout: 100us}}", "at least 1ms"),
        (f"{{{ROUTE}, timeout: null}}", "null is not a value"),
        (
            f"{{{ROUTE}, match: [{{headers: {{end-user: null}}}}]}}",
            "spec.http[0].match[0].headers.end-user: null",
        ),
        (f"{{{ROUTE}, match: {{uri: {{exact: /}}}}}}", "spec.http[0].match: input should be a valid"),
        (f"{{{ROUTE}, match: [{{uri: {{}}}}]}}", "set one of exact, prefix and regex"),
        (f"{{{ROUTE}, match: [{{uri: {{exact: /, prefix: /}}}}]}}", "set one of exact, prefix and regex"),
        (f"{{{ROUTE}, match: [{{port: 70000}}]}}", "less than or equal to 65535"),
        (f"{{{ROUTE}, match: [{{port: '80'}}]}}", "valid integer"),
        (f"{{{ROUTE}, match: [{{headers: {{':path': {{exact: /}}}}}}]}}", "not the name of a header"),
        (f"{{{ROUTE}, fault: {{}}}}", "a fault has a delay, an abort or both"),
        (f"{{{ROUTE}, fault: {{abort: {{httpStatus: 99}}}}}}", "greater than or equal to 200"),
        (f"{{{ROUTE}, fault: {{abort: {{percentage: {{value: 1}}}}}}}}", "set one of httpStatus"),
        (f"{{{ROUTE}, fault: {{delay: {{percentage: {{value: 1}}}}}}}}", "fixedDelay is missing"),
        (
            f"{{{ROUTE}, fault: {{abort: {{httpStatus: 500, percentage: {{value: 101}}}}}}}}",
            "less than or equal to 100",
        ),
        ("{route: []}", "route is missing"),
        ("{route: [{destination: {}}]}", "destination.host: required"),
        ("{route: [{destination: {host: '*'}}]}", "is not a host"),
        ("{route: [{destination: {host: a_b}}]}", "is not a host"),
        (f"{{{ROUTE}, fault: {{delay: {{exponentialDelay: 1s}}}}}}", "write fixedDelay"),
        ("{route: [{destination: {host: a}, weight: -1}]}", "greater than or equal to 0"),
        ("{route: [{destination: {host: a}}, {destination: {host: b}}]}", "need weights"),
        ("{route: [{destination: {host: a, port: {number: 0}}}]}", "a port is 1 to 65535"),
    ],
)
def test_invalid_routes(rule: str, expected: str) -> None:
    assert expected in refusal(virtual_service(rule))


def test_every_problem_of_a_text_is_told_at_once() -> None:
    text = (
        virtual_service("{route: [], timeout: x}")
        + "---\n"
        + document("RateLimit", "{requests: 0, unit: HOUR}")
    )
    lines = refusal(text).splitlines()
    assert [line.split(":")[1] for line in lines] == ["4", "9", "9"]
    assert "'HOUR' is not one of 'SECOND' or 'MINUTE'" in lines[2]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (
            "{route: [{destination: {host: '*.a'}}]}",
            ["spec.http[0].route[0].destination.host *.a: name one host"],
        ),
        (f"{{{ROUTE}, rewrite: {{uri: '/x?y'}}}}", ["spec.http[0].rewrite.uri a query in it"]),
        (f"{{{ROUTE}, match: [{{statPrefix: x}}]}}", ["spec.http[0].match[0].statPrefix"]),
        (
            "{route: [{destination: {host: a}, headers: {request: {set: {x: '%REQ(y)%'}}}}]}",
            ["spec.http[0].route[0].headers.request.set.x the variable %REQ(y)%"],
        ),
    ],
)
def test_valid_fields_that_are_not_honoured_are_refused_by_name(rule: str, names: list[str]) -> None:
    lines = not_supported(virtual_service(rule)).splitlines()
    assert [line.split("not supported yet: ")[1] for line in lines] == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            document("DestinationRule", "{host: a, trafficPolicy: {tls: {mode: SIMPLE}}}"),
            "tls.mode SIMPLE: all traffic",
        ),
        (
            document("DestinationRule", "{host: a, trafficPolicy: {tls: {}}}"),
            "tls.mode DISABLE, which is what",
        ),
        (
            document("DestinationRule", "{host: a, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}"),
            "loadBalancer.simple PASSTHROUGH",
        ),
        (
            document(
                "Gateway", "{servers: [{port: {number: 443, name: s, protocol: GRPC-WEB}, hosts: ['*']}]}"
            ),
            "spec.servers[0].port.protocol GRPC-WEB: gateways speak HTTP, gRPC, TLS and TCP",
        ),
        (
            document(
                "Gateway",
                "{servers: [{port: {number: 443, name: s, protocol: HTTPS}, hosts: ['*'], "
                "tls: {mode: SIMPLE, credentialName: c}}]}",
            ),
            "spec.servers[0].tls.credentialName: name files on the ingress's node",
        ),
        (document("PeerAuthentication", "{mtls: {mode: PERMISSIVE}}"), "spec.mtls.mode PERMISSIVE: "),
        (document("PeerAuthentication", "{mtls: {mode: DISABLE}}"), "spec.mtls.mode DISABLE: "),
        (
            document(
                "PeerAuthentication",
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: DISABLE}}}",
            ),
            'spec.portLevelMtls["80"].mode DISABLE',
        ),
        (document("AuthorizationPolicy", "{action: AUDIT, rules: [{}]}"), "spec.action AUDIT"),
        (
            document("AuthorizationPolicy", "{action: CUSTOM, provider: {name: x}, rules: [{}]}"),
            "spec.action CUSTOM",
        ),
        (
            document("AuthorizationPolicy", "{rules: [{when: [{key: source.ip, values: [10.0.0.1]}]}]}"),
            "spec.rules[0].when[0].key",
        ),
        (
            document("AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['/a/{*}']}}]}]}"),
            "paths[0] path template '/a/{*}'",
        ),
        (
            document("AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['/a/*/b']}}]}]}"),
            "paths[0] '/a/*/b': * works at one end",
        ),
        (
            document("AuthorizationPolicy", "{rules: [{from: [{source: {principals: ['spiffe://a/b']}}]}]}"),
            "principals[0] spiffe://, which no identity begins with here: a/b",
        ),
        (
            document("AuthorizationPolicy", "{}", "{name: a, annotations: {istio.io/dry-run: 'true'}}"),
            "istio.io/dry-run",
        ),
        (
            document("Service", "{selector: {a: b}, ports: [{port: 80, name: grpc-web-x}]}"),
            "protocol of port name 'grpc-web-x': it is not translated to gRPC",
        ),
        (
            document("Service", "{selector: {a: b}, ports: [{port: 80, appProtocol: HBONE}]}"),
            "spec.ports[0].appProtocol HBONE: HTTP, gRPC, TCP and TLS are carried",
        ),
        (document("Service", "{ports: [{port: 80, name: http}]}"), "a Service without selector"),
        (document("Service", "{selector: {a: b}, clusterIP: None}"), "spec.ports empty"),
        (document("Service", "{type: ExternalName, externalName: a.b}"), "spec.type ExternalName"),
        (
            document(
                "Service",
                "{selector: {a: b}, ports: [{port: 53, name: tcp}, {port: 53, name: b, protocol: UDP}]}",
            ),
            "spec.ports[1].protocol UDP",
        ),
        (
            document("Service", "{selector: {a: b}, type: NodePort, ports: [{port: 80, name: http}]}"),
            "spec.type NodePort",
        ),
        (
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: a}\n",
            "kind EnvoyFilter",
        ),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", "kind Deployment of apps/v1"),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: a}\n",
            "kind GatewayClass of gateway.networking.k8s.io/v1: the classes ray-mesh and istio are built in",
        ),
    ],
)
def test_refused_by_name(text: str, expected: str) -> None:
    assert f"not supported yet: {expected}" in not_supported(text).replace("spec.trafficPolicy.", "") or (
        expected in not_supported(text)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: Service\n", "apiVersion and kind"),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualServce\nmetadata: {name: a}\n",
            "did you mean VirtualService?",
        ),
        (
            "apiVersion: networking.istio.io/v2\nkind: Gateway\nmetadata: {name: a}\n",
            "write networking.istio.io/v1",
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HttpRoute\nmetadata: {name: a}\n",
            "did you mean HTTPRoute?",
        ),
        (
            "apiVersion: netwroking.istio.io/v1beta1\nkind: Sidecar\nmetadata: {name: a}\n",
            "apiVersion: netwroking.istio.io/v1beta1 is not a version of Sidecar: "
            "write networking.istio.io/v1beta1",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: ProxyConfig\nmetadata: {name: a}\n",
            "write networking.istio.io/v1beta1",
        ),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n", "lies in no other"),
        (
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n",
            "f.yaml:1:1: ServiceEntry default/a: spec: required",
        ),
        ("apiVersion: v1\nkind: Service\n", "metadata is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\n", "metadata.name: required"),
        (document("Service", "{}", "{name: A_b}"), "metadata.name: 'A_b' is not a DNS label"),
        (document("Service", "{}", "{name: a.b}"), "not a DNS label"),
        (document("Service", "{}", "{name: a, namspace: b}"), "did you mean namespace?"),
        (document("Service", "{}", "{name: a, labels: {a: 1}}"), "quote it"),
        (
            document("Service", "{selector: {a: b}, ports: [{port: 80, name: http}]}") + "sepc: {}\n",
            "did you mean spec?",
        ),
        (document("Service", "[]"), "spec.ports: required"),
        (
            document("Service", "{selector: {a: b}, ports: [{port: 80}, {port: 81, name: a}]}"),
            "spec.ports[0].name: required, since there are several ports",
        ),
        (
            document("Service", "{selector: {a: b}, ports: [{port: 80, name: a}, {port: 80, name: b}]}"),
            "port 80 is used twice",
        ),
        (document("Service", "{type: ExternalName, externalName: a_b}"), "'a_b' is not a host name"),
        (document("Service", "[a]"), "spec is a map"),
        (
            document("VirtualService", f"{{hosts: ['*'], http: [{{{ROUTE}}}]}}"),
            "the host * is for gateways only",
        ),
        (document("VirtualService", f"{{hosts: ['*.a', b.a], http: [{{{ROUTE}}}]}}"), "already covered"),
        (document("VirtualService", f"{{hosts: ['a/b'], http: [{{{ROUTE}}}]}}"), "not a host"),
        (document("VirtualService", "{hosts: [a]}"), "http is missing"),
        (document("DestinationRule", "{host: a, subsets: [{name: v1}, {name: v1}]}"), "defined twice"),
        (document("AuthorizationPolicy", "{action: DENY}"), "a DENY policy without rules denies nothing"),
        (document("AuthorizationPolicy", "{rules: [{from: []}]}"), "spec.rules[0].from"),
        (document("AuthorizationPolicy", "{rules: [{from: [{source: {}}]}]}"), "would match every caller"),
        (document("AuthorizationPolicy", "{rules: [{from: [{source: {principals: []}}]}]}"), "principals"),
        (document("AuthorizationPolicy", "{rules: [{from: [{source: {principals: ['']}}]}]}"), "principals"),
        (
            document("AuthorizationPolicy", "{rules: [{to: [{operation: {ports: ['http']}}]}]}"),
            "is not a port",
        ),
        (
            document("AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: ['a/*']}}]}]}"),
            "no wildcards here",
        ),
        (document("AuthorizationPolicy", "{selector: {matchLabels: {a: 'b*'}}}"), "* is not a wildcard"),
        (document("RateLimit", "{requests: 1.5, unit: SECOND}"), "valid integer"),
        (document("WorkloadBinding", "{serviceAccount: a, nodes: []}"), "at least 1 item"),
        (document("WorkloadBinding", "{serviceAccount: a, nodes: [a.b]}"), "not the name of a node"),
    ],
)
def test_invalid_documents(text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_a_namespace_lies_in_itself() -> None:
    [one] = load("apiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {team: a}}\n", "f", "other")
    assert (one.key, one.namespace, one.labels) == ("namespace.prod.prod", "prod", {"team": "a"})
    assert from_json(one.json).json == one.json


@pytest.mark.parametrize(
    ("api_version", "kind", "instead", "never"),
    [
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "write VirtualService, DestinationRule", True),
        ("extensions.istio.io/v1alpha1", "WasmPlugin", "no code is loaded into proxies", True),
        ("networking.k8s.io/v1", "Ingress", "write a Gateway", False),
        ("v1", "ConfigMap", "MeshConfig", False),
        ("v1", "List", "---", False),
        ("apps/v1", "Deployment", "attaches to the mesh", False),
        ("argoproj.io/v1alpha1", "Rollout", "not supported yet", False),
    ],
)
def test_other_kinds_are_refused_with_what_to_write_instead(
    api_version: str, kind: str, instead: str, never: bool
) -> None:
    text = f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n"
    documents, [problem] = read(text, "f.yaml")
    assert documents == []
    assert (problem.later, problem.never) == (True, never)
    assert instead in not_supported(text)


def test_a_kind_that_is_not_honoured_is_valid() -> None:
    text = document("Telemetry", "{tracing: [{}]}")
    [one], problems = read(text, "f.yaml")
    assert one.kind == "Telemetry"
    assert [problem.later for problem in problems] == [True]
    assert "f.yaml:2:1: Telemetry default/one: not supported yet: kind Telemetry: " in not_supported(text)


def test_what_a_server_adds_is_left_out() -> None:
    metadata = "{name: a, creationTimestamp: null, uid: x, resourceVersion: '7', generation: 2}"
    text = (
        document("Service", "{selector: {a: b}, ports: [{port: 80, name: http}]}", metadata) + "status: {}\n"
    )
    assert json.loads(load(text, "f")[0].json)["metadata"] == {"name": "a", "namespace": "default"}


def test_read_gives_valid_documents_that_are_not_honoured_for_analysis() -> None:
    text = (
        virtual_service(f"{{{ROUTE}, match: [{{statPrefix: x}}]}}") + "---\n" + virtual_service("{route: []}")
    )
    documents, problems = read(text, "f.yaml")
    assert [one.name for one in documents] == ["one"]
    assert [problem.later for problem in problems] == [True, False]


def test_a_workload_cannot_take_a_word_of_the_keys_as_node() -> None:
    spec = f"{{serviceAccount: a, node: service, port: 1, outboundPort: 2, tokenSha256: '{'0' * 64}'}}"
    assert "name the node otherwise" in refusal(document("Workload", spec))
    assert (
        load(document("Workload", spec.replace("service,", "n1,")), "f")[0].read(WorkloadSpec).address
        == "127.0.0.1"
    )


@pytest.mark.parametrize(
    "word", ["Gateway", "gateways", "gw", "gateway.networking.istio.io", "gateways.networking.istio.io"]
)
def test_a_kind_is_found_by_what_people_call_it(word: str) -> None:
    assert "Gateway" in kinds_called(word)


def test_plurals_of_kinds_are_english_words() -> None:
    assert kinds_called("authorizationpolicies") == ["AuthorizationPolicy"]
    assert kinds_called("vs") == ["VirtualService"]
    assert kinds_called("services") == ["Service"]
    assert kinds_called("nonsense") == []
