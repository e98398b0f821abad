"""The API of the mesh (REST, metrics) on aiohttp."""

if __name__ != "ray_mesh.gateway":
    raise ImportError("import ray_mesh.gateway, not gateway: the folder is linked into the package")
