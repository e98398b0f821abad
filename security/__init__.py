"""Identities, certificates, signatures and authorization; no sockets."""

if __name__ != "ray_mesh.security":
    raise ImportError("import ray_mesh.security, not security: the folder is linked into the package")
