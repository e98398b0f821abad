"""The example subscriber, run as a user runs it: another process without our code."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bus_broker import running_broker

from ray_mesh.bus import messages, subjects
from ray_mesh.telemetry.series import Edge, Histogram, Series

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "nats_subscriber.py"


def report() -> bytes:
    edge = Edge(
        reporter="source",
        source_workload="default/productpage-v1",
        source_app="productpage",
        source_version="v1",
        source_principal="spiffe://mesh.local/ns/default/sa/productpage",
        destination_service="reviews.default.svc.cluster.local",
        destination_workload="default/reviews-v2",
        destination_app="reviews",
        destination_version="v2",
        destination_principal="spiffe://mesh.local/ns/default/sa/reviews",
        route="default",
        protocol="http",
        code=200,
        flags="-",
        security="mutual_tls",
    )
    duration = Histogram(scale=4, zeros=0, counts=((3, 7),), total=0.1, smallest=0.01, largest=0.02)
    series = Series(edge=edge, requests=7, request_bytes=0, response_bytes=700, duration=duration)
    return messages.encode(messages.TelemetryReport("p1", "e1", 1, 0, 1, 0.0, (series,)))


async def test_a_subscriber_without_the_sdk_sees_the_edges(tmp_path: Path) -> None:
    async with running_broker(tmp_path, buckets=False) as broker:
        proxy = await broker.join("proxy", "p1")
        credential = await broker.add_user("observer", "me")
        credential.write(tmp_path / "observer.seed")
        subscriber = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(EXAMPLE),
            broker.server.url,
            str(broker.options.cert_file),
            str(tmp_path / "observer.seed"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert subscriber.stdout is not None
            async with asyncio.timeout(30):
                assert await subscriber.stdout.readline() == b"listening on mesh.v1.telemetry.*\n"
                proxy.publish(subjects.telemetry("p1"), report())
                line = (await subscriber.stdout.readline()).decode()
        finally:
            subscriber.kill()
            await subscriber.wait()
    assert line == (
        "default/productpage-v1 -> reviews.default.svc.cluster.local (default/reviews-v2 v2) 200 - "
        "requests=7 mutual_tls\n"
    )
