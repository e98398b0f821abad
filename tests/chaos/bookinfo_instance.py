"""One Bookinfo instance as a plain process: prints its port, is told its proxy on a line of its standard
input, and ends with that."""

from __future__ import annotations

import asyncio
import sys

from ray_mesh.demo.process import AppProcess


async def main(service: str, version: str) -> None:
    app = AppProcess(service, version)
    print(await app.start(), flush=True)
    await app.use_proxy((await asyncio.to_thread(sys.stdin.readline)).strip())
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
