"""ServiceEntry and WorkloadEntry: what is honoured, what is refused by name, what is invalid."""

from __future__ import annotations

import pytest

from ray_mesh import addresses
from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.resources import Document, ServiceEntrySpec, WorkloadEntrySpec, load

PORTS = "ports: [{number: 80, name: http, protocol: HTTP}]"


def entry(spec: str, kind: str = "ServiceEntry") -> list[Document]:
    text = f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"
    return load(text, "a.yaml")


def test_static_endpoints() -> None:
    endpoints = "endpoints: [{address: 10.1.2.3, ports: {http: 8080}, labels: {version: v1}}]"
    spec = entry(f"hosts: [api.example.com], {PORTS}, resolution: STATIC, {endpoints}")[0].read(
        ServiceEntrySpec
    )
    assert spec.location == "MESH_EXTERNAL"
    assert spec.endpoints[0].ports == {"http": 8080}


@pytest.mark.parametrize(
    "spec",
    [
        f"hosts: [api.example.com], {PORTS}, resolution: DNS",
        f"hosts: [api.example.com], {PORTS}, resolution: DNS, endpoints: [{{address: eu.example.com}}]",
        f"hosts: [db], {PORTS}, location: MESH_INTERNAL, resolution: STATIC, "
        "workloadSelector: {labels: {app: db}}",
        "hosts: [a.example.com], ports: [{number: 80, name: x, protocol: http, targetPort: 8080}], "
        "resolution: DNS, exportTo: ['*']",
    ],
)
def test_honoured(spec: str) -> None:
    assert entry(spec)[0].kind == "ServiceEntry"


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (f"hosts: [db], {PORTS}, resolution: DNS", "spec.hosts[0] 'db', a name of the mesh"),
        (f"hosts: [db.default.svc], {PORTS}, resolution: DNS", "list endpoints"),
        (f"hosts: [a.b.c, A.b.c], {PORTS}, resolution: DNS", "listed twice"),
        (f"hosts: [a.b.c], {PORTS}, resolution: STATIC", "spec.endpoints empty, STATIC"),
        (f"hosts: ['*x.com'], {PORTS}, resolution: NONE", "spec.hosts[0] *x.com: the star stands for whole"),
        (f"hosts: ['*.svc.cluster.local'], {PORTS}", "which covers names of the mesh's own services"),
        (f"hosts: ['*.default.svc.cluster.local'], {PORTS}", "covers names of the mesh's own"),
        (f"hosts: ['*.local'], {PORTS}, resolution: NONE", "covers names of the mesh's own services"),
        (f"hosts: [db], {PORTS}, resolution: NONE", "'db', a name of the mesh, which DNS does not know"),
        (f"hosts: [a.example.com], {PORTS}, resolution: DNS, subjectAltNames: [a]", "subjectAltNames"),
        ("hosts: [a.example.com], resolution: DNS", "spec.ports empty"),
        (
            "hosts: [a.example.com], ports: [{number: 443, name: g, protocol: HTTP3}], resolution: DNS",
            "spec.ports[0].protocol HTTP3",
        ),
        (
            f"hosts: [a], {PORTS}, resolution: STATIC, workloadSelector: {{labels: {{a: b}}}}",
            "spec.workloadSelector of a ServiceEntry that is MESH_EXTERNAL",
        ),
        (
            f"hosts: [a], {PORTS}, location: MESH_INTERNAL, resolution: DNS, "
            "workloadSelector: {labels: {a: b}}",
            "spec.workloadSelector with resolution DNS",
        ),
        (
            f"hosts: [a], {PORTS}, location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {{}}",
            "spec.workloadSelector.labels empty",
        ),
        (
            f"hosts: [a], {PORTS}, resolution: STATIC, endpoints: [{{address: 10.0.0.1, network: x}}]",
            "spec.endpoints[0].network",
        ),
        (
            f"hosts: [a], {PORTS}, resolution: STATIC, endpoints: [{{address: 'unix:///a'}}]",
            "spec.endpoints[0].address unix:///a",
        ),
    ],
)
def test_refused_by_name(spec: str, named: str) -> None:
    with pytest.raises(NotSupported) as caught:
        entry(spec)
    assert "not supported yet: " in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (f"hosts: [10.0.0.1], {PORTS}, resolution: DNS", "spec.hosts[0]: '10.0.0.1' is not a host"),
        (f"hosts: ['*.b.c'], {PORTS}, resolution: DNS", "hosts must be FQDN"),
        (
            f"hosts: [a.b.c], {PORTS}, resolution: STATIC, endpoints: [{{address: eu.example.com}}]",
            "STATIC endpoints have IP addresses",
        ),
        (
            f"hosts: [a.b.c], {PORTS}, resolution: DNS, endpoints: [{{address: a.io, ports: {{x: 1}}}}]",
            "there is no port 'x' in spec.ports",
        ),
        (f"hosts: [a.b.c], {PORTS}, resolution: DNS, endpoint: []", "did you mean endpoints?"),
        (
            f"hosts: [a.b.c], {PORTS}, resolution: DNS, endpoints: [{{address: -a.example.com}}]",
            "neither an IP address nor a host name",
        ),
    ],
)
def test_invalid(spec: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        entry(spec)
    assert not isinstance(caught.value, NotSupported)
    assert problem in str(caught.value)


UNFIT = [
    "169.254.169.254",
    "fe80::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1:8::a9fe:a9fe",
    "::ffff:0:a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "192.0.0.192",
    "fd00:ec2::23",
    "fd20:ce::254",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "fd00:ec2::254",
]


@pytest.mark.parametrize("address", UNFIT)
def test_no_endpoint_has_such_an_address(address: str) -> None:
    with pytest.raises(ConfigError, match="no endpoint may have it"):
        entry(f"address: '{address}'", "WorkloadEntry")
    endpoint = f"endpoints: [{{address: '{address}'}}]"
    with pytest.raises(ConfigError, match=r"spec\.endpoints\[0\]\.address"):
        entry(f"hosts: [a.b.c], {PORTS}, resolution: STATIC, {endpoint}")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.1.2.3", "localhost", "db.localhost."])
def test_loopback_is_told_apart(address: str) -> None:
    assert addresses.is_loopback(address)
    assert not addresses.why_unfit(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.0.2.7", "2001:db8::1", "example.com", "localhost.io"])
def test_other_addresses_are_fit(address: str) -> None:
    assert not addresses.is_loopback(address)
    assert not addresses.why_unfit(address)


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("10.0.0.5", "::ffff:10.0.0.5", True),
        ("10.0.0.5", "64:ff9b::a00:5", True),
        ("2001:db8::5", "2001:DB8:0::5", True),
        ("db.example.com", "db.example.com", True),
        ("10.0.0.5", "::ffff:10.0.0.6", False),
        ("10.0.0.5", "db.example.com", False),
    ],
)
def test_one_address_may_be_written_in_several_ways(one: str, other: str, are_same: bool) -> None:
    assert addresses.are_same(one, other) == addresses.are_same(other, one) == are_same


def test_workload_entry() -> None:
    spec = entry("address: 10.0.0.9, ports: {http: 8080}, labels: {app: db}", "WorkloadEntry")[0]
    assert spec.read(WorkloadEntrySpec).ports == {"http": 8080}


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("address: db.example.com", "spec.address db.example.com: give an IP address"),
        ("address: 10.0.0.1, network: n", "spec.network"),
        ("address: 10.0.0.1, serviceAccount: db", "spec.serviceAccount: nothing proves an identity"),
    ],
)
def test_workload_entry_refused_by_name(spec: str, named: str) -> None:
    with pytest.raises(NotSupported) as caught:
        entry(spec, "WorkloadEntry")
    assert f"not supported yet: {named}" in str(caught.value)
