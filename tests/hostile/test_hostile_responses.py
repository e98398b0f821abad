"""Every hostile response over real sockets: the client gets a 502 or a broken connection."""

from __future__ import annotations

import asyncio

from hostile_responses import ALLOWED, RESPONSES
from proxy_mesh import DEADLINE_S, Client, Mesh, mesh, request_bytes  # noqa: F401

# ruff: noqa: F811

AT_ONCE = 32


class Application:
    """Answers a request for ``/N`` with response N, and remembers connections that were used again."""

    def __init__(self) -> None:
        self.responses = [*RESPONSES, *ALLOWED]
        self.used_again: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See :class:`proxy_mesh.App`."""
        number = int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1][1:])
        writer.write(self.responses[number])
        if number < len(RESPONSES):
            if self.ends_early(number):
                writer.write_eof()
            if await reader.read():
                self.used_again.append(number)

    def ends_early(self, number: int) -> bool:
        """Whether the response is one that the end of the connection cuts off."""
        response = self.responses[number]
        return len(response) < 200 and not response.endswith((b"forged", b"ok"))


async def play(number: int, port: int) -> str:
    """Ask for a response; what was wrong, or nothing."""
    client = await Client.connect(port)
    try:
        await client.send(request_bytes("GET", f"/{number}", "reviews"))
        answer = await client.answer()
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return "" if number < len(RESPONSES) else "it was cut off"
    except TimeoutError:
        return "no answer"
    finally:
        await client.close()
    if number >= len(RESPONSES):
        right = (200, list(ALLOWED.values())[number - len(RESPONSES)])
        return "" if (answer.status, answer.body) == right else f"{answer.status} {answer.body!r}"
    flag = answer.field("x-mesh-flag")
    if (answer.status, flag) == (502, "UPE") or (answer.status, flag) == (503, "UC"):
        return ""
    return f"{answer.raw!r} {answer.body!r}"


async def test_hostile_responses_do_not_reach_clients(mesh: Mesh) -> None:
    application = Application()
    port, _ = await mesh.pair(application.serve)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        async with places:
            return await play(number, port)

    async with asyncio.timeout(DEADLINE_S * 6):
        results = await asyncio.gather(*map(one, range(len(application.responses))))
    wrong = [
        f"{application.responses[number][:160]!r}\n  {result}"
        for number, result in enumerate(results)
        if result
    ]
    wrong += [f"used again after {application.responses[each][:160]!r}" for each in application.used_again]
    assert not wrong, "\n".join(wrong)
