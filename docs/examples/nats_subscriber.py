"""Print who calls whom, live, with nothing but nats-py and msgpack.

    python nats_subscriber.py tls://127.0.0.1:4222 root.pem observer.seed --inbox _INBOX.observer.me

The three arguments are the broker's address, the mesh's root certificate, and the file with the
NKEY seed of an observer. docs/wire.md describes the subject and the payload.
"""

import argparse
import asyncio
import contextlib
import ssl
from pathlib import Path

import msgpack
import nats
from nats.aio.msg import Msg

SUBJECT = "mesh.v1.telemetry.*"
SCHEMA_MAJOR = 1


def print_edges(payload: bytes) -> None:
    """Print one line per edge of a TelemetryReport."""
    message = msgpack.unpackb(payload)
    if message["v"][0] != SCHEMA_MAJOR:
        print(f"schema version {message['v']} is not {SCHEMA_MAJOR}.x: this example is too old")
        return
    report = message["m"]
    for series in report["series"]:
        edge = series["edge"]
        if edge["reporter"] == "source":
            caller, callee = edge["source_workload"], edge["destination_workload"]
            print(
                f"{caller or 'unknown'} -> {edge['destination_service']} ({callee or 'nobody'} "
                f"{edge['destination_version']}) {edge['code']} {edge['flags']} "
                f"requests={series['requests']} {edge['security']}",
                flush=True,
            )


async def listen(url: str, root_file: str, seed: str, inbox: str) -> None:
    """Subscribe until interrupted."""

    async def receive(message: Msg) -> None:
        print_edges(message.data)

    connection = await nats.connect(
        url,
        tls=ssl.create_default_context(cafile=root_file),
        nkeys_seed_str=seed,
        inbox_prefix=inbox,
        max_reconnect_attempts=-1,
    )
    await connection.subscribe(SUBJECT, cb=receive)
    await connection.flush()
    print(f"listening on {SUBJECT}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Print who calls whom in a mesh.")
    parser.add_argument("url", help="the broker, tls://host:port")
    parser.add_argument("root_file", help="the mesh's root certificate, PEM")
    parser.add_argument("seed_file", type=Path, help="file with the NKEY seed of an observer")
    parser.add_argument("--inbox", default="_INBOX.observer.me", help="inbox prefix of the credential")
    options = parser.parse_args()
    seed = options.seed_file.read_text().strip()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(listen(options.url, options.root_file, seed, options.inbox))


if __name__ == "__main__":
    main()
