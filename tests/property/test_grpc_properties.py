"""What the gRPC side of the proxies makes of any bytes."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from ray_mesh.proxy import grpc
from ray_mesh.proxy.replies import Reply

VISIBLE = re.compile(rb"[\x20-\x7e]*")
LINES = st.lists(
    st.tuples(
        st.sampled_from([b"grpc-status", b"Grpc-Status", b"grpc-message", b"x-grpc-status"]),
        st.binary(max_size=12).map(lambda value: value.translate(None, b"\r\n\0")),
    ),
    max_size=4,
)


@given(st.text(max_size=2000))
def test_any_sentence_is_a_field_and_read_back(message: str) -> None:
    fields = grpc.grpc_reply(Reply(503, "UH", "reason", message))
    assert all(VISIBLE.fullmatch(name) and VISIBLE.fullmatch(value) for name, value in fields)
    said = dict(fields).get(b"grpc-message", b"")
    assert unquote_to_bytes(said) == message.encode()[: grpc.MAX_MESSAGE_BYTES]


@given(LINES, st.sampled_from([b"", b"\r\n"]))
@example([(b"grpc-status", b" 014 ")], b"")
def test_a_status_is_that_of_the_first_line_that_has_one(
    lines: list[tuple[bytes, bytes]], start: bytes
) -> None:
    expected = None
    for name, value in lines:
        digits = value.strip(b" \t")
        if name.lower() == b"grpc-status" and re.fullmatch(rb"[0-9]{1,10}", digits):
            expected = int(digits) if int(digits) <= 16 else 2
            break
    assert grpc.status_of(start + b"".join(b"%b: %b\r\n" % line for line in lines)) == expected


@given(st.binary(max_size=12))
@example(b"00000000n")
@example(b"1S\n")
def test_a_timeout_is_digits_and_a_unit_or_none(value: bytes) -> None:
    seconds = grpc.timeout_s(value)
    assert (seconds is not None) == (re.fullmatch(rb"[0-9]{1,8}[HMSmun]", value) is not None)
    assert seconds is None or 0 <= seconds < 4e11
