"""What the API is called depends on where it listens, and so does whether it has TLS."""

from __future__ import annotations

import pytest

from ray_mesh.errors import ConfigError, PolicyDenied
from ray_mesh.gateway.access import check_host
from ray_mesh.gateway.listening import ApiAddress


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (ApiAddress(), "http://127.0.0.1:7443"),
        (ApiAddress("127.0.0.3"), "http://127.0.0.3:7443"),
        (ApiAddress("::1"), "http://[::1]:7443"),
        (ApiAddress("192.0.2.5"), "https://192.0.2.5:7443"),
        (ApiAddress("2001:db8::5"), "https://[2001:db8::5]:7443"),
        (ApiAddress("0.0.0.0", ("192.0.2.5", "mesh.example")), "https://192.0.2.5:7443"),
        (ApiAddress("0.0.0.0"), "https://127.0.0.1:7443"),
    ],
)
def test_urls(address: ApiAddress, url: str) -> None:
    assert address.url(7443) == url
    check_host(url.partition("//")[2], 7443, address.called())


def test_names_are_in_the_certificate_and_in_the_host_check() -> None:
    address = ApiAddress("0.0.0.0", ("192.0.2.5", "mesh.example"))
    assert address.subjects() == (["localhost", "mesh.example"], ["127.0.0.1", "::1", "192.0.2.5"])
    check_host("mesh.example:7443", 7443, address.called())
    with pytest.raises(PolicyDenied, match=r"evil\.example"):
        check_host("evil.example:7443", 7443, address.called())
    with pytest.raises(PolicyDenied):
        check_host("0.0.0.0:7443", 7443, address.called())


@pytest.mark.parametrize(
    ("host", "names"),
    [("localhost", ()), ("", ()), ("0.0.0.0", ("a b",)), ("0.0.0.0", ("-x",)), ("1.2.3", ())],
)
def test_what_cannot_be_an_address_or_a_name_is_refused(host: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"cannot (listen|be called)"):
        ApiAddress(host, names)
