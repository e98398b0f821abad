"""Exit codes of ``ray-mesh``: the same for every command and every ``-o``.

0    done
1    an error that is none of these
2    wrong usage of the command line
3    the object does not exist
4    not authenticated, or a policy denies it
5    the mesh, or a part of it, is unreachable or did not answer in time
65   a document or option is invalid, or a proxy refuses it
79   analysis found something at or above its failure threshold
80   `config explain`: such requests, or a share of them, would be refused
130  interrupted
"""

from __future__ import annotations

from ray_mesh.errors import ConfigError, MeshError, NotFound, PolicyDenied, Unauthenticated, Unavailable

ERROR = 1
USAGE = 2
FINDINGS = 79
REFUSED = 80
INTERRUPTED = 130

_CODES: tuple[tuple[type[MeshError], int], ...] = (
    (NotFound, 3),
    (Unauthenticated, 4),
    (PolicyDenied, 4),
    (Unavailable, 5),
    (ConfigError, 65),
)


def exit_code(error: MeshError) -> int:
    """The exit code for an error of the mesh."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ERROR)
