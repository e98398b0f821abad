"""Who may call whom, and how often, on a running mesh."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from mesh_site import Site, eventually

from ray_mesh.errors import PolicyDenied

DENY_ALL_BUT_PRODUCTPAGE = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: productpage-only}
spec:
  selector: {matchLabels: {app: reviews}}
  action: ALLOW
  rules:
  - from: [{source: {principals: ["mesh.local/ns/default/sa/bookinfo-productpage"]}}]
    to: [{operation: {methods: [GET], paths: ["/reviews/*"]}}]
"""

NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec:
  selector: {matchLabels: {app: productpage}}
"""

LIMIT = """
apiVersion: mesh.ray.io/v1
kind: RateLimit
metadata: {name: productpage, namespace: mesh-system}
spec: {requests: 5, unit: MINUTE, failMode: CLOSED, selector: {matchLabels: {app: productpage}}}
"""


@pytest.fixture
def clean(site: Site) -> Iterator[Site]:
    yield site
    for document in (*site.mesh.list("AuthorizationPolicy"), *site.mesh.list("RateLimit")):
        site.remove(document.kind, document.name, document.namespace)


def test_an_allowed_caller_still_calls_when_others_may_not(clean: Site) -> None:
    clean.apply(DENY_ALL_BUT_PRODUCTPAGE)
    assert "Error fetching product reviews" not in clean.page()


def test_a_denial_names_no_policy_to_the_outside(clean: Site) -> None:
    clean.apply(NOBODY)
    status, body, headers = clean.get("/productpage")
    assert status == 403
    assert headers["x-mesh-flag"] == "UAEX"
    assert json.loads(body)["error"] == "denied"
    assert "default/nobody" not in body


def test_a_service_account_without_binding_cannot_attach(site: Site) -> None:
    with pytest.raises(PolicyDenied, match="WorkloadBinding"):
        site.mesh.attach("thief", "v1", 9, service_account="bookinfo-unbound")


def test_a_rate_limit_is_seen_as_429_with_retry_after(clean: Site) -> None:
    clean.apply(LIMIT)
    statuses = [clean.get("/productpage")[0] for _ in range(12)]
    assert statuses.count(429) >= 12 - 5
    status, _, headers = clean.get("/productpage")
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    assert headers["x-mesh-flag"] == "RL"


def limit(fail_mode: str) -> str:
    return f"""
apiVersion: mesh.ray.io/v1
kind: RateLimit
metadata: {{name: productpage, namespace: mesh-system}}
spec:
  requests: 200
  unit: SECOND
  failMode: {fail_mode}
  selector: {{matchLabels: {{app: productpage}}}}
"""


def kill_policy_actors(site: Site) -> None:
    for actor in site.mesh.status().actors:
        if actor.role == "policy":
            os.kill(actor.pid, signal.SIGKILL)


def test_with_all_policy_actors_killed_an_open_limit_lets_requests_pass(clean: Site) -> None:
    clean.apply(limit("OPEN"))
    assert clean.get("/productpage")[0] == 200
    kill_policy_actors(clean)
    until = time.monotonic() + 5.0
    statuses = set()
    while time.monotonic() < until:
        statuses.add(clean.get("/productpage")[0])
    assert statuses == {200}


def test_with_all_policy_actors_killed_a_closed_limit_refuses_until_one_is_back(clean: Site) -> None:
    clean.apply(limit("CLOSED"))
    eventually(lambda: clean.get("/productpage")[0] == 200)
    kill_policy_actors(clean)
    eventually(lambda: clean.get("/productpage")[0] == 429)
    eventually(lambda: clean.get("/productpage")[0] == 200, timeout_s=30.0)
