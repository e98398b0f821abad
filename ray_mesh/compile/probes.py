"""How a workload is asked by its own proxy whether it is well."""

from __future__ import annotations

from dataclasses import replace

from ray_mesh import snapshot
from ray_mesh.resources import WorkloadSpec
from ray_mesh.resources.workload_group import ReadinessProbe


def compile_probe(spec: WorkloadSpec) -> snapshot.Probe | None:
    """The probe of a workload; numbers that are 0 have their default, as in Istio."""
    probe = spec.probe
    if probe is None:
        return None
    return replace(
        _way(probe, spec.address, spec.port),
        initial_delay_s=probe.initial_delay_seconds,
        timeout_s=probe.timeout_seconds or 1,
        period_s=probe.period_seconds or 10,
        success_threshold=probe.success_threshold or 1,
        failure_threshold=probe.failure_threshold or 3,
    )


def _way(probe: ReadinessProbe, address: str, port: int) -> snapshot.Probe:
    if probe.exec is not None:
        return snapshot.Probe("exec", command=probe.exec.command)
    if probe.tcp_socket is not None:
        return snapshot.Probe("tcp", probe.tcp_socket.host or address, probe.tcp_socket.port)
    if probe.grpc is not None:
        return snapshot.Probe("grpc", address, probe.grpc.port or port, service=probe.grpc.service)
    http = probe.http_get
    assert http is not None, "a workload has one of these four"
    return snapshot.Probe(
        "https" if http.scheme == "HTTPS" else "http",
        http.host or address,
        http.port,
        f"/{http.path.removeprefix('/')}",
        tuple((header.name, header.value) for header in http.http_headers),
    )
