"""Join tokens of a running mesh: one sidecar each, also under fifty tries at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from mesh_site import Site, eventually

from ray_mesh.agent.proxy import ProxyKeys
from ray_mesh.errors import Conflict, MeshError, PolicyDenied, Unauthenticated
from ray_mesh.sidecar.joining import Joined, Session, join

ACCOUNT = "default/default"


async def leave(api: str, joined: Joined) -> None:
    session = Session(api, joined.session)
    try:
        await session.leave()
    finally:
        await session.close()


async def test_fifty_redemptions_at_once_admit_exactly_one(site: Site) -> None:
    api = site.running.state.api
    token = await asyncio.to_thread(site.mesh.create_token, ACCOUNT)
    tries = (join(api, token, ACCOUNT, f"sidecar-try-{n}", ProxyKeys()) for n in range(50))
    results = await asyncio.gather(*tries, return_exceptions=True)
    admitted = [one for one in results if isinstance(one, Joined)]
    refused = [one for one in results if isinstance(one, PolicyDenied) and "used already" in str(one)]
    assert (len(admitted), len(refused)) == (1, 49), results
    await leave(api, admitted[0])
    with pytest.raises(Unauthenticated, match="knows no such sidecar"):
        await leave(api, admitted[0])


async def attempt(site: Site, token: str, account: str = ACCOUNT) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await join(site.running.state.api, token, account, "sidecar-attempt", ProxyKeys())
    return caught.value


async def test_an_expired_token_is_refused(site: Site) -> None:
    token = await asyncio.to_thread(lambda: site.mesh.create_token(ACCOUNT, ttl_s=1))
    ends_at = time.time() + 1.0
    await asyncio.to_thread(eventually, lambda: time.time() > ends_at)
    error = await attempt(site, token)
    assert isinstance(error, PolicyDenied)
    assert "expired" in str(error)


async def test_a_token_of_another_account_is_refused_and_used_up(site: Site) -> None:
    token = await asyncio.to_thread(site.mesh.create_token, ACCOUNT)
    error = await attempt(site, token, "default/bookinfo-reviews")
    assert isinstance(error, PolicyDenied)
    assert "is for service account default/default, not default/bookinfo-reviews" in str(error)
    assert "used already" in str(await attempt(site, token))


async def test_the_admin_token_and_a_guess_join_nothing(site: Site) -> None:
    for token in (site.running.state.token, "guess"):
        assert isinstance(await attempt(site, token), Unauthenticated)


async def test_a_join_token_and_a_session_are_no_admin_tokens(site: Site) -> None:
    from ray_mesh.sdk.transport import Transport

    api = site.running.state.api
    token = await asyncio.to_thread(site.mesh.create_token, ACCOUNT)
    joined = await join(api, token, ACCOUNT, "sidecar-plain", ProxyKeys())
    for secret in (token, joined.session):
        transport = Transport(api, secret, "test", 10.0)
        for method, path in (("GET", "/v1/resources"), ("POST", "/v1/tokens"), ("POST", "/v1/workloads")):
            with pytest.raises(Unauthenticated):
                await transport.send(method, path, body={})
        await transport.close()
    await leave(api, joined)


async def test_the_node_of_a_live_sidecar_and_keys_of_others_are_refused(site: Site) -> None:
    api, keys = site.running.state.api, ProxyKeys()
    tokens = [await asyncio.to_thread(site.mesh.create_token, ACCOUNT) for _ in range(3)]
    joined = await join(api, tokens[0], ACCOUNT, "sidecar-one", keys)
    with pytest.raises(Conflict, match="is taken by the sidecar"):
        await join(api, tokens[1], ACCOUNT, "sidecar-one", ProxyKeys())
    with pytest.raises(MeshError, match="keys of its own"):
        await join(api, tokens[2], ACCOUNT, "sidecar-two", keys)
    await leave(api, joined)


async def test_a_token_is_stored_nowhere(site: Site) -> None:
    token = await asyncio.to_thread(site.mesh.create_token, ACCOUNT)
    inventory = Path(site.running.state.state_dir) / "actors.json"
    assert token not in inventory.read_text()
