"""Cross-origin requests (https://fetch.spec.whatwg.org/#http-cors-protocol), as Envoy's filter meets them."""

from __future__ import annotations

from ray_mesh.proxy.change import Edit, edit_of
from ray_mesh.proxy.match import Matchable, text_test
from ray_mesh.proxy.replies import Reply
from ray_mesh.snapshot import Cors, HeaderChanges

_ANY = "*"


class CrossOrigin:
    """The policy of one route."""

    def __init__(self, policy: Cors) -> None:
        self._policy = policy
        self._allows_all = any(one.value == _ANY and one.kind == "exact" for one in policy.origins)
        self._tests = [text_test(one) for one in policy.origins]
        self._granted = (("access-control-allow-credentials", "true"),) if policy.allows_credentials else ()
        exposed = (("access-control-expose-headers", policy.expose_headers),) if policy.expose_headers else ()
        edit = edit_of(HeaderChanges(("access-control-allow-origin",), self._granted + exposed))
        assert edit is not None
        self._edit = edit

    def meet(self, request: Matchable) -> Reply | Edit | None:
        """The answer of a preflight, what to change of the response, or None for any other request."""
        origin = request.header(b"origin")
        if not origin:
            return None
        asks = request.method == b"OPTIONS" and bool(request.header(b"access-control-request-method"))
        if not self._allows_all and not any(test(origin) for test in self._tests):
            return _preflight({}) if asks and not self._policy.forwards_unmatched else None
        if asks:
            policy = self._policy
            fields = {
                "access-control-allow-methods": self._listed(policy.allow_methods, request, "method"),
                "access-control-allow-headers": self._listed(policy.allow_headers, request, "headers"),
                "access-control-max-age": policy.max_age,
            }
            origin_field = {"access-control-allow-origin": origin.decode("latin-1")}
            return _preflight(origin_field | dict(self._granted) | fields)
        edit, line = self._edit, b"access-control-allow-origin: %b\r\n" % origin
        return lambda block: edit(block) + line

    def _listed(self, said: str, request: Matchable, asked: str) -> str:
        """Browsers do not take * for an answer when there are credentials."""
        if said != _ANY or not self._policy.repeats_asked:
            return said
        value = request.header(f"access-control-request-{asked}".encode())
        return value.decode("latin-1") if value is not None else ""


def _preflight(fields: dict[str, str]) -> Reply:
    lines = tuple(f"{name}: {value}" for name, value in fields.items() if value)
    return Reply(200, "", "preflight", "the answer of a preflight", lines, content=b"")
