"""Kubernetes' Namespace (v1): its labels say which namespaces others select."""

from __future__ import annotations

from typing import Annotated

from ray_mesh.resources.schema import Later, Model


class NamespaceSpec(Model):
    """A namespace has labels only; they stand in its metadata."""

    finalizers: Annotated[tuple[str, ...], Later("nothing of a namespace is finalized")] = ()
