"""The roles of the mesh as Ray actors; all Ray lives here."""

if __name__ != "ray_mesh.actors":
    raise ImportError("import ray_mesh.actors, not actors: the folder is linked into the package")
