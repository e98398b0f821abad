"""The ingress is named by the address that the proxies of its node listen on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_mesh.errors import Unavailable
from ray_mesh.launch import _ingress_urls
from ray_mesh.sdk.answers import Proxy

HEAD = Proxy("p1", "head", "HEALTHY", "0", "SYNCED", "", {}, (), "192.0.2.1", 7443, 1, 0.0)
OTHER = replace(HEAD, proxy="p2", node="other", address="192.0.2.2")


def test_the_address_is_that_of_the_node_of_the_ingress() -> None:
    urls = _ingress_urls([OTHER, HEAD], "head", {"8080": 31000, "8443": 31001})
    assert urls == {"8080": "http://192.0.2.1:31000", "8443": "http://192.0.2.1:31001"}


def test_an_ipv6_address_is_in_brackets() -> None:
    assert _ingress_urls([replace(HEAD, address="2001:db8::1")], "head", {"8080": 1}) == {
        "8080": "http://[2001:db8::1]:1"
    }


def test_a_node_without_proxies_is_told() -> None:
    with pytest.raises(Unavailable, match="node head has no live proxy"):
        _ingress_urls([OTHER], "head", {"8080": 1})
