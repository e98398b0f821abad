"""The Gateway API, compiled to the same routes, gateways and services as the Istio API.

``attachment`` says which routes belong to which listeners and services, ``backends`` where they may send
to, ``http_routes`` and ``connections`` make the routes, ``listeners`` and ``mesh_routes`` put them into
what a gateway and a service are compiled to. ``terms`` and ``changes`` are its part of the index.
"""
