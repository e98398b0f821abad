"""Sample meshes, shipped with the package."""

if __name__ != "ray_mesh.configs":
    raise ImportError("import ray_mesh.configs, not configs: the folder is linked into the package")
