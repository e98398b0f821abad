"""The Gateway API (gateway.networking.k8s.io): Gateway, its routes, and ReferenceGrant.

Models have the fields of v1, those of the experimental channel too, and the rules of its CRDs. What this
build does not honour is refused by name, as everywhere.
"""

from ray_mesh.resources.gateway_api.connection_routes import TcpRouteSpec, TlsRouteSpec
from ray_mesh.resources.gateway_api.gateway import ApiGatewaySpec
from ray_mesh.resources.gateway_api.grpc_route import GrpcRouteSpec
from ray_mesh.resources.gateway_api.http_route import HttpRouteSpec
from ray_mesh.resources.gateway_api.names import GROUP
from ray_mesh.resources.gateway_api.reference_grant import ReferenceGrantSpec

__all__ = [
    "GROUP",
    "ApiGatewaySpec",
    "GrpcRouteSpec",
    "HttpRouteSpec",
    "ReferenceGrantSpec",
    "TcpRouteSpec",
    "TlsRouteSpec",
]
