"""The ``ray-mesh`` command."""
