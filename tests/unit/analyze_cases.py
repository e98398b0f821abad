"""Small meshes in YAML, each with what analysis has to say: ``severity code object path``.

The cases are modelled on what Istio's analyzers are tested for; the texts are our own.
"""

from __future__ import annotations

from textwrap import dedent

VERSIONS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "Gateway": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "AuthorizationPolicy": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
    "MeshConfig": "mesh.ray.io/v1",
    "Deployment": "apps/v1",
}


def doc(kind: str, name: str, spec: str, *, labels: str = "{}", annotations: str = "{}") -> str:
    """One document in flow style; ``name`` may be ``namespace/name``."""
    namespace, _, plain = name.rpartition("/")
    where = f"namespace: {namespace or 'default'}, labels: {labels}, annotations: {annotations}"
    version = VERSIONS.get(kind, "v1")
    return (
        f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {plain}, {where}}}\nspec: {dedent(spec)}\n"
    )


def join(*documents: str) -> str:
    """Several documents as one text."""
    return "---\n".join(documents)


def service(name: str, ports: str = "[{name: http, port: 80}]") -> str:
    return doc("Service", name, f"{{selector: {{app: {name.rpartition('/')[2]}}}, ports: {ports}}}")


def pod(name: str, labels: str) -> str:
    return doc("Pod", name, "{containers: [{name: app}]}", labels=labels)


def gateway(
    name: str, hosts: str = "['*']", selector: str = "{istio: ingressgateway}", port: int = 80
) -> str:
    server = f"{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: {hosts}}}"
    return doc("Gateway", name, f"{{selector: {selector}, servers: [{server}]}}")


def tls_gateway(name: str, tls: str, host: str) -> str:
    server = f"{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [{host}], tls: {tls}}}"
    return doc("Gateway", name, f"{{selector: {{istio: ingressgateway}}, servers: [{server}]}}")


def routes(name: str, hosts: str, http: str, extra: str = "") -> str:
    return doc("VirtualService", name, f"{{hosts: {hosts}, http: {http}{extra}}}")


def to(host: str, subset: str = "") -> str:
    """The rule that sends everything to a host."""
    chosen = f", subset: {subset}" if subset else ""
    return f"{{route: [{{destination: {{host: {host}{chosen}}}}}]}}"


def matched(match: str, host: str = "reviews") -> str:
    return f"{{match: {match}, route: [{{destination: {{host: {host}}}}}]}}"


REVIEWS = join(service("reviews"), pod("reviews-1", "{app: reviews, version: v1}"))
SUBSETS = doc("DestinationRule", "reviews", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}")
CLAIM = "[{headers: {'@request.auth.claims.x': {exact: y}}}]"
ROUTE = "spec.http[0].route[0].destination"

CASES: dict[str, tuple[str, list[str]]] = {
    "one port of a workload in two versions": (
        join(
            service("a", "[{name: grpc, port: 80}, {name: http, port: 81}]"),
            service("b", "[{name: grpc, port: 80}, {name: x, port: 81, appProtocol: http2}]"),
        ),
        ["warning RM0120 Service default/a spec.ports"],
    ),
    "all is well": (join(REVIEWS, SUBSETS, routes("reviews", "[reviews]", f"[{to('reviews', 'v1')}]")), []),
    "no host": (
        join(REVIEWS, routes("r", "[reviews]", f"[{to('nowhere')}]")),
        [f"error IST0101 VirtualService default/r {ROUTE}.host"],
    ),
    "no mirror host": (
        join(
            REVIEWS,
            routes("r", "[reviews]", "[{mirror: {host: nobody}, route: [{destination: {host: reviews}}]}]"),
        ),
        ["error IST0101 VirtualService default/r spec.http[0].mirror.host"],
    ),
    "no port": (
        join(
            REVIEWS,
            routes("r", "[reviews]", "[{route: [{destination: {host: reviews, port: {number: 9}}}]}]"),
        ),
        [f"error IST0101 VirtualService default/r {ROUTE}.port.number"],
    ),
    "no subset": (
        join(REVIEWS, routes("r", "[reviews]", f"[{to('reviews', 'v1')}]")),
        [f"error IST0101 VirtualService default/r {ROUTE}.subset"],
    ),
    "a host that is exported elsewhere": (
        join(
            service("foo/other").replace(
                "annotations: {}", "annotations: {networking.istio.io/exportTo: bar}"
            ),
            routes("r", "[other.foo.svc.cluster.local]", f"[{to('other.foo.svc.cluster.local')}]"),
        ),
        [f"error IST0101 VirtualService default/r {ROUTE}.host"],
    ),
    "several ports": (
        join(
            service("reviews", "[{name: http, port: 80}, {name: http-b, port: 81}]"),
            routes("r", "[reviews]", f"[{to('reviews')}]"),
        ),
        [f"error IST0112 VirtualService default/r {ROUTE}"],
    ),
    "an empty subset": (
        join(service("reviews"), SUBSETS),
        ["error IST0173 DestinationRule default/reviews spec.subsets[0]"],
    ),
    "a subset of a Deployment": (
        join(
            service("reviews"),
            SUBSETS,
            doc("Deployment", "x", "{template: {metadata: {labels: {app: reviews, version: v1}}, spec: {}}}"),
        ),
        [],
    ),
    "a subset of a place": (
        join(
            service("reviews"),
            doc(
                "DestinationRule",
                "d",
                "{host: reviews, subsets: [{name: west, labels: {topology.kubernetes.io/region: west}}, "
                "{name: host, labels: {kubernetes.io/hostname: n, version: v1}}, "
                "{name: nowhere, labels: {topology.kubernetes.io/zone: ''}}]}",
            ),
            doc("Pod", "p", "{nodeName: n, containers: []}", labels="{app: reviews, version: v1}"),
            "apiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {topology.kubernetes.io/region: west, "
            "topology.kubernetes.io/zone: ''}}\n",
        ),
        ["error IST0173 DestinationRule default/d spec.subsets[2]"],
    ),
    "a rule for nobody": (
        doc("DestinationRule", "x", "{host: fake.default.svc.cluster.local}"),
        ["warning IST0174 DestinationRule default/x spec.host"],
    ),
    "no authorities": (
        join(
            REVIEWS,
            doc(
                "DestinationRule",
                "x",
                "{host: reviews, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: "
                "[{port: {number: 80}, tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}}]}}",
            ),
        ),
        [
            "warning IST0128 DestinationRule default/x spec.trafficPolicy.tls",
            "warning IST0129 DestinationRule default/x spec.trafficPolicy.portLevelSettings[0].tls",
        ],
    ),
    "a credential for chosen workloads": (
        join(
            REVIEWS,
            doc(
                "DestinationRule",
                "x",
                "{host: reviews, workloadSelector: {matchLabels: {app: ratings}}, "
                "trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}",
            ),
        ),
        [],
    ),
    "hosts of one namespace in conflict": (
        join(
            REVIEWS,
            routes("a", "[reviews]", f"[{to('reviews')}]"),
            routes("b", "[reviews.default.svc.cluster.local]", f"[{to('reviews')}]"),
        ),
        [
            "error IST0109 VirtualService default/a spec.hosts[0]",
            "error IST0109 VirtualService default/b spec.hosts[0]",
            "warning RM0102 VirtualService default/a spec.hosts[0]",
            "warning RM0102 VirtualService default/b spec.hosts[0]",
        ],
    ),
    "no conflict at a gateway": (
        join(
            REVIEWS,
            gateway("g"),
            routes("a", "[reviews]", f"[{to('reviews')}]"),
            routes("b", "[reviews]", f"[{to('reviews')}]", ", gateways: [g]"),
        ),
        [],
    ),
    "no conflict between namespaces that are not exported": (
        join(
            REVIEWS,
            routes("foo/a", "['*.b']", f"[{to('reviews.default.svc.cluster.local')}]", ", exportTo: [foo]"),
            routes("bar/a", "['*.b']", f"[{to('reviews.default.svc.cluster.local')}]", ", exportTo: ['.']"),
        ),
        [
            "warning RM0106 VirtualService bar/a spec.hosts[0]",
            "warning RM0106 VirtualService foo/a spec.hosts[0]",
        ],
    ),
    "a wildcard of all against one of a namespace": (
        join(
            REVIEWS,
            routes("foo/a", "['*.p.d']", f"[{to('reviews.default.svc.cluster.local')}]", ", exportTo: ['.']"),
            routes("bar/a", "['*.d']", f"[{to('reviews.default.svc.cluster.local')}]"),
        ),
        [
            "error IST0109 VirtualService bar/a spec.hosts[0]",
            "error IST0109 VirtualService foo/a spec.hosts[0]",
            "warning RM0106 VirtualService bar/a spec.hosts[0]",
            "warning RM0106 VirtualService foo/a spec.hosts[0]",
        ],
    ),
    "rules after one that takes all": (
        join(REVIEWS, routes("r", "[reviews]", f"[{to('reviews')}, {to('reviews')}]")),
        ["warning IST0130 VirtualService default/r spec.http[1]"],
    ),
    "an equal match": (
        join(
            REVIEWS,
            routes(
                "r",
                "[reviews]",
                f"[{matched('[{uri: {prefix: /a}}]')}, "
                f"{matched('[{name: x, uri: {prefix: /a}}, {uri: {prefix: /b}}]')}]",
            ),
        ),
        ["info IST0131 VirtualService default/r spec.http[1].match[0]"],
    ),
    "all matches are there": (
        join(
            REVIEWS,
            routes(
                "r", "[reviews]", f"[{matched('[{uri: {prefix: /a}}]')}, {matched('[{uri: {prefix: /a}}]')}]"
            ),
        ),
        [
            "warning IST0130 VirtualService default/r spec.http[1]",
            "info IST0131 VirtualService default/r spec.http[1].match[0]",
        ],
    ),
    "a longer prefix, under more conditions": (
        join(
            REVIEWS,
            routes(
                "r",
                "[reviews]",
                "[" + matched("[{uri: {prefix: /a}}, {uri: {prefix: /ab}, method: {exact: GET}}]") + "]",
            ),
        ),
        ["info IST0131 VirtualService default/r spec.http[0].match[1]"],
    ),
    "a longer prefix, under other conditions": (
        join(
            REVIEWS,
            routes(
                "r",
                "[reviews]",
                "["
                + matched("[{uri: {prefix: /a}, method: {exact: GET}}]")
                + ", "
                + matched("[{uri: {prefix: /ab}, method: {exact: POST}}]")
                + "]",
            ),
        ),
        [],
    ),
    "a prefix, then the same as exact": (
        join(
            REVIEWS,
            routes(
                "r",
                "[reviews]",
                "[" + matched("[{uri: {prefix: /}}, {uri: {exact: /}, method: {exact: GET}}]") + "]",
            ),
        ),
        [],
    ),
    "tcp rules": (
        join(
            service("db", "[{name: tcp, port: 80}]"),
            doc(
                "VirtualService",
                "r",
                "{hosts: [db], tcp: [{match: [{port: 80}], route: [{destination: {host: db}}]}, "
                "{match: [{port: 80}, {port: 81}], route: [{destination: {host: db}}]}]}",
            ),
        ),
        ["info IST0131 VirtualService default/r spec.tcp[1].match[0]"],
    ),
    "no gateway": (
        join(REVIEWS, routes("r", "[a.org]", f"[{to('reviews')}]", ", gateways: [g]")),
        [
            "error IST0101 VirtualService default/r spec.gateways[0]",
            "warning IST0132 VirtualService default/r spec.gateways[0]",
        ],
    ),
    "a host that the gateway does not serve": (
        join(
            REVIEWS,
            gateway("g", "['*.b.org']"),
            routes("r", "[a.org]", f"[{to('reviews')}]", ", gateways: [g]"),
        ),
        ["warning IST0132 VirtualService default/r spec.gateways[0]"],
    ),
    "hosts of two gateways": (
        join(
            REVIEWS,
            gateway("g", "['*.a.org']"),
            gateway("h", "['*.b.org']"),
            routes("r", "[x.a.org, x.b.org]", f"[{to('reviews')}]", ", gateways: [g, h]"),
        ),
        [],
    ),
    "one of two hosts is nowhere": (
        join(
            REVIEWS,
            gateway("g", "['*.a.org']"),
            routes("r", "[x.a.org, x.c.org]", f"[{to('reviews')}]", ", gateways: [g]"),
        ),
        ["warning IST0132 VirtualService default/r spec.hosts"],
    ),
    "an internal gateway": (
        join(
            REVIEWS,
            routes("r", "[a.org]", f"[{to('reviews')}]", ", gateways: [x-istio-autogenerated-k8s-gateway]"),
        ),
        ["warning IST0165 VirtualService default/r spec.gateways[0]"],
    ),
    "an internal gateway of a listener": (
        join(
            REVIEWS,
            routes(
                "r",
                "[a.org]",
                f"[{to('reviews')}]",
                ", gateways: [x/y-istio-autogenerated-k8s-gateway-web]",
            ),
        ),
        [
            "warning IST0165 VirtualService default/r spec.gateways[0]",
        ],
    ),
    "a subset that the gateway does not ask for": (
        join(
            REVIEWS,
            SUBSETS,
            gateway("g"),
            routes("mesh", "[reviews]", f"[{to('reviews', 'v1')}]"),
            routes("site", "[a.org]", f"[{to('reviews')}]", ", gateways: [g]"),
        ),
        [f"warning IST0140 VirtualService default/site {ROUTE}.host"],
    ),
    "no ingress": (
        gateway("g", selector="{istio: ingresstypo}"),
        ["error IST0101 Gateway default/g spec.selector"],
    ),
    "no servers": (
        join(
            doc("Gateway", "g", "{selector: {istio: ingresstypo}}"),
            REVIEWS,
            routes("r", "[a.org]", f"[{to('reviews')}]", ", gateways: [g]"),
        ),
        [
            "error IST0101 Gateway default/g spec.selector",
            "error IST0106 Gateway default/g spec.servers",
            "warning IST0132 VirtualService default/r spec.gateways[0]",
        ],
    ),
    "a host that a pattern covers": (
        join(
            doc(
                "ServiceEntry",
                "e",
                "{hosts: ['*.a.org'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}",
            ),
            REVIEWS,
            routes("r", "[reviews]", f"[{to('x.a.org')}]"),
            doc("DestinationRule", "d", "{host: x.a.org}"),
        ),
        [f"warning RM0201 VirtualService default/r {ROUTE}.host"],
    ),
    "a port that the ingress does not expose": (
        gateway("g", port=8004),
        ["warning IST0162 Gateway default/g spec.servers[0].port.number"],
    ),
    "an ingress of one's own": (
        join(
            gateway("g", selector="{my: ingress}", port=8003),
            pod("mine", "{my: ingress}"),
            doc("Service", "mine", "{selector: {my: ingress}, ports: [{name: http, port: 8003}]}"),
        ),
        [],
    ),
    "gateways in conflict": (
        join(gateway("a", "[foo.bar]"), gateway("b", "[foo.bar]", "{istio: ingressgateway, app: x}")),
        [
            "error IST0101 Gateway default/b spec.selector",
            "error IST0145 Gateway default/a spec.servers[0].hosts",
            "error IST0145 Gateway default/b spec.servers[0].hosts",
        ],
    ),
    "gateways of different ports and hosts": (
        join(gateway("a", "[foo.bar]"), gateway("b", "[foo.bar]", port=8080), gateway("c", "[bar.foo]")),
        [],
    ),
    "one certificate in two gateways": (
        join(
            tls_gateway("a", "{mode: SIMPLE, serverCertificate: /c, privateKey: /k}", "a.org"),
            tls_gateway("b", "{mode: SIMPLE, serverCertificate: /c, privateKey: /k}", "b.org"),
        ),
        [
            "warning IST0138 Gateway default/a spec.servers[0].tls",
            "warning IST0138 Gateway default/b spec.servers[0].tls",
        ],
    ),
    "no secret": (
        tls_gateway("a", "{mode: SIMPLE, credentialName: c}", "a.org"),
        [
            "error IST0101 Gateway default/a spec.servers[0].tls.credentialName",
            "warning RM0201 Gateway default/a spec.servers[0].tls.credentialName",
        ],
    ),
    "a secret without a key": (
        join(
            tls_gateway("a", "{mode: SIMPLE, credentialName: c}", "a.org"),
            "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: istio-system}\n"
            "stringData: {tls.crt: x}\n",
        ),
        [
            "error IST0161 Gateway default/a spec.servers[0].tls.credentialName",
            "warning RM0201 Gateway default/a spec.servers[0].tls.credentialName",
        ],
    ),
    "names of ports": (
        service(
            "reviews",
            "[{name: web, port: 80}, {name: db, port: 3306}, {name: Http-x, port: 81}]".replace(
                "Http", "http"
            ),
        ),
        ["info IST0118 Service default/reviews spec.ports[0]"],
    ),
    "a port without a name": (
        service("reviews", "[{port: 80}]"),
        ["info IST0118 Service default/reviews spec.ports[0]"],
    ),
    "names of ports, one of which is missing": (
        service("reviews", "[{port: 80}, {name: web, port: 81}]"),
        [
            "error IST0106 Service default/reviews spec.ports[0].name",
            "info IST0118 Service default/reviews spec.ports[0]",
            "info IST0118 Service default/reviews spec.ports[1]",
        ],
    ),
    "names of ports that lead outside": (
        doc(
            "Service",
            "out",
            "{type: ExternalName, externalName: a.org, ports: [{name: tcp, port: 1}, {name: web, port: 2}, "
            "{name: https-a, port: 3}]}",
        ),
        [
            "warning IST0150 Service default/out spec.ports[0]",
            "warning IST0150 Service default/out spec.ports[1]",
        ],
    ),
    "older fields": (
        join(
            REVIEWS,
            routes(
                "r",
                "[reviews]",
                "[{mirror: {host: reviews}, mirrorPercent: 5, route: [{destination: {host: reviews}}]}]",
            ),
            doc(
                "DestinationRule",
                "d",
                "{host: reviews, trafficPolicy: {outlierDetection: {consecutiveErrors: 5}, "
                "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 9}}}}",
            ),
        ),
        [
            "warning IST0133 DestinationRule default/d "
            "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize",
            "warning IST0133 DestinationRule default/d spec.trafficPolicy.outlierDetection.consecutiveErrors",
            "warning IST0133 VirtualService default/r spec.http[0].mirrorPercent",
        ],
    ),
    "a policy for nobody": (
        join(
            pod("foo/x", "{app: x}"),
            doc("AuthorizationPolicy", "foo/p", "{selector: {matchLabels: {app: y}}, rules: [{}]}"),
        ),
        ["warning IST0127 AuthorizationPolicy foo/p spec.selector"],
    ),
    "a policy of an empty namespace": (
        doc("AuthorizationPolicy", "foo/p", "{rules: [{}]}"),
        ["warning IST0127 AuthorizationPolicy foo/p metadata.namespace"],
    ),
    "denials that hold for connections": (
        join(
            pod("foo/x", "{app: x}"),
            *(
                doc("AuthorizationPolicy", f"foo/{name}", f"{{action: {action}, rules: [{rule}]}}")
                for name, action, rule in (
                    ("paths", "DENY", "{to: [{operation: {paths: [/a]}}]}"),
                    ("tokens", "DENY", "{from: [{source: {requestPrincipals: [a]}}]}"),
                    ("ports", "DENY", "{to: [{operation: {paths: [/a], ports: ['80']}}]}"),
                    ("callers", "DENY", "{from: [{source: {namespaces: [foo]}}]}"),
                    ("all", "DENY", "{}"),
                    ("allowed", "ALLOW", "{to: [{operation: {paths: [/a]}}]}"),
                )
            ),
        ),
        [
            "warning IST0133 AuthorizationPolicy foo/paths spec.rules[0]",
            "warning IST0133 AuthorizationPolicy foo/tokens spec.rules[0]",
        ],
    ),
    "a redirect of what is TLS": (
        tls_gateway(
            "a", "{mode: SIMPLE, serverCertificate: /c, privateKey: /k, httpsRedirect: true}", "a.org"
        ),
        ["warning IST0133 Gateway default/a spec.servers[0].tls.httpsRedirect"],
    ),
    "namespaces that nobody has": (
        join(
            pod("prod-a/x", "{app: x}"),
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod-a}\n",
            doc(
                "AuthorizationPolicy",
                "prod-a/p",
                "{rules: [{from: [{source: {namespaces: ['prod-*', '*-bogus', '*', nobody]}}]}]}",
            ),
        ),
        [
            "error IST0101 AuthorizationPolicy prod-a/p spec.rules[0].from[0].source.namespaces[1]",
            "error IST0101 AuthorizationPolicy prod-a/p spec.rules[0].from[0].source.namespaces[3]",
        ],
    ),
    "Istio's root namespace": (
        doc("AuthorizationPolicy", "istio-system/p", "{}"),
        ["warning RM0205 AuthorizationPolicy istio-system/p metadata.namespace"],
    ),
    "ports that need an address in Istio": (
        join(
            *(
                doc(
                    "ServiceEntry",
                    name,
                    f"{{hosts: [{name}.org], ports: [{{number: 443, name: x{protocol}}}], resolution: DNS}}",
                )
                for name, protocol in (("a", ""), ("b", ", protocol: TCP"), ("c", ", protocol: HTTPS"))
            )
        ),
        [
            "warning IST0134 ServiceEntry default/a spec.ports[0]",
            "warning IST0134 ServiceEntry default/b spec.ports[0]",
        ],
    ),
    "protocols of one port": (
        join(
            doc(
                "ServiceEntry",
                "a",
                "{hosts: [a.org], ports: [{number: 80, name: x, protocol: HTTP}], resolution: DNS}",
            ),
            doc(
                "ServiceEntry",
                "b",
                "{hosts: [a.org], ports: [{number: 80, name: x, protocol: TCP}], resolution: DNS}",
            ),
        ),
        [
            "warning RM0111 ServiceEntry default/a spec.hosts[0]",
            "warning RM0111 ServiceEntry default/b spec.hosts[0]",
            "warning IST0134 ServiceEntry default/b spec.ports[0]",
            "warning IST0177 ServiceEntry default/a spec.hosts[0]",
            "warning IST0177 ServiceEntry default/b spec.hosts[0]",
        ],
    ),
    "a deprecated field": (
        join(
            REVIEWS,
            routes(
                "r",
                "[reviews]",
                "[{fault: {delay: {percent: 5, fixedDelay: 1s}}, route: [{destination: {host: reviews}}]}]",
            ),
        ),
        ["warning IST0002 VirtualService default/r spec.http[0].fault.delay.percent"],
    ),
    "annotations": (
        join(
            doc(
                "Service",
                "reviews",
                "{selector: {app: reviews}, ports: [{name: http, port: 80}]}",
                annotations="{networking.istio.io/exportThree: x, sidecar.istio.io/inject: 'true'}",
            ),
            doc(
                "Pod",
                "p",
                "{}",
                annotations="{readiness.status.sidecar.istio.io/initialDelaySeconds: bar, helm.sh/hook: x}",
            ),
        ),
        [
            'warning IST0107 Service default/reviews metadata.annotations["sidecar.istio.io/inject"]',
            'warning IST0108 Service default/reviews metadata.annotations["networking.istio.io/exportThree"]',
            "warning IST0125 Pod default/p "
            'metadata.annotations["readiness.status.sidecar.istio.io/initialDelaySeconds"]',
            'info IST0135 Service default/reviews metadata.annotations["sidecar.istio.io/inject"]',
        ],
    ),
    "a kind for no build": (
        doc("EnvoyFilter", "foo/e", "{}"),
        ["error RM0202 EnvoyFilter foo/e kind"],
    ),
    "other kinds": (
        join(*(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n" for name in ("a", "b"))),
        ["info RM0203 ConfigMap default/a kind"],
    ),
    "twice": (
        join(service("reviews"), service("reviews")),
        ["warning RM0001 Service default/reviews "],
    ),
    "a list": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.istio.io/v1\n  kind: DestinationRule\n"
        "  metadata: {name: x}\n  spec: {host: nobody}\n",
        ["warning IST0174 DestinationRule default/x spec.host"],
    ),
}


SELECTED: dict[str, tuple[str, list[str]]] = {
    "Sidecars": (
        join(
            pod("a", "{app: a, also: b}"),
            *(
                doc(
                    "Sidecar",
                    name,
                    f"{{workloadSelector: {{labels: {labels}}}, egress: [{{hosts: ['./*']}}]}}",
                )
                for name, labels in (
                    ("x", "{app: a}"),
                    ("y", "{also: b}"),
                    ("z", "{app: nobody}"),
                    ("foo/w", "{app: a}"),
                )
            ),
        ),
        [
            "error IST0101 Sidecar default/z spec.workloadSelector",
            "error IST0101 Sidecar foo/w spec.workloadSelector",
            "error IST0110 Sidecar default/x spec.workloadSelector",
            "error IST0110 Sidecar default/y spec.workloadSelector",
        ],
    ),
    "Sidecars without selector": (
        join(*(doc("Sidecar", name, "{egress: [{hosts: ['./*']}]}") for name in ("a", "b", "foo/c"))),
        [
            "error IST0111 Sidecar default/a metadata.name",
            "error IST0111 Sidecar default/b metadata.name",
        ],
    ),
    "Telemetries": (
        join(
            pod("a", "{app: a}"),
            *(
                doc("Telemetry", name, f"{{selector: {{matchLabels: {labels}}}, metrics: []}}")
                for name, labels in (("x", "{app: a}"), ("y", "{app: a}"), ("z", "{app: nobody}"))
            ),
        ),
        [
            "error IST0101 Telemetry default/z spec.selector",
            "error IST0159 Telemetry default/x spec.selector",
            "error IST0159 Telemetry default/y spec.selector",
        ],
    ),
    "Telemetries without selector": (
        join(
            doc("Telemetry", "a", "{metrics: []}"), doc("Telemetry", "b", "{accessLogging: [{filter: {}}]}")
        ),
        [
            "error IST0160 Telemetry default/a metadata.name",
            "error IST0160 Telemetry default/b metadata.name",
            "warning IST0157 Telemetry default/b spec.accessLogging[0]",
        ],
    ),
    "claims without authentication": (
        join(
            REVIEWS,
            gateway("g"),
            routes(
                "r",
                "[a.org]",
                f"[{matched(CLAIM)}]",
                ", gateways: [g]",
            ),
        ),
        [
            'error IST0149 VirtualService default/r spec.http[0].match[0].headers["@request.auth.claims.x"]',
        ],
    ),
    "a selector of a Gateway API gateway": (
        join(
            pod("a", "{app: a, gateway.networking.k8s.io/gateway-name: main}"),
            doc("AuthorizationPolicy", "p", "{selector: {matchLabels: {app: a}}, rules: [{}]}"),
        ),
        ["warning IST0166 AuthorizationPolicy default/p spec.selector"],
    ),
}
"""Cases of kinds and fields that are valid whether or not this build honours them: RM0201 is left out."""
