"""One Bookinfo instance as a plain process: prints its port, is told its proxy on a line of its standard
input, and ends with that. It is patient: a machine that starts five actors at once answers late."""

from __future__ import annotations

import asyncio
import sys

from ray_mesh.demo import productpage, reviews
from ray_mesh.demo.process import AppProcess

PATIENCE_S = 20.0


async def main(service: str, version: str) -> None:
    productpage.TIMEOUT_S = PATIENCE_S
    reviews.PATIENCE_S = dict.fromkeys(reviews.PATIENCE_S, PATIENCE_S)
    app = AppProcess(service, version)
    print(await app.start(), flush=True)
    await app.use_proxy((await asyncio.to_thread(sys.stdin.readline)).strip())
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
