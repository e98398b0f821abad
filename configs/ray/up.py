"""Start the mesh on the head that this runs on: ``ray submit cluster.yaml up.py --replicas 2``.

It takes the options of ``ray-mesh up``, returns when the mesh serves, and needs nothing but the
installed package, since ``ray submit`` copies this one file.
"""

from __future__ import annotations

import sys

from ray_mesh.cli.main import run

if __name__ == "__main__":
    sys.exit(run(["up", "--address", "auto", *sys.argv[1:]]))
