"""Istio's annotations: which there are, on what they belong, and what their values may be."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ray_mesh.analyze.subject import Subject
from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding
from ray_mesh.errors import ConfigError
from ray_mesh.resources.source import Path, read_inner

ANY = "Any"
_POD = ("Pod",)


@dataclass(frozen=True, slots=True)
class Annotation:
    """On which kinds it belongs, and whether it is deprecated."""

    kinds: tuple[str, ...]
    deprecated: bool = False


def _known() -> dict[str, Annotation]:
    found: dict[str, Annotation] = {}
    for name in ("port",):
        found[f"status.sidecar.istio.io/{name}"] = Annotation(_POD)
    for name in ("initialDelaySeconds", "periodSeconds", "failureThreshold", "applicationPorts"):
        found[f"readiness.status.sidecar.istio.io/{name}"] = Annotation(_POD)
    for name in _TRAFFIC:
        found[f"traffic.sidecar.istio.io/{name}"] = Annotation(_POD)
    for name in _SIDECAR:
        found[f"sidecar.istio.io/{name}"] = Annotation(_POD)
    return found | _OTHERS


_TRAFFIC = (
    "includeOutboundIPRanges",
    "excludeOutboundIPRanges",
    "includeOutboundPorts",
    "includeInboundPorts",
    "excludeInboundPorts",
    "excludeOutboundPorts",
    "excludeInterfaces",
    "kubevirtInterfaces",
)
_SIDECAR = (
    "status",
    "rewriteAppHTTPProbers",
    "controlPlaneAuthPolicy",
    "discoveryAddress",
    "proxyImage",
    "proxyImageType",
    "proxyCPU",
    "proxyCPULimit",
    "proxyMemory",
    "proxyMemoryLimit",
    "interceptionMode",
    "bootstrapOverride",
    "statsInclusionPrefixes",
    "statsInclusionSuffixes",
    "statsInclusionRegexps",
    "statsHistogramBuckets",
    "statsCompression",
    "extraStatTags",
    "userVolume",
    "userVolumeMount",
    "enableCoreDump",
    "logLevel",
    "componentLogLevel",
    "agentLogLevel",
    "nativeSidecar",
)
_OTHERS = {
    "sidecar.istio.io/inject": Annotation(_POD, deprecated=True),
    "proxy.istio.io/config": Annotation(_POD),
    "proxy.istio.io/overrides": Annotation(_POD),
    "inject.istio.io/templates": Annotation(_POD),
    "istio.io/rev": Annotation(_POD),
    "istio.io/dry-run": Annotation(("AuthorizationPolicy",)),
    "istio.io/autoRegistrationGroup": Annotation(("WorkloadEntry",)),
    "istio.io/workloadController": Annotation(("WorkloadEntry",)),
    "istio.io/connectedAt": Annotation(("WorkloadEntry",)),
    "istio.io/disconnectedAt": Annotation(("WorkloadEntry",)),
    "ambient.istio.io/redirection": Annotation(_POD),
    "ambient.istio.io/bypass-inbound-capture": Annotation(_POD),
    "alpha.istio.io/identity": Annotation(_POD),
    "alpha.istio.io/kubernetes-serviceaccounts": Annotation(("Service",)),
    "alpha.istio.io/canonical-serviceaccounts": Annotation(("Service",)),
    "networking.istio.io/exportTo": Annotation(("Service",)),
    "networking.istio.io/traffic-distribution": Annotation(("Service", "ServiceEntry", "Namespace")),
    "networking.istio.io/service-type": Annotation(("Gateway",)),
    "networking.istio.io/address-type": Annotation(("Gateway",)),
    "networking.istio.io/tunnel": Annotation(_POD),
    "security.istio.io/autoMTLS": Annotation(_POD),
    "topology.istio.io/controlPlaneClusters": Annotation(("Namespace",)),
    "prometheus.istio.io/merge-metrics": Annotation(_POD),
    "galley.istio.io/analyze-suppress": Annotation((ANY,)),
    "internal.istio.io/parents": Annotation((ANY,)),
    "install.operator.istio.io/chart-owner": Annotation((ANY,)),
    "install.operator.istio.io/owner-generation": Annotation((ANY,)),
    "install.operator.istio.io/version": Annotation((ANY,)),
    "kubernetes.io/ingress.class": Annotation(("Ingress",)),
}
KNOWN = _known()
"""Istio's annotations by name (https://istio.io/latest/docs/reference/config/annotations/)."""

EXAMINED = ("Namespace", "Service", "Pod", "Deployment")
"""The kinds whose annotations are looked at, as in Istio."""


def annotation_findings(subject: Subject) -> Iterator[Finding]:
    """What is to be said about the annotations of an object; of kinds outside :data:`EXAMINED` nothing."""
    if subject.kind not in EXAMINED:
        return
    for name, value in sorted(subject.annotations.items()):
        if not _is_istios(name):
            continue
        path: Path = ("metadata", "annotations", name)
        known = KNOWN.get(name)
        if known is None:
            message = f"Unknown annotation: {name}"
            yield subject.find("warning", codes.UNKNOWN_ANNOTATION, path, message, "correct or remove it")
            continue
        if known.deprecated and name not in subject.labels:
            message = (
                f'Annotation "{name}" has been deprecated in favor of the "{name}" label and may not work in '
                "future Istio versions."
            )
            yield subject.find("info", codes.DEPRECATED_ANNOTATION, path, message, "write it as a label")
        if ANY not in known.kinds and subject.kind not in known.kinds:
            kinds = ", ".join(known.kinds)
            message = f"Misplaced annotation: {name} can only be applied to {kinds}"
            yield subject.find(
                "warning", codes.MISPLACED_ANNOTATION, path, message, f"move it to the {kinds}"
            )
        elif problem := _VALUES.get(name, _anything)(value):
            message = f"Invalid annotation {name}: {problem}"
            yield subject.find("warning", codes.INVALID_ANNOTATION, path, message, "correct the value")


def _is_istios(name: str) -> bool:
    domain, slash, _ = name.partition("/")
    return name == "kubernetes.io/ingress.class" or (bool(slash) and domain.endswith("istio.io"))


def _anything(value: str) -> str:
    return ""


def _whole_number(value: str) -> str:
    return "" if value.isascii() and value.isdigit() else f"{value!r} is not a whole number"


def _boolean(value: str) -> str:
    words = ("true", "false", "1", "0", "t", "f", "yes", "no", "y", "n", "on", "off")
    return "" if value.lower() in words else f"{value!r} is not true or false"


def _ports(value: str) -> str:
    for one in filter(None, (part.strip() for part in value.split(","))):
        if one != "*" and not (one.isascii() and one.isdigit() and int(one) <= 65535):
            return f"{one!r} is not a port"
    return ""


def _networks(value: str) -> str:
    if value == "*":
        return ""
    for one in filter(None, (part.strip() for part in value.split(","))):
        try:
            ipaddress.ip_network(one, strict=False)
        except ValueError:
            return f"{one!r} is not a network in CIDR form"
    return ""


def _interception(value: str) -> str:
    return "" if value in ("REDIRECT", "TPROXY", "NONE") else f"{value!r} is not REDIRECT, TPROXY or NONE"


def _json(value: str) -> str:
    try:
        json.loads(value)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return ""


def _proxy_config(value: str) -> str:
    try:
        config = read_inner(value, "the value")
    except ConfigError:
        return "not YAML"
    return "" if config in (None, "null", "~") or isinstance(config, dict) else "not a map"


_VALUES: dict[str, Callable[[str], str]] = {
    "sidecar.istio.io/interceptionMode": _interception,
    "sidecar.istio.io/enableCoreDump": _boolean,
    "sidecar.istio.io/rewriteAppHTTPProbers": _boolean,
    "sidecar.istio.io/inject": _boolean,
    "sidecar.istio.io/userVolume": _json,
    "sidecar.istio.io/userVolumeMount": _json,
    "proxy.istio.io/config": _proxy_config,
    "status.sidecar.istio.io/port": _ports,
    "readiness.status.sidecar.istio.io/initialDelaySeconds": _whole_number,
    "readiness.status.sidecar.istio.io/periodSeconds": _whole_number,
    "readiness.status.sidecar.istio.io/failureThreshold": _whole_number,
    "readiness.status.sidecar.istio.io/applicationPorts": _ports,
    "traffic.sidecar.istio.io/includeOutboundIPRanges": _networks,
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": _networks,
    "traffic.sidecar.istio.io/includeInboundPorts": _ports,
    "traffic.sidecar.istio.io/excludeInboundPorts": _ports,
    "traffic.sidecar.istio.io/includeOutboundPorts": _ports,
    "traffic.sidecar.istio.io/excludeOutboundPorts": _ports,
}
