"""A proxy beside any program, outside Ray: ``ray-mesh sidecar``.

The proxy is the one of :mod:`ray_mesh.agent`. Ray is not imported, and no Ray needs to run on the machine.
"""
