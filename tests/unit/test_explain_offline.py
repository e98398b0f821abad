"""A world from files: pods as workloads, what is assumed, what is not enforced."""

from __future__ import annotations

import pytest

from ray_mesh.errors import ConfigError
from ray_mesh.explain.answer import Explanation
from ray_mesh.explain.explaining import explain
from ray_mesh.explain.offline import assumed_world, read_files
from ray_mesh.explain.question import Caller, ask

WEB = Caller(labels=(("app", "web"),))
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
"""
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v2}}]}]}
---
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
spec:
  template:
    metadata:
      labels: {app: reviews, version: v1}
    spec:
      serviceAccountName: bookinfo-reviews
      containers: [{name: app, ports: [{containerPort: 8000}]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: passed-over}
data: {a: b}
---
"""


def told(text: str, caller: Caller = WEB, services: bool = False, **to_labels: str) -> Explanation:
    files = read_files([("all.yaml", text)])
    world, assumed = assumed_world(files, to_labels, caller, services=services, port=9080)
    question = ask(caller, "http://reviews:9080/")
    return explain(world, question, doubts=files.doubts, warnings=[*files.warnings, *assumed])


def policy(name: str, spec: str) -> str:
    head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
    return f"{head}metadata: {{name: {name}}}\nspec: {spec}\n---\n"


def test_without_workloads_each_subset_is_assumed_to_have_one() -> None:
    found = told(SERVICE + RULE + ROUTES)
    assert found.shares[0].endpoints == ("default/reviews-v2",)
    assert any("one was assumed" in one for one in found.warnings)


def test_labels_of_the_callee_may_be_said() -> None:
    closed = policy("closed", "{selector: {matchLabels: {tier: a}}, action: ALLOW, rules: []}")
    assert told(SERVICE + closed).verdict.outcome == "forwarded"
    assert told(SERVICE + closed, tier="a").verdict.status == 403


def test_what_runs_pods_is_a_workload_and_nothing_more_is_assumed() -> None:
    found = told(SERVICE + RULE + ROUTES + DEPLOYMENT)
    assert (found.verdict.flag, found.verdict.status) == ("UH", 503)
    assert not any("assumed" in one for one in found.warnings)
    note = found.shares[0].steps[-1].notes[0]
    assert note.says == "not default/reviews-v1: it has version=v1, subset v2 wants v2"
    caller = Caller(workload="reviews-v1")
    assert told(SERVICE + DEPLOYMENT, caller).principal == "mesh.local/ns/default/sa/bookinfo-reviews"


def test_the_port_of_a_pod_is_what_policies_see() -> None:
    by_port = policy("port", "{action: ALLOW, rules: [{to: [{operation: {ports: ['8000']}}]}]}")
    assert told(SERVICE + DEPLOYMENT + by_port).verdict.outcome == "forwarded"


def test_services_are_assumed_only_when_asked() -> None:
    assert told(ROUTES + RULE).verdict.reason == "host_not_in_mesh"
    found = told(ROUTES + RULE, services=True)
    assert found.verdict.outcome == "forwarded"
    assert "assumed, since no file has it: Service default/reviews" in found.warnings


def test_the_later_of_two_documents_counts() -> None:
    found = told(SERVICE + RULE + ROUTES + ROUTES.replace("v2", "v1"))
    assert found.shares[0].subset == "v1"
    assert found.warnings[0].startswith(
        "VirtualService default/reviews is there more than once: the one in all"
    )


@pytest.mark.parametrize(("action", "status"), [("ALLOW", 403), ("DENY", 403)])
def test_what_is_not_enforced_lets_nothing_through(action: str, status: int) -> None:
    rules = "[{from: [{source: {requestPrincipals: ['*']}}]}]"
    found = told(SERVICE + policy("tokens", f"{{action: {action}, rules: {rules}}}"))
    assert found.verdict.status == status
    authorization = found.shares[0].steps[-1]
    assert any("requestPrincipals" in one.says for one in authorization.notes)
    assert any("not supported yet" in one for one in found.warnings)


def test_what_is_invalid_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"all\.yaml:5:\d+: VirtualService default/reviews: spec\.hots"):
        told(ROUTES.replace("hosts", "hots"))
    with pytest.raises(ConfigError, match="Deployment without name is no workload"):
        told("apiVersion: apps/v1\nkind: Deployment\nmetadata: {}\n")


def test_istios_root_namespace_is_not_this_meshs() -> None:
    spec = policy("all", "{}").replace("name: all", "name: all, namespace: istio-system")
    assert any(
        "the root namespace of this mesh is mesh-system" in one for one in told(SERVICE + spec).warnings
    )


def test_a_list_of_kubectl_is_its_items() -> None:
    items = "".join(
        f"- {part.strip()}\n".replace("\n", "\n  ").rstrip() + "\n" for part in [SERVICE[:-5], ROUTES[:-5]]
    )
    found = told(f"apiVersion: v1\nkind: List\nitems:\n{items}---\n{RULE}")
    route = next(one for one in found.steps if one.stage == "route")
    assert route.ground.document == "virtualservice.default.reviews"
    assert route.ground.where.startswith("all.yaml:11:")


def test_what_is_passed_over_is_told() -> None:
    assert told(SERVICE + DEPLOYMENT).warnings == (
        "passed over, since they say nothing to the mesh: ConfigMap",
    )


def test_what_an_external_authorizer_says_is_not_known_so_it_counts_as_a_denial() -> None:
    found = told(SERVICE + policy("ask", "{action: CUSTOM, provider: {name: opa}, rules: [{}]}"))
    assert found.verdict.status == 403
    assert found.shares[0].steps[-1].says == "denied by AuthorizationPolicy default/ask rules[0] (CUSTOM)"
    assert told(SERVICE + policy("log", "{action: AUDIT, rules: [{}]}")).verdict.outcome == "forwarded"


def test_a_rule_that_is_enforced_holds_beside_one_that_is_not() -> None:
    rules = (
        "[{when: [{key: 'request.auth.claims[iss]', values: [a]}]}, {to: [{operation: {methods: [GET]}}]}]"
    )
    found = told(SERVICE + policy("mixed", f"{{action: ALLOW, rules: {rules}}}"))
    assert found.verdict.outcome == "forwarded"
    assert found.shares[0].steps[-1].ground.path == "spec.rules[1]"


def test_files_without_any_document() -> None:
    with pytest.raises(ConfigError, match="no document"):
        told("# nothing\n")


def test_a_caller_by_name_is_assumed_too_where_no_file_has_a_workload() -> None:
    found = told(SERVICE + RULE, Caller(workload="default/reviews-v1", account="bookinfo-reviews"))
    assert found.principal == "mesh.local/ns/default/sa/bookinfo-reviews"
    assert "version=v1" in found.source
    other = told(SERVICE + RULE, Caller(workload="prod/web", account="web"))
    assert other.principal == "mesh.local/ns/prod/sa/web"
    assert "no file has a workload: Workload prod/web was assumed, without labels" in other.warnings
