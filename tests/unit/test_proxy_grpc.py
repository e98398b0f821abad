"""Tests of ray_mesh.proxy.grpc: what is a call, what its fields say, answers of our own."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy import grpc, replies
from ray_mesh.proxy.head import read_request
from ray_mesh.proxy.replies import Reply


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"content-type: application/grpc\r\n", True),
        (b"content-type: application/grpc+proto\r\n", True),
        (b"Content-Type: Application/gRPC;charset=utf-8\r\n", True),
        (b"content-type: application/grpc-web\r\n", False),
        (b"content-type: application/grpc-web+proto\r\n", False),
        (b"content-type: application/grpcx\r\n", False),
        (b"content-type: application/json\r\n", False),
        (b"content-type: text/plain\r\ncontent-type: application/grpc\r\n", False),
        (b"x-content-type: application/grpc\r\n", False),
        (b"", False),
    ],
)
def test_what_is_a_call(fields: bytes, expected: bool) -> None:
    head = read_request(b"\r\nhost: a\r\n" + fields, frozenset())
    assert grpc.is_grpc(head) is expected
    assert grpc.is_grpc(head) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1S", 1.0),
        (b"99999999H", 99999999 * 3600.0),
        (b"2M", 120.0),
        (b"250m", 0.25),
        (b"1500u", 0.0015),
        (b"20n", 2e-8),
        (b"0m", 0.0),
        (b"", None),
        (b"S", None),
        (b"5", None),
        (b"5s", None),
        (b"5 S", None),
        (b"+5S", None),
        (b"-5S", None),
        (b"1.5S", None),
        (b"123456789S", None),
        (b"5S\n", None),
        (b"1S, 2S", None),
        ("٣S".encode(), None),
    ],
)
def test_timeouts(value: bytes, expected: float | None) -> None:
    seconds = grpc.timeout_s(value)
    assert seconds == (pytest.approx(expected) if expected is not None else None)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"grpc-status: 0\r\n", 0),
        (b"x-more: 1\r\ngrpc-status: 14\r\ngrpc-message: no\r\n", 14),
        (b"\r\ncontent-type: application/grpc\r\nGrpc-Status:5\r\n", 5),
        (b"grpc-status: 17\r\n", 2),
        (b"grpc-status: 4294967295\r\n", 2),
        (b"grpc-status: -1\r\n", None),
        (b"grpc-status: \r\n", None),
        (b"x-grpc-status: 3\r\n", None),
        (b"grpc-message: grpc-status: 3\r\n", None),
        (b"", None),
    ],
)
def test_statuses_in_fields(lines: bytes, expected: int | None) -> None:
    assert grpc.status_of(lines) == expected


def test_every_status_has_one_of_http_and_unknown_ones_count_as_failures() -> None:
    assert sorted(grpc.GRPC_TO_HTTP) == list(range(17))
    assert grpc.grpc_to_http(GrpcStatus.UNAVAILABLE) == 503
    assert grpc.grpc_to_http(GrpcStatus.NOT_FOUND) == 404
    assert grpc.grpc_to_http(99) == 500


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (replies.bad_request(400, "no"), GrpcStatus.INTERNAL),
        (replies.TOKEN_REQUIRED, GrpcStatus.UNAUTHENTICATED),
        (replies.no_route("a", "/"), GrpcStatus.UNIMPLEMENTED),
        (replies.no_endpoint("a", ""), GrpcStatus.UNAVAILABLE),
        (replies.overflow("a"), GrpcStatus.UNAVAILABLE),
        (replies.injected_abort(429), GrpcStatus.UNAVAILABLE),
        (replies.timed_out(1.0, "r"), GrpcStatus.DEADLINE_EXCEEDED),
        (replies.try_timed_out(1.0, "a"), GrpcStatus.DEADLINE_EXCEEDED),
        (replies.deadline_exceeded(1.0), GrpcStatus.DEADLINE_EXCEEDED),
        (replies.stalled(1.0), GrpcStatus.UNAVAILABLE),
        (replies.injected_abort(418), GrpcStatus.UNKNOWN),
    ],
)
def test_statuses_of_answers_made_here(reply: Reply, expected: int) -> None:
    fields = dict(grpc.grpc_reply(reply))
    assert fields[b":status"] == b"200"
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"grpc-status"] == b"%d" % expected
    assert unquote(fields[b"grpc-message"].decode()) == reply.message
    assert fields[b"x-mesh-flag"] == reply.flag.encode()


def test_fields_of_an_answer_and_what_the_outside_is_told() -> None:
    lines = (
        "X-Mesh-Policy: p",
        "retry-after: 1",
        "content-type: text/plain",
        "grpc-status: 0",
        "connection: close",
    )
    reply = Reply(503, "UH", "no_healthy_upstream", "50% of naïve\r\nhosts", lines)
    said = grpc.grpc_reply(reply, request_id="id-1")
    assert said == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
        (b"grpc-message", b"50%25 of na%C3%AFve%0D%0Ahosts"),
        (b"x-mesh-flag", b"UH"),
        (b"x-mesh-policy", b"p"),
        (b"retry-after", b"1"),
        (b"x-request-id", b"id-1"),
    ]
    brief = dict(grpc.grpc_reply(reply, is_brief=True))
    assert brief[b"grpc-message"] == b"no_healthy_upstream"
    assert b"x-mesh-policy" not in brief
    assert brief[b"x-mesh-flag"] == b"UH"
    assert dict(grpc.grpc_reply(replies.OVERLOADED, is_brief=True))[b"grpc-message"] != b"overloaded"


def test_a_body_is_the_message_and_bounded() -> None:
    reply = Reply(200, "", "direct_response", "a direct response", content=b"x" * 5000)
    fields = dict(grpc.grpc_reply(reply))
    assert fields[b"grpc-message"] == b"x" * grpc.MAX_MESSAGE_BYTES
    assert b"x-mesh-flag" not in fields
    assert b"grpc-message" not in dict(grpc.grpc_reply(Reply(302, "", "redirect", "a redirect", content=b"")))
