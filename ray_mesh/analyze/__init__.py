"""Analysis: what is wrong with documents, alone and together, before they are applied and after.

Pure functions over :class:`~ray_mesh.compile.World`; needs no running mesh.
"""

from ray_mesh.analyze.report import Report, analyze_files, analyze_mesh, to_json

__all__ = ["Report", "analyze_files", "analyze_mesh", "to_json"]
