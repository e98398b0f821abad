"""Puts what runs on Ray already into the mesh, as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_mesh.actors.placement import node_name
from ray_mesh.sdk.attachment import Attachment
from ray_mesh.sdk.facade import Mesh
from ray_mesh.workload.app import set_proxy
from ray_mesh.workload.places import live_nodes

SERVE_PORT = 8000
"""Where Ray Serve's HTTP proxies listen unless they were told otherwise."""
CALL_TIMEOUT_S = 30.0


def join(
    mesh: Mesh,
    actor: Any,
    service: str,
    version: str,
    port: int,
    *,
    namespace: str = "default",
    name: str | None = None,
    service_account: str = "default",
    labels: Mapping[str, str] | None = None,
    protocol: str = "",
) -> Attachment:
    """Run a Ray actor that listens on loopback ``port`` as a workload of ``service``; ``protocol`` is that of
    :meth:`Mesh.attach`.

    Its own calls go through the mesh from now on, if its HTTP client reads the environment
    (``http_proxy``) for each call, as requests, httpx and ``aiohttp`` with ``trust_env=True`` do. An
    actor that is restarted elsewhere is joined again by its owner; :meth:`Mesh.serve` does that by itself.

    Raises:
        MeshError: as :meth:`Mesh.attach`.
    """
    import ray

    node = ray.get(actor.__ray_call__.remote(_node), timeout=CALL_TIMEOUT_S)
    attachment = mesh.attach(
        service,
        version,
        port,
        namespace=namespace,
        name=name,
        service_account=service_account,
        labels=labels,
        node=node_name(node),
        protocol=protocol,
    )
    ray.get(actor.__ray_call__.remote(_use, attachment.http_proxy), timeout=CALL_TIMEOUT_S)
    return attachment


def join_serve(
    mesh: Mesh,
    service: str,
    version: str,
    port: int = SERVE_PORT,
    *,
    nodes: Sequence[str] = (),
    namespace: str = "default",
    service_account: str = "default",
    labels: Mapping[str, str] | None = None,
    protocol: str = "",
) -> list[Attachment]:
    """Run Ray Serve's HTTP proxies as workloads of ``service``, one on each of ``nodes`` (all by default).

    Its gRPC proxies have a ``port`` of their own, for which ``protocol`` is ``grpc``.
    ``nodes`` are names as in ``ray-mesh status``. Start Serve with ``proxy_location="EveryNode"``, or name
    the nodes that have a proxy.

    Raises:
        MeshError: as :meth:`Mesh.attach`; those that were attached are detached again.
    """
    attached: list[Attachment] = []
    try:
        for node in nodes or sorted(live_nodes()):
            attached.append(
                mesh.attach(
                    service,
                    version,
                    port,
                    namespace=namespace,
                    name=f"{service}-{version}-{node}",
                    service_account=service_account,
                    labels=labels,
                    node=node,
                    protocol=protocol,
                )
            )
    except BaseException:
        for one in attached:
            one.detach()
        raise
    return attached


def _node(_actor: object) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _use(_actor: object, url: str) -> None:
    set_proxy(url)
