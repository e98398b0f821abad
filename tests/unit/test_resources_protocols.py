"""Istio's protocol selection."""

from __future__ import annotations

import pytest

from ray_mesh.resources.protocols import of_port, said


@pytest.mark.parametrize(
    ("number", "name", "app_protocol", "expected"),
    [
        (80, "http", None, "http"),
        (80, "HTTP-Admin", None, "http"),
        (80, "http2-x", None, "http2"),
        (80, "httpx", None, "auto"),
        (80, "admin-http", None, "auto"),
        (80, "", None, "auto"),
        (443, "https-web", None, "tls"),
        (443, "tls", None, "tls"),
        (1, "tcp", None, "tcp"),
        (1, "mongo-a-b", None, "tcp"),
        (1, "GRPC", None, "grpc"),
        (1, "grpc-x", None, "grpc"),
        (1, "grpcx", None, "auto"),
        (1, "grpc-web-x", None, None),
        (3306, "", None, "tcp"),
        (3306, "db", None, "tcp"),
        (3306, "http", None, "http"),
        (27017, "db", "web", "tcp"),
        (25, "", None, "tcp"),
        (53, "", None, "tcp"),
        (5432, "", None, "auto"),
        (80, "http", "tcp", "tcp"),
        (80, "tcp", "HTTP", "http"),
        (80, "tcp", "http-admin", "http"),
        (80, "http", "example.com/own", "auto"),
        (80, "http", "kubernetes.io/ws", "http"),
        (80, "http", "kubernetes.io/wss", "tls"),
        (80, "http", "kubernetes.io/h2c", "http2"),
        (80, "http", "grpc", "grpc"),
        (80, "udp-x", None, None),
        (80, "grpc", "http_proxy", None),
    ],
)
def test_what_a_port_of_a_service_speaks(
    number: int, name: str, app_protocol: str | None, expected: str | None
) -> None:
    assert of_port(number, name, app_protocol) == expected


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("HTTP", "http"),
        ("https", "tls"),
        ("MySQL", "tcp"),
        ("", "auto"),
        ("GRPC-WEB", None),
        ("HTTP2", "http2"),
        ("gRPC", "grpc"),
    ],
)
def test_what_a_port_of_a_service_entry_speaks(protocol: str, expected: str | None) -> None:
    assert said(protocol) == expected
