"""A connection to the node's mTLS port after its handshake: HTTP/1.1, HTTP/2 or TCP, as ALPN says."""

from __future__ import annotations

import asyncio
from typing import cast

from ray_mesh.proxy.hosting import Hosting
from ray_mesh.proxy.http1_server import Http1Server, Listening
from ray_mesh.proxy.http2_choice import mesh_codec
from ray_mesh.proxy.http2_server import Http2Server
from ray_mesh.proxy.tcp_dialer import MessageReader
from ray_mesh.proxy.tls import HTTP2_ALPN, TCP_ALPN


class Handshaken(asyncio.Protocol):
    """Gives the connection to the protocol that was negotiated."""

    def __init__(self, listening: Listening, hosting: Hosting) -> None:
        self._listening = listening
        self._hosting = hosting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        connection = cast(asyncio.Transport, transport)
        negotiated = connection.get_extra_info("ssl_object").selected_alpn_protocol()

        if negotiated == TCP_ALPN:
            reader = MessageReader()
            connection.set_protocol(reader)
            reader.connection_made(connection)
            self._hosting.admit_tcp(reader, connection)
            return
        protocol: Http1Server | Http2Server
        if negotiated == HTTP2_ALPN:
            protocol = Http2Server(self._listening, self._hosting.admit_peer, mesh_codec)
        else:
            protocol = Http1Server(self._listening, self._hosting.admit_peer)
        connection.set_protocol(protocol)
        protocol.connection_made(connection)
