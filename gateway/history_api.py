"""The part of the API that looks back: history, differences, and the way back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ray_mesh.errors import ConfigError, NotFound
from ray_mesh.gateway import reading
from ray_mesh.gateway.access import answer
from ray_mesh.gateway.admission import Admission, key_of, load_all
from ray_mesh.gateway.desired import DesiredState
from ray_mesh.gateway.history import REGISTRATIONS, History, Revision, Version, parts_of, title
from ray_mesh.resources import Document, from_json

HISTORY_ROUTES = {
    ("GET", "/v1/history"): "revisions",
    ("GET", "/v1/history/{kind}/{namespace}/{name}"): "versions",
    ("GET", "/v1/diff"): "diff",
    ("GET", "/v1/diff/{kind}/{namespace}/{name}"): "diff_object",
    ("POST", "/v1/diff"): "diff_sources",
    ("POST", "/v1/rollback"): "rollback",
    ("POST", "/v1/rollback/{kind}/{namespace}/{name}"): "rollback_object",
}
"""Which method of :class:`HistoryApi` answers what."""

MOST_REVISIONS = 1000


class HistoryApi:
    """The handlers. Errors are raised as MeshError and answered by the middleware."""

    def __init__(self, history: History, admission: Admission, state: DesiredState) -> None:
        self._history = history
        self._admission = admission
        self._state = state

    async def versions(self, request: web.Request) -> web.Response:
        """The kept versions of one object that admission signed, oldest first."""
        found = await self._history.versions(self._key(request))
        return answer({"items": [_version(one) for one in found.items], "whole": found.is_whole})

    async def revisions(self, request: web.Request) -> web.Response:
        """The newest revisions of the mesh, oldest first."""
        limit = int(reading.number(request, "limit", MOST_REVISIONS, default=20.0))
        registrations = reading.flag(request, "registrations")
        await self._admission.refresh()
        found = await self._history.revisions(limit, registrations=registrations)
        return answer({"items": [_revision(one) for one in found], "revision": self._state.head})

    async def diff(self, request: web.Request) -> web.Response:
        """What is different in the mesh at two revisions, or between one and now."""
        await self._admission.refresh()
        return answer(await self._between(request, None))

    async def diff_object(self, request: web.Request) -> web.Response:
        """What is different in one object at two revisions, or between one and now."""
        await self._admission.refresh()
        return answer(await self._between(request, [self._key(request)]))

    async def diff_sources(self, request: web.Request) -> web.Response:
        """What applying documents would change; objects that they do not name are left alone."""
        documents = await load_all(await reading.sources(request))
        await self._admission.refresh()
        after = {one.key: one.json for one in documents}
        return answer({"items": _differences(self._live(after), after), "revision": self._state.head})

    async def rollback(self, request: web.Request) -> web.Response:
        """Make all objects what they were at a revision, as one set; attached workloads stay."""
        revision = _revision_of(request, "to")
        await self._admission.refresh()
        return answer(await self._restore(request, await self._history.at(revision), revision))

    async def rollback_object(self, request: web.Request) -> web.Response:
        """Make one object what it was at a revision, or before its last change."""
        await self._admission.refresh()
        key = self._key(request)
        if key.startswith(REGISTRATIONS):
            raise ConfigError(f"{title(key)} cannot be rolled back: workloads register by attaching")
        revision = _revision_of(request, "to") if "to" in request.query else await self._previous(key)
        return answer(await self._restore(request, await self._history.at(revision, [key]), revision))

    async def _previous(self, key: str) -> int:
        """The revision before the last change of an object."""
        found = await self._history.versions(key)
        if len(found.items) < 2:
            known = "is as it was first written" if found.is_whole else "has no older version that is kept"
            raise ConfigError(f"{title(key)} {known}: there is nothing to roll back to")
        return found.items[-2].revision

    async def _restore(
        self, request: web.Request, was: Mapping[str, Version | None], revision: int
    ) -> dict[str, Any]:
        live = self._live(was)
        documents = [
            _document(one) for key, one in was.items() if one is not None and one.document != live.get(key)
        ]
        outcome = await self._admission.write(
            documents,
            deletions=[key for key, one in was.items() if one is None],
            author=reading.author(request),
            comment=reading.comment(request) or f"rollback to revision {revision}",
            dry_run=reading.flag(request, "dry_run"),
        )
        return outcome.to_json()

    async def _between(self, request: web.Request, keys: list[str] | None) -> dict[str, Any]:
        first = _revision_of(request, "from")
        if "to" not in request.query:
            before = _documents(await self._history.at(first, keys))
            return _told(before, self._live(before), first, self._state.head)
        last = _revision_of(request, "to")
        keys = keys or list(await self._history.at(min(first, last)))
        before = _documents(await self._history.at(first, keys))
        return _told(before, _documents(await self._history.at(last, keys)), first, last)

    def _live(self, keys: Mapping[str, object]) -> dict[str, str]:
        records = self._state.records
        return {key: records[key].document.json for key in keys if key in records}

    def _key(self, request: web.Request) -> str:
        info = request.match_info
        return key_of(info["kind"], info["namespace"], info["name"], self._state.records)


def _told(before: Mapping[str, str], after: Mapping[str, str], first: int, last: int) -> dict[str, Any]:
    return {"items": _differences(before, after), "from": first, "to": last}


def _documents(versions: Mapping[str, Version | None]) -> dict[str, str]:
    return {key: "" if one is None else one.document for key, one in versions.items()}


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, Any]]:
    """Objects whose documents differ, by key; None where there is no object."""
    return [
        {**_named(key), "before": _manifest(before.get(key)), "after": _manifest(after.get(key))}
        for key in sorted({*before, *after})
        if (before.get(key) or "") != (after.get(key) or "")
    ]


def _manifest(document: str | None) -> Any:
    return json.loads(document) if document else None


def _named(key: str) -> dict[str, str]:
    kind, namespace, name = parts_of(key)
    return {"kind": kind, "namespace": namespace, "name": name}


def _version(version: Version) -> dict[str, Any]:
    return {
        "revision": version.revision,
        "at": version.at,
        "author": version.author,
        "set_id": version.set_id,
        "comment": version.comment,
        "manifest": version.manifest,
    }


def _revision(revision: Revision) -> dict[str, Any]:
    return {
        "revision": revision.revision,
        "at": revision.at,
        "author": revision.author,
        "comment": revision.comment,
        "changes": [
            {**_named(one.key), "action": "written" if one.document else "deleted"}
            for one in revision.changes
        ],
    }


def _document(version: Version) -> Document:
    """The document of a version, with the time at which it was first admitted.

    Raises:
        ConfigError: this build does not take it any more.
    """
    try:
        return from_json(version.document, version.admitted_at)
    except ConfigError as error:
        raise ConfigError(
            f"{title(version.key)} as it was at revision {version.revision} is not valid any more: {error}"
        ) from error


def _revision_of(request: web.Request, name: str) -> int:
    revision = reading.number(request, name, math.inf, default=None)
    if revision != int(revision):
        raise ConfigError(f"{name} is {revision}, expected a revision")
    if not revision:
        raise NotFound("there is no revision 0: the first is 1")
    return int(revision)
