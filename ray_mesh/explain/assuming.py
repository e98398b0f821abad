"""Workloads that no document registers, so that people with a folder of Istio's YAML get answers too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_mesh.resources import Document
from ray_mesh.resources.load import from_manifest
from ray_mesh.resources.source import Manifest, Positions

NODE = "assumed"
ASSUMED = "(assumed)"


def assume_workload(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    account: str = "default",
    *,
    port: int = 0,
    gateway_ports: Mapping[int, int] | None = None,
    positions: Positions | None = None,
) -> Document:
    """A Workload as attaching would have registered it.

    Raises:
        ConfigError: the name, a label or the account is none.
    """
    spec: dict[str, Any] = {
        "serviceAccount": account,
        "node": NODE,
        "port": port,
        "outboundPort": 15001,
        "tokenSha256": "0" * 64,
    }
    if gateway_ports:
        spec["gatewayPorts"] = {str(number): bound for number, bound in gateway_ports.items()}
    value = {
        "apiVersion": "mesh.ray.io/v1",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": spec,
    }
    return from_manifest(Manifest(value, positions or Positions(ASSUMED)))


def is_assumed(workload: Document) -> bool:
    """Whether nobody registered it."""
    return workload.positions.source == ASSUMED


def assume_service(name: str, namespace: str, *ports: int) -> Document:
    """A Service of HTTP ports for the workloads with the label ``app`` of its name.

    Raises:
        ConfigError: the name is none.
    """
    value = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": f"http-{port}", "port": port} for port in ports],
        },
    }
    return from_manifest(Manifest(value, Positions(ASSUMED)))
