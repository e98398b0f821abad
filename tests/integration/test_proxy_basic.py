"""A call from workload to workload over real mutual TLS."""

from __future__ import annotations

import pytest
from proxy_mesh import Client, Mesh, fetch, host_of, mesh, request_bytes  # noqa: F401

from ray_mesh import snapshot


async def test_a_call_reaches_the_application_with_clean_headers(mesh: Mesh) -> None:  # noqa: F811
    port, _ = await mesh.pair()
    answer = await fetch(
        port, "/a/../reviews/7?x=1", "reviews", X_Mesh_Source="default/forged;x;y", TE="trailers"
    )
    assert answer.status == 200, answer.body
    seen = answer.json()
    fields = {name.lower(): value for name, value in seen["fields"]}
    assert seen["line"] == "GET /reviews/7?x=1 HTTP/1.1"
    assert fields["host"] == "reviews"
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-proto"] == "http"
    assert fields["traceparent"].startswith("00-")
    assert len(fields["x-request-id"]) == 36
    assert not {"proxy-authorization", "te", "x-mesh-source", "x-mesh-service"} & fields.keys()


async def test_both_reporters_record_the_call(mesh: Mesh) -> None:  # noqa: F811
    port, _ = await mesh.pair()
    await fetch(port, "/", "reviews.default")
    (source,) = mesh.planes["one"].series.totals()
    (destination,) = mesh.planes["two"].series.totals()
    for edge in (source.edge, destination.edge):
        assert edge.source_workload == "default/client"
        assert edge.source_app == "client"
        assert edge.destination_workload == "default/reviews"
        assert edge.destination_service == host_of("reviews")
        assert edge.source_principal == "mesh.local/ns/default/sa/client"
        assert edge.destination_principal == "mesh.local/ns/default/sa/reviews"
        assert edge.security == "mutual_tls"
        assert (edge.code, edge.flags) == (200, "")
    assert (source.edge.reporter, destination.edge.reporter) == ("source", "destination")
    (record,) = mesh.planes["one"].access_records()
    assert (record.method, record.path, record.edge) == ("GET", "/", source.edge)


async def test_connections_are_reused(mesh: Mesh) -> None:  # noqa: F811
    port, app = await mesh.pair()
    client = await Client.connect(port)
    for number in range(20):
        await client.send(request_bytes("GET", f"/{number}", "reviews"))
        assert (await client.answer()).json()["line"] == f"GET /{number} HTTP/1.1"
    assert app.connections == 1
    assert mesh.planes["two"].stats().connections == 1
    await client.close()


@pytest.mark.parametrize("form", ["http://reviews/x?y", "http://REVIEWS.default.svc.cluster.local:80/x?y"])
async def test_absolute_form_wins_over_host(mesh: Mesh, form: str) -> None:  # noqa: F811
    port, _ = await mesh.pair()
    answer = await fetch(port, form, "elsewhere")
    assert answer.status == 200, answer.body
    assert answer.json()["line"] == "GET /x?y HTTP/1.1"
    hosts = [value for name, value in answer.json()["fields"] if name.lower() == "host"]
    assert hosts == [form.split("/")[2]]


async def test_token_is_required(mesh: Mesh) -> None:  # noqa: F811
    port, app = await mesh.pair()
    for token in ("", "wrong"):
        answer = await fetch(port, "/", "reviews", token=token)
        assert answer.status == 407
        assert answer.field("proxy-authenticate") == 'Basic realm="ray-mesh workload"'
        assert answer.json()["error"] == "token_required"
    assert app.heads == []


async def test_denial_names_policy_and_rule(mesh: Mesh) -> None:  # noqa: F811
    admin = snapshot.Operation(paths=(snapshot.ValueMatch("prefix", "/admin"),))
    deny = snapshot.Policy("default/no-admin", "DENY", (snapshot.Rule(operations=(admin,)),))
    port, app = await mesh.pair(policies=(deny,))
    for path in ("/admin/users", "/x/../admin", "/%61dmin", "/x\\..\\admin"):
        answer = await fetch(port, path, "reviews")
        assert answer.status == 403, path
        assert answer.json()["flag"] == "UAEX"
        assert "default/no-admin" in answer.json()["message"]
        assert answer.field("x-mesh-flag") == "UAEX"
    assert app.heads == []
    assert (await fetch(port, "/public", "reviews")).status == 200
    assert (403, "UAEX", "default/client", "default/reviews", 4) in mesh.series("two")
