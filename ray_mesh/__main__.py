"""``python -m ray_mesh`` is the ``ray-mesh`` command."""

from ray_mesh.cli.main import main

if __name__ == "__main__":
    main()
