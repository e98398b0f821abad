"""Why a request goes where it goes: which document and line decided each step of it.

Pure, and no second implementation: documents are compiled as RoutingActors compile them, and the proxy's
own decisions (:mod:`ray_mesh.proxy`) are asked one by one, so the answer is that of the data plane.
:func:`.explaining.explain` answers a :class:`.question.Question` in a world; what it answers
(:mod:`.answer`) is plain values that travel as JSON.
"""
