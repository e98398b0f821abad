"""Analysis: what is found in files, what is suppressed, and what is not lost on the way."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from analyze_cases import CASES, REVIEWS, SELECTED, SUBSETS, doc, join, pod, routes, service, to
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ray_mesh.analyze import Report, analyze_files, analyze_mesh, to_json
from ray_mesh.compile import Grounds, World
from ray_mesh.compile.suppress import from_option
from ray_mesh.resources import load

CONFORMANCE = Path(
    os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance")
)
NOW = datetime(2027, 1, 15, tzinfo=UTC).timestamp()
NOWHERE = join(REVIEWS, routes("r", "[reviews]", f"[{to('nowhere')}]"))


def analyzed(text: str, **options: object) -> Report:
    return analyze_files([("m.yaml", text)], NOW, **options)  # type: ignore[arg-type]


def said(report: Report) -> list[str]:
    return [f"{one.severity} {one.code} {one.object} {one.path}" for one in report.findings]


@pytest.mark.parametrize("name", CASES)
def test_findings(name: str) -> None:
    text, expected = CASES[name]
    report = analyzed(text)
    honoured = [
        one for one in said(report) if "RM0201" not in one or any("RM0201" in line for line in expected)
    ]
    assert sorted(honoured) == sorted(expected)
    assert all(one.why and one.name for one in report.findings)


@pytest.mark.parametrize("name", SELECTED)
def test_findings_about_kinds_that_may_not_be_honoured(name: str) -> None:
    text, expected = SELECTED[name]
    assert sorted(one for one in said(analyzed(text)) if "RM0201" not in one) == sorted(expected)


def test_a_finding_knows_its_place() -> None:
    [finding] = analyzed(NOWHERE).findings
    assert (finding.where, finding.key) == ("m.yaml:14:57", "virtualservice.default.r")
    assert "nowhere" in finding.message
    assert finding.fix


def test_a_host_that_nothing_has_is_told_as_it_is_written() -> None:
    twice = [routes(name, "[google.com]", f"[{to('reviews')}]") for name in ("a", "b")]
    said_of = {one.code: one.message for one in analyzed(join(REVIEWS, *twice)).findings}
    assert "define the same host google.com which" in said_of["IST0109"]
    assert "no ServiceEntry for google.com, so" in said_of["RM0106"]


def test_a_gateway_of_the_gateway_api_is_no_gateway_of_a_virtual_service() -> None:
    api = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n"
        "spec: {gatewayClassName: ray-mesh, listeners: [{name: http, port: 80, protocol: HTTP}]}\n"
    )
    route = routes("r", "[a.org]", f"[{to('reviews')}]", ", gateways: [g]")
    [missing] = [one for one in analyzed(join(REVIEWS, api, route)).findings if one.code == "IST0101"]
    assert "is a Gateway of the Gateway API" in missing.message
    assert "HTTPRoute" in missing.fix


def test_of_pods_with_one_name_each_counts_in_any_order() -> None:
    pods = [pod("a", "{app: reviews, version: v1}"), pod("a", "{app: reviews}")]
    for texts in (pods, pods[::-1]):
        assert not analyzed(join(service("reviews"), SUBSETS, *texts)).findings


def test_what_is_invalid_is_told_and_the_rest_is_looked_at() -> None:
    text = join("a: [\n", service("web").replace("port: 80", "prot: 80"), "{{ helm }}\n", NOWHERE)
    report = analyzed(text)
    assert [(one.code, one.where.rpartition(":")[0]) for one in report.findings if one.code == "IST0106"] == [
        ("IST0106", "m.yaml:2"),
        ("IST0106", "m.yaml:8"),
        ("IST0106", "m.yaml:6"),
        ("IST0106", "m.yaml:6"),
    ]
    assert "error IST0101 VirtualService default/r spec.http[0].route[0].destination.host" in said(report)


def test_an_object_with_an_invalid_field_is_still_there() -> None:
    text = join(
        REVIEWS.replace("name: http,", "name: http, protocol: HTTP,"),
        routes("r", "[reviews]", f"[{to('reviews')}]"),
    )
    assert said(analyzed(text)) == ["error IST0106 Service default/reviews spec.ports[0].protocol"]


def test_the_same_input_gives_the_same_output() -> None:
    text = join(*(text for text, _ in CASES.values()))
    assert to_json(analyzed(text)) == to_json(analyzed(text))
    severities = [one.severity for one in analyzed(text).findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)


@pytest.mark.parametrize(
    ("annotations", "codes", "complaints"),
    [
        ("{galley.istio.io/analyze-suppress: 'IST0002, IST0101'}", [], 0),
        ("{galley.istio.io/analyze-suppress: '*'}", [], 0),
        ("{galley.istio.io/analyze-suppress: IST0102}", ["IST0101"], 0),
        ("{mesh.ray.io/suppress: '[{code: IST0101, reason: later}]'}", [], 0),
        ("{mesh.ray.io/suppress: '{code: IST01*, reason: later, until: 2027-01-15}'}", [], 0),
        ("{mesh.ray.io/suppress: '[{code: IST0101, reason: later, until: 2027-01-14}]'}", ["IST0101"], 1),
        ("{mesh.ray.io/suppress: '[{code: IST0101, until: 2028-01-01}]'}", ["IST0101"], 1),
        ("{mesh.ray.io/suppress: '[{code: IST0101, reason: x, until: soon}]'}", ["IST0101"], 1),
        ("{mesh.ray.io/suppress: '[{code: IST0101, reason: x, untill: soon}]'}", ["IST0101"], 1),
        ("{mesh.ray.io/suppress: '[IST0101, {code: RM0204, reason: no}]'}", ["IST0101"], 1),
        ("{mesh.ray.io/suppress: '['}", ["IST0101"], 1),
        (f"{{mesh.ray.io/suppress: '{'[' * 60_000}'}}", ["IST0101"], 1),
        (
            "{mesh.ray.io/suppress: '[{code: IST0101, reason: &a [x]}, {code: IST0101, reason: *a}]'}",
            ["IST0101"],
            1,
        ),
        ("{mesh.ray.io/suppress: '[{code: IST0101, reason: [x]}]'}", ["IST0101"], 1),
    ],
)
def test_suppressions_of_an_object(annotations: str, codes: list[str], complaints: int) -> None:
    text = NOWHERE.replace(
        "name: r, namespace: default, labels: {}, annotations: {}", f"name: r, annotations: {annotations}"
    )
    report = analyzed(text)
    assert [one.code for one in report.findings if one.code != "RM0204"] == codes
    assert len([one for one in report.findings if one.code == "RM0204"]) == complaints
    assert len(report.suppressed) == 1 - len(codes)
    assert to_json(report)["counts"]["suppressed"] == 1 - len(codes)


@pytest.mark.parametrize(
    ("option", "holds"),
    [
        ("IST0101=VirtualService/default/r", True),
        ("IST0101=VirtualService/*/r", True),
        ("IST*=*", True),
        ("IST0101=VirtualService r.default", True),
        ("IST0101=VirtualService r*", True),
        ("IST0101=VirtualService/other/r", False),
        ("IST0130=*", False),
    ],
)
def test_suppressions_of_the_command_line(option: str, holds: bool) -> None:
    report = analyzed(NOWHERE, suppressions=[from_option(option)])
    assert (len(report.findings), len(report.suppressed)) == ((0, 1) if holds else (1, 0))


def test_a_suppression_of_the_command_line_has_a_form() -> None:
    for wrong in ("IST0101", "=x", "IST0101="):
        with pytest.raises(ValueError, match="write CODE=KIND/NAMESPACE/NAME"):
            from_option(wrong)


def test_suppressions_of_the_mesh() -> None:
    def config(entry: str) -> str:
        return doc("MeshConfig", "mesh-system/mesh", f"{{analysis: {{suppress: [{entry}]}}}}")

    good = analyzed(
        join(NOWHERE, config("{code: IST0101, object: 'VirtualService/default/*', reason: soon}"))
    )
    assert (good.findings, len(good.suppressed)) == ((), 1)
    bad = analyzed(join(NOWHERE, config("{code: IST0101, reason: soon, until: '2020-01-01'}")))
    assert [one.code for one in bad.findings] == ["IST0101", "RM0204"]


def test_one_namespace() -> None:
    text = join(NOWHERE, doc("DestinationRule", "foo/x", "{host: nobody}"))
    assert [one.code for one in analyzed(text, only="foo").findings] == ["IST0174"]
    assert [one.code for one in analyzed(text, only="default").findings] == ["IST0101"]


def secret(expires_at: datetime, other_key: bool = False) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.org")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(expires_at)
    certificate = builder.public_key(key.public_key()).sign(key, hashes.SHA256())
    kept = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = certificate.public_bytes(encoding).decode()
    private = kept.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    lines = ["apiVersion: v1", "kind: Secret", "metadata: {name: c, namespace: mesh-system}", "stringData:"]
    for field, text in (("tls.crt", pem), ("tls.key", private)):
        lines += [f"  {field}: |", *(f"    {line}" for line in text.splitlines())]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("expires_at", "other_key", "expected"),
    [
        (datetime(2028, 1, 1, tzinfo=UTC), False, ""),
        (datetime(2026, 1, 1, tzinfo=UTC), False, "expired on 2026-01-01"),
        (datetime(2028, 1, 1, tzinfo=UTC), True, "not that of its certificate"),
    ],
)
def test_credentials_of_gateways(expires_at: datetime, other_key: bool, expected: str) -> None:
    gateway = CASES["no secret"][0]
    found = [
        one for one in analyzed(join(gateway, secret(expires_at, other_key))).findings if one.code != "RM0201"
    ]
    assert [one.code for one in found] == (["IST0161"] if expected else [])
    assert not expected or expected in found[0].message


def test_the_mesh_that_runs_with_files_as_if_applied() -> None:
    world = World({one.key: one for one in load(service("reviews"), "stored")})
    none = analyze_mesh(world, [], NOW, Grounds())
    assert (none.findings, none.documents) == ((), 1)
    text = routes("r", "[reviews]", f"[{to('nowhere')}]")
    both = analyze_mesh(world, [("f.yaml", text)], NOW, Grounds())
    assert [one.code for one in both.findings] == ["IST0101"]
    changed = service("reviews", "[{name: http, port: 81}]")
    assert analyze_mesh(world, [("f.yaml", changed)], NOW, Grounds()).documents == 1


def test_analysis_costs_about_the_number_of_documents() -> None:
    """A thousand services of five routes each take 4.4 s (3,000 documents), a hundred and fifty 0.7 s."""
    parts = []
    for number in range(150):
        name = f"s{number}"
        matches = ", ".join(
            f"{{match: [{{uri: {{exact: /{one}}}}}], route: [{{destination: {{host: {name}, subset: v1}}}}]}}"
            for one in range(5)
        )
        subset = f"{{host: {name}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}"
        parts += [
            service(name),
            routes(name, f"[{name}]", f"[{matches}]"),
            doc("DestinationRule", name, subset),
        ]
    started = time.process_time()
    report = analyzed(join(*parts))
    assert {one.code for one in report.findings} == {"IST0173"}
    assert time.process_time() - started < 7


def test_of_two_documents_for_one_object_both_are_looked_at() -> None:
    text = join(REVIEWS, *(routes("r", "[reviews]", f"[{to(host)}]") for host in ("nobody", "nowhere")))
    found = [one.message for one in analyzed(text).findings if one.code == "IST0101"]
    assert ["nobody" in found[0], "nowhere" in found[1], len(found)] == [True, True, 2]


def test_a_namespace_exists_by_being_used_unless_some_are_declared() -> None:
    text = doc("AuthorizationPolicy", "foo/p", "{rules: [{from: [{source: {namespaces: [bar]}}]}]}")
    assert [one.code for one in analyzed(text).findings] == ["IST0127"]


@pytest.mark.skipif(not CONFORMANCE.exists(), reason=f"no {CONFORMANCE}")
def test_every_document_of_istios_can_be_looked_at() -> None:
    files = sorted(CONFORMANCE.rglob("*.yaml"))
    for path in files:
        report = analyzed(path.read_text()) if path.parent.name != "istio-api" else None
        assert report is None or to_json(report)["counts"]["suppressed"] == 0, path
