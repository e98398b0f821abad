"""``ray-mesh check``: what a machine and a mesh need, looked at one by one, with what to do about it."""
