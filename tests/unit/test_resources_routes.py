"""What is said of routes that cannot be."""

from __future__ import annotations

import pytest

from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.resources import load

TO = "route: [{destination: {host: a}}]"


def document(rule: str) -> str:
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n"
    return f"{head}spec: {{hosts: [a], http: [{rule}]}}\n"


def refusal(rule: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(document(rule), "f.yaml")
    assert not isinstance(caught.value, NotSupported)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            f"{{{TO}, match: [{{uri: {{regex: '('}}}}]}}",
            "match[0].uri.regex: not a regular expression of RE2: missing )",
        ),
        (f"{{{TO}, match: [{{headers: {{a: {{regex: ''}}}}}}]}}", "a.regex: a regex is not empty"),
        (f"{{{TO}, match: [{{scheme: {{}}}}]}}", "match[0].scheme: set one of exact, prefix and regex"),
        (f"{{{TO}, headers: {{request: {{set: {{':path': a}}}}}}}}", "':path' is not the name of a header"),
        (f"{{{TO}, headers: {{response: {{add: {{host: a}}}}}}}}", "a response has no authority"),
        (f"{{{TO}, headers: {{request: {{remove: [Host]}}}}}}", "the authority can only be set in a request"),
        (f"{{{TO}, headers: {{response: {{set: {{host: a}}}}}}}}", "a response has no authority"),
        (f"{{{TO}, headers: {{request: {{set: {{host: 'a b'}}}}}}}}", "not a host"),
        (
            f'{{{TO}, headers: {{response: {{set: {{a: "b\\r\\nc: d"}}}}}}}}',
            "a value has no control characters",
        ),
        (f"{{{TO}, headers: {{response: {{set: {{a: '100%'}}}}}}}}", "write %% for a percent sign"),
        (f"{{{TO}, headers: {{response: {{set: {{a: b, A: c}}}}}}}}", "a header is named twice"),
        (f"{{{TO}, rewrite: {{}}}}", "a rewrite has a uri"),
        (f"{{{TO}, rewrite: {{authority: 'a/b'}}}}", "'a/b' is not a host"),
        (
            f"{{{TO}, rewrite: {{uriRegexRewrite: {{match: '(', rewrite: a}}}}}}",
            "match: not a regular expression",
        ),
        (f"{{{TO}, rewrite: {{uriRegexRewrite: {{match: a, rewrite: '\\1'}}}}}}", "refers to a group"),
        (f"{{{TO}, rewrite: {{uri: /a, uriRegexRewrite: {{match: a, rewrite: b}}}}}}", "set one of uri and"),
        (
            f"{{{TO}, rewrite: {{authority: a}}, headers: {{request: {{set: {{host: b}}}}}}}}",
            "authority header cannot be set multiple times",
        ),
        (f"{{{TO}, redirect: {{uri: /a}}}}", "set one of route, redirect"),
        ("{redirect: {redirectCode: 301}}", "a redirect says a uri"),
        ("{redirect: {uri: /a, redirectCode: 200}}", "200 is not a valid redirect code"),
        ("{redirect: {scheme: ftp}}", "'ftp' is not http or https"),
        ("{redirect: {port: 1, derivePort: FROM_REQUEST_PORT}}", "set one of port and derivePort"),
        ("{redirect: {uri: /a}, fault: {delay: {fixedDelay: 1s}}}", "fault: set one of redirect and fault"),
        (
            "{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}}",
            "match[0].uri: redirect.prefixRewrite needs a prefix",
        ),
        ("{directResponse: {status: 199}}", "greater than or equal to 200"),
        ("{directResponse: {status: 200, body: {bytes: '?'}}}", "not base64"),
        ("{directResponse: {status: 200, body: {string: a, bytes: aaaa}}}", "set one of string and bytes"),
        (f"{{{TO}, mirror: {{host: b}}, mirrorPercent: 101}}", "a percentage is 0 to 100"),
        (
            f"{{{TO}, mirror: {{host: b}}, mirrorPercent: 1, mirrorPercentage: {{}}}}",
            "set one of mirrorPercent",
        ),
        (
            f"{{{TO}, mirror: {{host: b}}, mirrors: [{{destination: {{host: c}}}}]}}",
            "set one of mirror and mirrors",
        ),
        (f"{{{TO}, corsPolicy: {{allowOrigins: [{{}}]}}}}", "allowOrigins[0]: set one of"),
        (f"{{{TO}, corsPolicy: {{maxAge: 1.5s}}}}", "maxAge is in whole seconds"),
        (f"{{{TO}, corsPolicy: {{allowHeaders: ['a b']}}}}", "'a b' is not the name"),
    ],
)
def test_refusals(rule: str, expected: str) -> None:
    assert expected in refusal(rule)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            f"{{{TO}, headers: {{request: {{set: {{Connection: close}}}}}}}}",
            "set.Connection Connection: of one hop",
        ),
        (
            f"{{{TO}, headers: {{request: {{remove: [content-length]}}}}}}",
            "content-length: of one hop or of the framing",
        ),
        (
            f"{{{TO}, headers: {{request: {{add: {{X-Mesh-Source: a}}}}}}}}",
            "X-Mesh-Source: written by the proxy",
        ),
        (
            f"{{{TO}, headers: {{request: {{set: {{x-request-id: a}}}}}}}}",
            "x-request-id: written by the proxy",
        ),
        (f"{{{TO}, rewrite: {{uri: x}}}}", "rewrite.uri 'x', which does not begin with /"),
        (f"{{{TO}, rewrite: {{uri: '/a b'}}}}", "a path has no spaces"),
        (f"{{{TO}, rewrite: {{uri: '/a/../b'}}}}", "a path has no . and .. segments"),
        ("{directResponse: {status: 204, body: {string: a}}}", "of a response with status 204"),
        (f"{{directResponse: {{status: 200, body: {{string: '{'a' * 103000}'}}}}}}", "at most 102400"),
        (f"{{{TO}, mirror_percent: 5}}", "mirror_percent without a mirror"),
        ("{redirect: {uri: /a, redirectCode: 304}}", "redirectCode 304: write one of 301"),
        (f"{{{TO}, headers: {{request: {{add: {{host: a}}}}}}}}", "a request has one authority"),
        ("{directResponse: {status: 600}}", "up to 599"),
        ("{redirect: {uri: /a}, timeout: 1s}", "timeout beside redirect, which sends nothing"),
        (f"{{{TO}, match: [{{withoutHeaders: {{a: {{regex: '*'}}}}}}]}}", "leave the value empty"),
    ],
)
def test_what_istio_takes_and_proxies_do_not_do(rule: str, expected: str) -> None:
    with pytest.raises(NotSupported) as caught:
        load(document(rule), "f.yaml")
    assert expected in str(caught.value)
