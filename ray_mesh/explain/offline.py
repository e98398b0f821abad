"""A world from files alone: documents, pods as workloads, and what has to be assumed beyond them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_mesh.compile import World
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.client_rules import every_rule, merge_rules
from ray_mesh.errors import ConfigError
from ray_mesh.explain.assuming import assume_service, assume_workload
from ray_mesh.explain.question import Caller
from ray_mesh.resources import DestinationRuleSpec, Document, VirtualServiceSpec, WorkloadSpec
from ray_mesh.resources.hosts import SERVICE_SUFFIX, meanings
from ray_mesh.resources.kinds import KINDS
from ray_mesh.resources.mesh import ROOT_NAMESPACE
from ray_mesh.resources.problems import Problem
from ray_mesh.resources.reading import Reading, read_each
from ray_mesh.resources.source import Manifest, Path, Positions

_TEMPLATES: Mapping[str, Path] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where Kubernetes' kinds have the pod that they run."""
_ISTIO_ROOT = "istio-system"
_ROOTED = ("AuthorizationPolicy", "PeerAuthentication", "DestinationRule")
_OURS = ("istio.io", "mesh.ray.io", "gateway.networking.k8s.io")


@dataclass(slots=True)
class Files:
    """What files say. ``doubts`` are what this build does not enforce, by titles of documents; ``repeated``
    is where what is in the files more than once is taken from."""

    documents: dict[str, Document] = field(default_factory=dict)
    doubts: dict[str, list[Problem]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    repeated: dict[str, str] = field(default_factory=dict)
    passed_over: set[str] = field(default_factory=set)


def read_files(sources: Iterable[tuple[str, str]], namespace: str = "") -> Files:
    """The documents of named texts; of two of the same name the later counts, as if applied in turn.

    What runs pods (Deployment, Pod, ...) counts as a workload; other kinds of Kubernetes are passed over.

    Raises:
        ConfigError: a text is not YAML, a document is invalid (one line per problem), or there is none.
    """
    files = Files()
    problems: list[Problem] = []
    for reading in (one for name, text in sources for one in read_each(text, name, namespace)):
        kind = reading.value.get("kind")
        if kind in _TEMPLATES:
            _add(files, _pod(Manifest(reading.value, reading.positions), namespace))
        elif _is_foreign(reading):
            files.passed_over.add(str(kind))
        else:
            problems += reading.problems
            _take(files, reading)
    if not files.documents and not problems:
        raise ConfigError("the files have no document of the mesh")
    invalid = [str(one).replace(": : ", ": ", 1) for one in problems if not one.later]
    if invalid:
        raise ConfigError("\n".join(invalid))
    files.doubts = {title: found for title, found in files.doubts.items() if found}
    files.warnings += _remarks(files)
    return files


def _remarks(files: Files) -> Iterator[str]:
    for title, where in files.repeated.items():
        yield f"{title} is there more than once: the one in {where} counts"
    if files.passed_over:
        kinds = ", ".join(sorted(files.passed_over))
        yield f"passed over, since they say nothing to the mesh: {kinds}"
    yield from _of_other_root(files.documents.values())


def assumed_world(
    files: Files, to_labels: Mapping[str, str], caller: Caller, *, services: bool = False, port: int = 80
) -> tuple[World, list[str]]:
    """The world of files, and what was assumed in it.

    Without any workload in the files each subset of a Service is assumed to have one, with the labels that
    select it and ``to_labels``, and so is the ``caller``. ``services``: those that routes and rules name are
    assumed too, with the ``port`` that is called.

    Raises:
        ConfigError: the name or account of the caller is none.
    """
    world = World(files.documents)
    warnings: list[str] = []
    if services:
        assumed = list(_services(world, port))
        world = world.replace({one.key: one for one in assumed})
        warnings += [f"assumed, since no file has it: {one.title}" for one in assumed]
    if world.find("kind", "Workload"):
        return world, warnings
    workloads = {one.key: one for one in _workloads(world, to_labels)}
    if workloads:
        warnings.append(
            "no file has a workload: one was assumed for each Service and subset without endpoints"
        )
    world = world.replace(workloads)
    if caller.workload:
        document = _calling(world, caller)
        world = world.replace({document.key: document})
        if document.key not in workloads:
            warnings.append(f"no file has a workload: {document.title} was assumed, without labels")
    return world, warnings


def _calling(world: World, caller: Caller) -> Document:
    """The workload that calls, where it has to be assumed: one of those of a Service, as the account said."""
    namespace, _, name = caller.workload.rpartition("/")
    namespace = namespace or "default"
    known = world.get(f"workload.{namespace}.{name}")
    labels, port = (known.labels, known.read(WorkloadSpec).port) if known is not None else ({}, 0)
    return assume_workload(name, namespace, labels, caller.account, port=port)


def _take(files: Files, reading: Reading) -> None:
    document, told = reading.document, [one for one in reading.problems if one.later]
    if document is None:
        files.warnings += map(str, told)
        return
    _add(files, document)
    files.doubts[document.title] = told
    if KINDS[document.kind].later:
        files.warnings += map(str, told)


def _add(files: Files, document: Document) -> None:
    if document.key in files.documents:
        files.repeated[document.title] = document.positions.at(())
    files.documents[document.key] = document


def _of_other_root(documents: Iterable[Document]) -> Iterator[str]:
    """Istio's usual root namespace is none here, so what stands there holds for that namespace alone."""
    for document in documents:
        if document.namespace == _ISTIO_ROOT and document.kind in _ROOTED:
            only = f"{document.title} holds for namespace {_ISTIO_ROOT} only"
            yield f"{only}: the root namespace of this mesh is {ROOT_NAMESPACE}"


def _is_foreign(reading: Reading) -> bool:
    """Whether it is of Kubernetes and says nothing to the mesh."""
    kind, version = reading.value.get("kind"), str(reading.value.get("apiVersion", ""))
    return (
        kind not in KINDS
        and isinstance(kind, str)
        and bool(version)
        and not any(one in version for one in _OURS)
    )


def _pod(manifest: Manifest, namespace: str) -> Document:
    """The workload of what runs a pod: its labels, its service account and its first port."""
    value, kind = manifest.value, str(manifest.value["kind"])
    path = _TEMPLATES[kind]
    template: Any = value
    for step in path:
        template = _map(template).get(str(step))
    metadata, spec = _map(value.get("metadata")), _map(_map(template).get("spec"))
    labels = _map(_map(_map(template).get("metadata")).get("labels"))
    name = str(metadata.get("name", ""))
    try:
        return assume_workload(
            name.replace(".", "-")[:63],
            str(metadata.get("namespace") or namespace or "default"),
            {str(one): str(text) for one, text in labels.items()},
            str(spec.get("serviceAccountName") or "default"),
            port=_first_port(spec),
            positions=_positions(manifest.positions, path),
        )
    except ConfigError as error:
        where = manifest.positions.at(())
        raise ConfigError(f"{where}: {kind} {name or 'without name'} is no workload: {error}") from error


def _positions(positions: Positions, path: Path) -> Positions:
    """Where the labels stand, as of a Workload."""
    inside = (*path, "metadata", "labels")
    marks: dict[Path, tuple[int, int]] = {(): positions.marks.get((), (1, 1))}
    for one, mark in positions.marks.items():
        if one[: len(inside)] == inside:
            marks[("metadata", "labels", *one[len(inside) :])] = mark
    return Positions(positions.source, marks)


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_port(spec: dict[str, Any]) -> int:
    for container in spec.get("containers") or ():
        for port in _map(container).get("ports") or ():
            number = _map(port).get("containerPort")
            if isinstance(number, int) and 0 < number < 65536:
                return number
    return 1


def _workloads(world: World, to_labels: Mapping[str, str]) -> Iterator[Document]:
    for callee in world.callees():
        selector = callee.selector
        if not selector or any(world.attached(callee)) or any(world.entries(callee)):
            continue
        _, subsets = merge_rules(every_rule(world, callee))
        for name, labels in [(one.name, one.labels) for one in subsets] or [("", {})]:
            port = callee.ports[0].target if callee.ports else 1
            named = f"{_plain(callee)}-{name}" if name else _plain(callee)
            yield assume_workload(
                named[:63].rstrip("-"), callee.namespace, {**to_labels, **selector, **labels}, port=port
            )


def _plain(callee: Callee) -> str:
    return callee.document.name.replace(".", "-")


def _services(world: World, port: int) -> Iterator[Document]:
    """Services that VirtualServices and DestinationRules name and nothing has."""
    named: dict[str, set[int]] = {}
    for document in (*world.find("kind", "VirtualService"), *world.find("kind", "DestinationRule")):
        for host, number in _named_hosts(document):
            full = meanings(host, document.namespace)[0]
            if full.endswith(SERVICE_SUFFIX) and "*" not in full and world.callee(full) is None:
                named.setdefault(full, {port}).update({number} - {0})
    for full, ports in sorted(named.items()):
        name, _, namespace = full.removesuffix(SERVICE_SUFFIX).partition(".")
        yield assume_service(name, namespace, *sorted(ports))


def _named_hosts(document: Document) -> Iterator[tuple[str, int]]:
    spec = document.spec
    if isinstance(spec, DestinationRuleSpec):
        yield spec.host, 0
    if isinstance(spec, VirtualServiceSpec):
        for rule in spec.http:
            for one in rule.destinations:
                yield one.host, one.port.number if one.port else 0
