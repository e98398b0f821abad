"""What Istio's validation takes and what it rejects, kind by kind.

Valid documents may still be refused by name, since proxies here do not do all that Istio's do.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ray_mesh.resources.document import check
from ray_mesh.resources.kinds import KINDS
from ray_mesh.resources.source import Manifest, Positions

TO = "route: [{destination: {host: a}}]"
HTTP = "port: {number: 80, name: http, protocol: HTTP}"
TLS = "port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*']"
SSL = "serverCertificate: /c, privateKey: /k"
PORTS = "ports: [{number: 80, name: http, protocol: HTTP}]"
TCP = "ports: [{number: 80, name: db, protocol: TCP}]"


def written(kind: str, spec: str, metadata: str = "{name: a, namespace: prod}") -> dict[str, Any]:
    """A document in the oldest version of its kind."""
    version = KINDS[kind].api_versions[-1]
    text = f"apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"
    plain: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(text)))
    return plain


def judged(kind: str, spec: str, metadata: str = "{name: a, namespace: prod}") -> list[str]:
    """Everything that makes a document invalid."""
    document, problems = check(Manifest(written(kind, spec, metadata), Positions("a.yaml")))
    found = [str(problem) for problem in problems if not problem.later]
    assert (document is None) == bool(found)
    return found


def virtual_service(rule: str, more: str = "hosts: [a]") -> str:
    return f"{{{more}, http: [{{{rule}}}]}}"


def gateway(server: str) -> str:
    return f"{{servers: [{{{server}}}]}}"


def policy(spec: str) -> str:
    return f"{{host: a, trafficPolicy: {{{spec}}}}}"


def locality(spec: str) -> str:
    return policy(f"loadBalancer: {{localityLbSetting: {{{spec}}}}}")


def entry(spec: str) -> str:
    return f"{{hosts: [a.b.c], {spec}}}"


VALID = {
    "VirtualService": [
        virtual_service(TO, "hosts: ['*.foo.com', 1.2.3.4]"),
        virtual_service(TO, "hosts: ['*foo.com']"),
        virtual_service(TO, "hosts: ['*'], gateways: [prod/g]"),
        virtual_service(TO, "hosts: [istio.io.]"),
        virtual_service(TO, "hosts: [a], exportTo: [., other]"),
        virtual_service(f"{TO}, match: [{{uri: {{prefix: ''}}}}]"),
        virtual_service(f"{TO}, match: [{{withoutHeaders: {{a: {{regex: '*'}}}}}}]"),
        virtual_service(
            f"{TO}, match: [{{headers: {{'@request.auth.claims.sub': {{exact: b}}}}}}]",
            "hosts: [a.b], gateways: [g]",
        ),
        virtual_service(f"{TO}, match: [{{sourceLabels: {{a.b/c: d_e}}, sourceNamespace: prod}}]"),
        virtual_service("route: [{destination: {host: '*.b.c'}, weight: 0}]"),
        virtual_service("redirect: {uri: a, redirectCode: 310}, timeout: 1s, mirror: {host: b}"),
        virtual_service(f"{TO}, rewrite: {{uri: ' '}}"),
        virtual_service(f"{TO}, mirrorPercent: 5"),
        virtual_service(f"{TO}, fault: {{abort: {{grpcStatus: UNAVAILABLE, percentage: {{value: 0}}}}}}"),
        virtual_service(f"{TO}, retries: {{attempts: 2, retryOn: 'reset,503,retriable-headers'}}"),
        virtual_service(f"{TO}, headers: {{request: {{set: {{a: '%START_TIME%', b: '100%%'}}}}}}"),
        virtual_service(f"{TO}, headers: {{request: {{add: {{connection: a}}}}}}"),
        virtual_service(f"{TO}, corsPolicy: {{allowHeaders: ['*'], allowMethods: [TRACE], maxAge: 2s}}"),
        "{hosts: [a], tls: [{match: [{sniHosts: [a], destinationSubnets: [10.0.0.0/8]}], "
        "route: [{destination: {host: a}}]}]}",
        "{hosts: [a], tcp: [{match: [{port: 80}], route: [{destination: {host: a, subset: v1}}]}]}",
    ],
    "DestinationRule": [
        "{host: '*.foo.com'}",
        "{host: a, subsets: [{name: v1}]}",
        "{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: [prod]}",
        policy("loadBalancer: {consistentHash: {minimumRingSize: 8}}"),
        policy("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100003}}}"),
        policy("tls: {mode: SIMPLE, credentialName: a, sni: b, subjectAltNames: [c]}"),
        policy("tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}"),
        policy("connectionPool: {tcp: {idleTimeout: 0s}}"),
        policy("tunnel: {protocol: POST, targetHost: 10.0.0.1, targetPort: 80}"),
        policy("outlierDetection: {consecutiveErrors: 3}"),
        locality("distribute: [{from: a, to: {a: 50, '*': 50}}, {from: '*', to: {b: 100}}]"),
        locality("failover: [{from: a, to: b}], failoverPriority: [version]"),
    ],
    "Gateway": [
        gateway(f"{HTTP}, hosts: ['*.foo.com', prod/a.b, ./a.b, '*/*', 1.2.3.4]"),
        gateway(f"{HTTP}, hosts: ['*'], tls: {{httpsRedirect: true}}"),
        gateway(f"{TLS}, tls: {{mode: SIMPLE, credentialName: a}}"),
        gateway(f"{TLS}, tls: {{mode: MUTUAL, credentialNames: [a, b]}}"),
        gateway(f"{TLS}, tls: {{mode: SIMPLE, {SSL}, cipherSuites: [NONE-SUCH], subjectAltNames: [a]}}"),
        gateway(f"{TLS}, tls: {{mode: PASSTHROUGH, {SSL}}}"),
        gateway("port: {number: 0, name: a, protocol: TCP}, bind: 'unix:///a', hosts: ['*']"),
        gateway("port: {number: 80, name: a, protocol: grpc-web}, bind: 10.0.0.1, hosts: ['*']"),
    ],
    "ServiceEntry": [
        entry("resolution: STATIC"),
        entry(f"{PORTS}, resolution: NONE, addresses: [10.0.0.0/8, '::1']"),
        entry(f"{PORTS}, resolution: STATIC, endpoints: [{{address: unix:///a}}]"),
        entry(f"{PORTS}, resolution: STATIC, endpoints: [{{network: a}}]"),
        entry(f"{PORTS}, resolution: DNS_ROUND_ROBIN, exportTo: ['~']"),
        entry("ports: [{number: 80, name: a}], resolution: DNS"),
        f"{{hosts: ['*.b.c'], {PORTS}, resolution: DNS, endpoints: [{{address: a.b.c}}]}}",
        f"{{hosts: ['*x'], {PORTS}, resolution: DYNAMIC_DNS}}",
        f"{{hosts: [a.b, b.c], {TCP}, resolution: NONE}}",
        f"{{hosts: [a.b, b.c], {PORTS}, resolution: DNS}}",
        "{hosts: [a], workloadSelector: {labels: {a: b}}, resolution: DNS}",
    ],
    "WorkloadEntry": [
        "{address: 10.0.0.1, labels: {a.b/c: d}, locality: 'a/*'}",
        "{address: a.b.c.}",
        "{network: n, ports: {a: 1}}",
    ],
    "WorkloadGroup": [
        "{template: {}}",
        "{template: {labels: {a: b}}, probe: {exec: {command: [a]}}}",
        "{template: {}, probe: {grpc: {}, periodSeconds: 0}}",
    ],
    "Sidecar": [
        "{egress: [{hosts: ['./*', '~/*', '*/*.foo.com', prod/a.b]}]}",
        "{egress: [{port: {number: 80, protocol: HTTP, name: a}, bind: 127.0.0.1, hosts: ['*/*']}, "
        "{hosts: ['*/*']}]}",
        "{egress: [{port: {protocol: HTTP}, bind: 'unix:///a', captureMode: NONE, hosts: ['*/*']}]}",
        "{ingress: [{port: {number: 80, protocol: HTTP}, defaultEndpoint: '[::1]:80'}]}",
        "{ingress: [{port: {number: 80}, defaultEndpoint: 'unix://@a', tls: {mode: SIMPLE, "
        "serverCertificate: /c, privateKey: /k}}]}",
        "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 80}}}}",
        "{workloadSelector: {}, inboundConnectionPool: {tcp: {maxConnections: 1}}}",
    ],
    "AuthorizationPolicy": [
        "{}",
        "{rules: [{}]}",
        "{action: AUDIT, rules: [{from: [{source: {principals: ['*']}}]}]}",
        "{action: CUSTOM, provider: {name: a}, rules: [{to: [{operation: {paths: [/a]}}]}]}",
        "{rules: [{from: [{source: {ipBlocks: [10.0.0.1, 10.0.0.0/8]}}]}]}",
        "{rules: [{to: [{operation: {paths: ['/a/{*}/b/{**}', '/{**}/a/', '*']}}]}]}",
        "{rules: [{to: [{operation: {ports: ['0']}}]}]}",
        "{rules: [{when: [{key: 'request.experimental.inline.headers[a]', values: [b]}]}]}",
        "{rules: [{when: [{key: 'request.headers[a]', values: ['*']}]}]}",
        "{rules: [{when: [{key: destination.port, notValues: ['80']}]}]}",
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}]}",
    ],
    "PeerAuthentication": [
        "{mtls: {mode: PERMISSIVE}}",
        "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: DISABLE}}}",
    ],
    "RequestAuthentication": [
        "{}",
        '{jwtRules: [{issuer: a, jwks: \'{"keys": [{"kty": "RSA", "n": "a", "e": "b"}]}\'}]}',
        "{jwtRules: [{issuer: a, jwks_uri: 'http://a:8080/b', fromHeaders: [{name: a, prefix: 'b '}]}]}",
        "{targetRef: {group: core, kind: Service, name: a}}",
    ],
    "Telemetry": [
        "{tracing: [{customTags: {a: {formatter: {value: b}}, b: {literal: {value: c}}}}]}",
        "{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE}}}]}]}",
    ],
    "ProxyConfig": ["{concurrency: 0}", "{image: {}, environmentVariables: {a: b}}"],
}

INVALID = {
    "VirtualService": [
        (virtual_service(TO, "hosts: ['*']"), "the host * is for gateways only"),
        (virtual_service(TO, "hosts: [foo.*.com]"), "is not a host"),
        (virtual_service(TO, "hosts: [a_b]"), "is not a host"),
        (virtual_service(TO, "hosts: [b.a, '*.a']"), "covers a host above"),
        (virtual_service(TO, "hosts: [a], gateways: [a/b/c]"), "names no gateway"),
        (virtual_service(TO, "hosts: [a], exportTo: ['*', prod]"), "stands alone"),
        (virtual_service(TO, "hosts: [a], exportTo: ['~']"), "for services only"),
        (virtual_service(TO, "hosts: [a], exportTo: [., prod]"), ". is prod"),
        (virtual_service(TO, "gateways: [g]"), "without hosts"),
        (virtual_service("delegate: {name: b}", "exportTo: [.]"), "cannot delegate"),
        (virtual_service(f"{TO}, match: [{{method: {{prefix: ''}}}}]"), "a prefix is not empty"),
        (virtual_service(f"{TO}, match: [{{queryParams: {{a: {{prefix: ''}}}}}}]"), "a prefix is not empty"),
        (virtual_service(f"{TO}, match: [{{uri: {{regex: '(?!a)'}}}}]"), "not a regular expression"),
        (virtual_service(f"{TO}, match: [{{headers: {{a.b: {{exact: c}}}}}}]"), "not the name of a header"),
        (virtual_service(f"{TO}, match: [{{headers: {{'@request.auth.x': {{exact: c}}}}}}]"), "not the name"),
        (
            virtual_service(f"{TO}, match: [{{headers: {{'@request.auth.claims.a': {{exact: c}}}}}}]"),
            "only supported for gateways",
        ),
        (virtual_service(f"{TO}, match: [{{sourceLabels: {{'@': b}}}}]"), "not the name of a label"),
        (virtual_service(f"{TO}, match: [{{sourceLabels: {{a: '@'}}}}]"), "sourceLabels.a"),
        (virtual_service(f"{TO}, match: [{{sourceNamespace: a.b}}]"), "is not a namespace"),
        (virtual_service(f"{TO}, match: [{{gateways: ['-a']}}]"), "names no gateway"),
        (virtual_service("route: [{destination: {host: '*'}}]"), "is not a host"),
        (virtual_service("route: [{destination: {host: a, subset: A_1}}]"), "is not a DNS label"),
        (virtual_service("route: [{destination: {host: a, port: {number: 70000}}}]"), "equal to 65535"),
        (virtual_service("redirect: {uri: /a}, rewrite: {uri: /b}"), "set one of redirect and rewrite"),
        (virtual_service("directResponse: {status: 200}, fault: {delay: {fixedDelay: 1s}}"), "set one of"),
        (virtual_service(f"{TO}, timeout: 1.0005s"), "whole milliseconds"),
        (virtual_service(f"{TO}, rewrite: {{uriRegexRewrite: {{match: a}}}}"), "required beside match"),
        (virtual_service(f"{TO}, fault: {{abort: {{grpcStatus: NOTFOUND}}}}"), "did you mean NOT_FOUND?"),
        (virtual_service(f"{TO}, fault: {{abort: {{http2Error: a}}}}"), "write httpStatus"),
        (
            virtual_service(f"{TO}, fault: {{abort: {{httpStatus: 500, percentage: {{value: 0.00001}}}}}}"),
            "neither 0 nor in",
        ),
        (
            virtual_service(f"{TO}, retries: {{attempts: 1, retryOn: gatway-error}}"),
            "did you mean gateway-error?",
        ),
        (virtual_service(f"{TO}, retries: {{attempts: 1, retryOn: '599'}}"), "is no condition"),
        (virtual_service(f"{TO}, retries: {{retryRemoteLocalities: true}}"), "means no retries"),
        (virtual_service(f"{TO}, headers: {{request: {{set: {{a: '%START_TIME%%'}}}}}}"), "write %%"),
        (virtual_service(f"{TO}, headers: {{request: {{set: {{host: a, ':authority': b}}}}}}"), "multiple"),
        (virtual_service(f"{TO}, corsPolicy: {{allowMethods: [PUTT]}}"), "'PUTT' is not one of"),
        (virtual_service(f"{TO}, corsPolicy: {{allowOrigins: [{{exact: ''}}]}}"), "an origin is not empty"),
        (
            "{hosts: [a], tls: [{match: [{sniHosts: [b]}], route: [{destination: {host: a}}]}]}",
            "not a compatible subset",
        ),
        (
            "{hosts: [a], tcp: [{match: [{destinationSubnets: [10.0.0.0/99]}], "
            "route: [{destination: {host: a}}]}]}",
            "neither an IP address nor a CIDR block",
        ),
    ],
    "DestinationRule": [
        ("{host: 1.1.1.1}", "is not a host"),
        ("{host: a, trafficPolicy: {}}", "at least one field"),
        ("{host: a, subsets: [{name: a.b}]}", "not a DNS label"),
        ("{host: a, subsets: [{name: a, labels: {b: 'c*'}}]}", "labels.b"),
        ("{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: ['*']}", "own namespace"),
        (policy("portLevelSettings: [{port: {number: 80}}]"), "at least one field"),
        (policy("loadBalancer: {consistentHash: {httpHeaderName: a, useSourceIp: true}}"), "set one of"),
        (
            policy("loadBalancer: {consistentHash: {minimumRingSize: 1, maglev: {tableSize: 7}}}"),
            "set one of",
        ),
        (
            policy("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}"),
            "less than",
        ),
        (policy("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 0}}}"), "not prime"),
        (policy("loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}"), "set one of"),
        (policy("connectionPool: {http: {maxConcurrentStreams: -1}}"), "maxConcurrentStreams"),
        (
            policy("connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}"),
            "must not be",
        ),
        (policy("tls: {mode: MUTUAL}"), "required for MUTUAL"),
        (policy("tls: {mode: SIMPLE, credentialName: a, caCertificates: /a}"), "cannot be set with"),
        (policy("tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /a}"), "nothing is verified"),
        (policy("tunnel: {protocol: GET, targetHost: a, targetPort: 80}"), "is not CONNECT or POST"),
        (policy("tunnel: {targetHost: a, targetPort: 80}, proxyProtocol: {}"), "must not be set together"),
        (locality("distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]"), "simultaneously"),
        (locality("distribute: [{from: a/*, to: {b: 100}}, {from: a/b, to: {b: 100}}]"), "overlaps"),
        (
            locality("failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/zone]"),
            "labels of topology",
        ),
    ],
    "Gateway": [
        ("{servers: []}", "at least 1 item"),
        (gateway(f"{HTTP}, hosts: [reviews]"), "short names"),
        (gateway(f"{HTTP}, hosts: ['*foo.com']"), "partial wildcard"),
        (gateway(f"{HTTP}, hosts: ['$/a.b']"), "is not a namespace"),
        (gateway(f"{HTTP}, hosts: [a/b/c.d]"), "is not a host"),
        (gateway("port: {number: 80, name: a, protocol: HTPP}, hosts: ['*']"), "did you mean HTTP?"),
        (gateway("port: {number: 0, name: a, protocol: HTTP}, hosts: ['*']"), "between 1-65535"),
        (gateway("port: {number: 80, name: a, protocol: TCP, targetPort: 1}, hosts: ['*']"), "no impact"),
        (gateway(f"{HTTP}, bind: a, hosts: ['*']"), "is not an IP address"),
        (gateway(f"{HTTP}, bind: 'unix:///a', hosts: ['*']"), "must be 0"),
        (gateway(f"{HTTP}, hosts: ['*'], tls: {{mode: SIMPLE, {SSL}}}"), "plain text HTTP ports"),
        (gateway("port: {number: 80, name: a, protocol: TCP}, hosts: ['*'], tls: {}"), "non HTTPS/TLS"),
        (gateway(TLS), "must have TLS settings"),
        (gateway(f"{TLS}, tls: {{mode: SIMPLE}}"), "serverCertificate: is missing"),
        (gateway(f"{TLS}, tls: {{mode: OPTIONAL_MUTUAL, {SSL}}}"), "caCertificates: is missing"),
        (gateway(f"{TLS}, tls: {{mode: ISTIO_MUTUAL, {SSL}}}"), "no certificate of its own"),
        (gateway(f"{TLS}, tls: {{mode: ISTIO_MUTUAL, credentialName: a}}"), "cannot have associated"),
        (gateway(f"{TLS}, tls: {{mode: SIMPLE, {SSL}, caCrl: /a}}"), "CRL is not supported"),
        (gateway(f"{TLS}, tls: {{mode: SIMPLE, credentialName: a, credentialNames: [b]}}"), "only one of"),
        (f"{{servers: [{{{HTTP}, hosts: ['*']}}, {{{HTTP}, hosts: ['*']}}]}}", "used twice"),
    ],
    "ServiceEntry": [
        (f"{{hosts: ['foo*'], {PORTS}}}", "is not a host"),
        (entry("addresses: [1.2.3.4/99]"), "neither an IP address nor a CIDR block"),
        (entry("ports: [{number: 80, name: a_b, protocol: HTTP}]"), "not a DNS label"),
        (entry("ports: [{number: 80, name: a, protocol: HTTPX}]"), "did you mean HTTP?"),
        (entry(f"{PORTS}, resolution: STATIC, endpoints: [{{address: a.b}}]"), "is a name"),
        (entry(f"{PORTS}, resolution: DNS, endpoints: [{{address: unix:///a}}]"), "neither a host name"),
        (entry(f"{PORTS}, resolution: DNS, endpoints: [{{address: a.b, ports: {{x: 1}}}}]"), "no port 'x'"),
        (entry("resolution: STATIC, endpoints: [{address: unix:///a}]"), "exactly 1 service port"),
        (entry("workloadSelector: {labels: {'': a}}"), "a label has a name"),
        (entry("exportTo: ['~', prod]"), "stands alone"),
        (f"{{hosts: ['*.b.c'], {PORTS}, resolution: DNS}}", "hosts must be FQDN"),
        (f"{{hosts: [a.b, b.c], {TCP}, resolution: DNS}}", "multiple hosts provided"),
        ("{hosts: [a.b, b.c], ports: [{number: 80, name: a}], resolution: DNS}", "multiple hosts provided"),
    ],
    "WorkloadEntry": [
        ("{address: ''}", "Address is required"),
        ("{address: a_b}", "neither an IP address nor a host name"),
        ("{address: 1.2.3.4.5}", "neither an IP address nor a host name"),
        ("{address: 10.0.0.1, labels: {a/b/c: d}}", "not the name of a label"),
    ],
    "WorkloadGroup": [
        ("{}", "template: required"),
        ("{template: {}, probe: {}}", "set one of httpGet"),
        ("{template: {}, probe: {exec: {command: []}}}", "at least 1 item"),
        ("{template: {}, probe: {httpGet: {port: 80, scheme: HTTPX}}}", "is not HTTP or HTTPS"),
        (
            '{template: {}, probe: {httpGet: {port: 80, path: "/ HTTP/1.1\\r\\nX: y"}}}',
            "no part of a request line",
        ),
        (
            '{template: {}, probe: {httpGet: {port: 80, httpHeaders: [{name: a, value: "b\\r\\nc: d"}]}}}',
            "httpHeaders[0].value",
        ),
        ("{template: {}, metadata: {labels: {a: '@'}}}", "labels.a"),
    ],
    "Sidecar": [
        ("{}", "empty"),
        ("{workloadSelector: {labels: {a: '*'}}, egress: [{hosts: ['*/*']}]}", "wildcard"),
        ("{egress: [{hosts: []}]}", "at least 1 item"),
        ("{egress: [{hosts: [a.b]}]}", "names no namespace"),
        ("{egress: [{hosts: [./a]}]}", "short names"),
        ("{egress: [{hosts: ['./*a.b']}]}", "partial wildcard"),
        ("{egress: [{hosts: ['a.b/*']}]}", "is not a namespace"),
        ("{egress: [{hosts: ['*/*']}, {hosts: ['*/*']}]}", "is the last one"),
        ("{egress: [{port: {protocol: HTTP}, hosts: ['*/*']}]}", "unix domain socket"),
        ("{egress: [{port: {number: 80, protocol: HTPP}, hosts: ['*/*']}]}", "did you mean HTTP?"),
        ("{egress: [{port: {number: 80, targetPort: 1}, hosts: ['*/*']}]}", "no impact"),
        (
            "{egress: [{port: {number: 8}, hosts: ['*/*']}, {port: {number: 8}, hosts: ['*/*']}]}",
            "must be unique",
        ),
        ("{ingress: [{port: {number: 0}}]}", "between 1-65535"),
        ("{ingress: [{port: {number: 80}, defaultEndpoint: '10.0.0.1:80'}]}", "is no endpoint"),
        ("{ingress: [{port: {number: 80}, bind: a}]}", "is not an IP address"),
        ("{ingress: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]}", "cannot set mode"),
        ("{ingress: [{port: {number: 80}, tls: {httpsRedirect: true}}]}", "not supported in ingress"),
        ("{outboundTrafficPolicy: {egressProxy: {host: a, port: {number: 1}}}}", "only with mode ALLOW_ANY"),
        ("{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a}}}", "egressProxy.port: required"),
        ("{inboundConnectionPool: {}}", "has tcp, http or both"),
    ],
    "AuthorizationPolicy": [
        ("{action: DENY}", "denies nothing"),
        ("{action: CUSTOM, provider: {name: a}}", "asks nobody"),
        ("{action: CUSTOM, rules: [{}]}", "provider.name must not be empty"),
        (
            "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {namespaces: [a]}}]}]}",
            "not supported with CUSTOM",
        ),
        (
            "{action: CUSTOM, provider: {name: a}, "
            "rules: [{when: [{key: request.auth.principal, values: [a]}]}]}",
            "not supported with CUSTOM",
        ),
        (
            "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {serviceAccounts: [a]}}]}]}",
            "not supported with CUSTOM",
        ),
        (
            "{action: CUSTOM, provider: {name: a}, "
            "rules: [{when: [{key: source.serviceAccount, values: [a]}]}]}",
            "not supported with CUSTOM",
        ),
        ("{provider: {name: a}, rules: [{}]}", "non CUSTOM action"),
        ("{rules: [{from: [{source: {ipBlocks: [1.2.3.4.5]}}]}]}", "neither an IP address"),
        ("{rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/99]}}]}]}", "neither an IP address"),
        ("{rules: [{from: [{}]}]}", "source: required"),
        ("{rules: [{to: [{operation: {paths: ['/{*}/{foo}']}}]}]}", "no path template"),
        ("{rules: [{to: [{operation: {paths: ['/a/{**}/*']}}]}]}", "no path template"),
        ("{rules: [{to: [{operation: {paths: ['/{foo}']}}]}]}", "no path template"),
        ("{rules: [{to: [{operation: {paths: ['/a/{*}.txt']}}]}]}", "no path template"),
        ("{rules: [{to: [{operation: {notPaths: ['/{**}/{*}']}}]}]}", "is not the last operator"),
        ("{rules: [{to: [{operation: {methods: ['']}}]}]}", "methods[0]"),
        ("{rules: [{to: []}]}", "at least 1 item"),
        ("{rules: [{when: [{key: source.ip}]}]}", "at least one of values or notValues"),
        ("{rules: [{when: [{key: source.ip, values: [a]}]}]}", "neither an IP address"),
        ("{rules: [{when: [{key: source.ipp, values: [a]}]}]}", "did you mean source.ip?"),
        ("{rules: [{when: [{key: 'request.headers', values: [a]}]}]}", "should have format a[b]"),
        ("{rules: [{when: [{key: destination.port, values: [http]}]}]}", "is not a port"),
        ("{rules: [{when: [{key: source.serviceAccount, values: ['*']}]}]}", "no wildcards here"),
        ("{selector: {}, targetRef: {kind: Service, name: a}}", "only one of targetRefs or selector"),
        ("{targetRefs: [{kind: Pod, name: a}]}", "'Pod' is not one of"),
        ("{targetRefs: [{kind: Gateway, name: a}]}", "write 'gateway.networking.k8s.io'"),
    ],
    "PeerAuthentication": [
        ("{portLevelMtls: {80: {}}}", "portLevelMtls requires selector"),
        ("{selector: {matchLabels: {'': a}}}", "a label has a name"),
    ],
    "RequestAuthentication": [
        ("{jwtRules: [{}]}", "issuer: required"),
        ("{jwtRules: [{issuer: a, jwks: 'b'}]}", "not a JSON Web Key Set"),
        ("{jwtRules: [{issuer: a, jwks: '{}', jwksUri: 'http://a'}]}", "only one of jwks or jwksUri"),
        ("{jwtRules: [{issuer: a, jwksUri: 'a.b'}]}", "must have scheme"),
        ("{jwtRules: [{issuer: a, timeout: 0s}]}", "at least 1ms"),
    ],
    "Telemetry": [
        ("{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}", "value must be set"),
        ("{metrics: [{overrides: [{match: {metric: ALL_METRICS, customMetric: a}}]}]}", "set one of"),
        ("{tracing: [{randomSamplingPercentage: 101}]}", "less than or equal to 100"),
        ("{tracing: [{customTags: {a: {header: {name: ''}}}}]}", "at least 1 character"),
        ("{accessLogging: [{match: {mode: CLENT}}]}", "did you mean CLIENT?"),
        ("{acessLogging: []}", "did you mean accessLogging?"),
    ],
    "ProxyConfig": [
        ("{concurrency: 1.5}", "valid integer"),
        ("{selector: {matchLabels: {a: '*'}}}", "wildcard"),
    ],
}


@pytest.mark.parametrize(("kind", "spec"), [(kind, spec) for kind, specs in VALID.items() for spec in specs])
def test_valid(kind: str, spec: str) -> None:
    assert judged(kind, spec) == []


@pytest.mark.parametrize(
    ("kind", "spec", "told"), [(kind, *case) for kind, cases in INVALID.items() for case in cases]
)
def test_invalid(kind: str, spec: str, told: str) -> None:
    assert told in "\n".join(judged(kind, spec))


def test_a_gateway_has_a_name_without_dots() -> None:
    assert judged("Gateway", gateway(f"{HTTP}, hosts: ['*']"), "{name: a.b}")


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("AuthorizationPolicy", "true", True),
        ("AuthorizationPolicy", "maybe", False),
        ("PeerAuthentication", "true", False),
    ],
)
def test_dry_runs(kind: str, value: str, fits: bool) -> None:
    metadata = f"{{name: a, annotations: {{istio.io/dry-run: '{value}'}}}}"
    assert (judged(kind, "{}", metadata) == []) is fits
