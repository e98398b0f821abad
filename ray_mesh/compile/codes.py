"""The codes of findings: what each is called, and why it is told.

Names of ``ISTnnnn`` are Istio's. docs/analysis.md lists all of Istio's, with those that mean nothing here.
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A name, and in one sentence why it matters."""

    name: str
    why: str


DEPRECATED = "IST0002"
NOT_FOUND = "IST0101"
SCHEMA_ERROR = "IST0106"
MISPLACED_ANNOTATION = "IST0107"
UNKNOWN_ANNOTATION = "IST0108"
CONFLICTING_HOSTS = "IST0109"
CONFLICTING_SIDECARS = "IST0110"
SIDECARS_WITHOUT_SELECTOR = "IST0111"
PORT_REQUIRED = "IST0112"
PORT_NAME = "IST0118"
INVALID_ANNOTATION = "IST0125"
SELECTS_NOTHING = "IST0127"
NO_VERIFICATION = "IST0128"
NO_VERIFICATION_OF_PORT = "IST0129"
UNREACHABLE_RULE = "IST0130"
INEFFECTIVE_MATCH = "IST0131"
HOST_NOT_IN_GATEWAY = "IST0132"
SCHEMA_WARNING = "IST0133"
ADDRESSES_REQUIRED = "IST0134"
DEPRECATED_ANNOTATION = "IST0135"
DUPLICATE_CERTIFICATE = "IST0138"
SUBSET_NOT_AT_INGRESS = "IST0140"
CONFLICTING_GATEWAYS = "IST0145"
CLAIMS_WITHOUT_AUTHENTICATION = "IST0149"
EXTERNAL_NAME_PORT = "IST0150"
TELEMETRY_WITHOUT_PROVIDER = "IST0157"
CONFLICTING_TELEMETRIES = "IST0159"
TELEMETRIES_WITHOUT_SELECTOR = "IST0160"
INVALID_CREDENTIAL = "IST0161"
PORT_NOT_EXPOSED = "IST0162"
INTERNAL_GATEWAY = "IST0165"
INEFFECTIVE_SELECTOR = "IST0166"
EMPTY_SUBSET = "IST0173"
RULE_WITHOUT_SERVICE = "IST0174"
CONFLICTING_PROTOCOLS = "IST0177"

TWICE_IN_SET = "RM0001"
STILL_USED = "RM0002"
NOTHING_TO_DELETE = "RM0003"
UNBOUND_WORKLOAD = "RM0101"
ROUTES_MERGED = "RM0102"
RULES_MERGED = "RM0103"
UNEVEN_WEIGHTS = "RM0104"
FAULT_NEVER_INJECTED = "RM0105"
ROUTES_WITHOUT_SERVICE = "RM0106"
FOREIGN_PRINCIPAL = "RM0109"
MESH_CONFIG = "RM0110"
HOST_TAKEN = "RM0111"
ENDPOINT_UNFIT = "RM0112"
NO_PROXY = "RM0113"
TLS_NOT_HONOURED = "RM0114"
UNSELECTED_ENTRY = "RM0115"
DELEGATE_CONFLICT = "RM0116"
DELEGATE_UNUSED = "RM0117"
PORT_CONFLICT = "RM0118"
HEADER_BEFORE_HTTP = "RM0119"
VERSIONS_DIFFER = "RM0120"
RETRIES_NOTHING = "RM0130"
NOT_GRANTED = "RM0141"
ROUTE_DETACHED = "RM0142"
ROUTES_OVERRIDDEN = "RM0143"
NO_BACKEND = "RM0144"
NOT_HONOURED = "RM0201"
REFUSED_KIND = "RM0202"
SKIPPED_KIND = "RM0203"
BAD_SUPPRESSION = "RM0204"
NOT_THE_ROOT = "RM0205"

CODES: dict[str, Code] = {
    DEPRECATED: Code("Deprecated", "a later version of the API may not have it any more"),
    NOT_FOUND: Code("ReferencedResourceNotFound", "what refers to it cannot do what it says"),
    SCHEMA_ERROR: Code("SchemaValidationError", "the document is refused, and nothing of it is in force"),
    MISPLACED_ANNOTATION: Code("MisplacedAnnotation", "on this kind of object nobody reads it"),
    UNKNOWN_ANNOTATION: Code("UnknownAnnotation", "nobody reads it: it may be misspelled"),
    CONFLICTING_HOSTS: Code(
        "ConflictingMeshGatewayVirtualServiceHosts",
        "Istio keeps the oldest and ignores the others; this mesh merges their rules, the oldest first, so "
        "that which rule decides depends on their ages",
    ),
    CONFLICTING_SIDECARS: Code(
        "ConflictingSidecarWorkloadSelectors", "only one Sidecar can hold for a workload"
    ),
    SIDECARS_WITHOUT_SELECTOR: Code(
        "MultipleSidecarsWithoutWorkloadSelectors", "only one Sidecar can be the default of a namespace"
    ),
    PORT_REQUIRED: Code(
        "VirtualServiceDestinationPortSelectorRequired", "the caller's port need not be the one that is meant"
    ),
    PORT_NAME: Code(
        "PortNameIsNotUnderNamingConvention",
        "the name does not say what the port speaks, so the first bytes of each connection have to",
    ),
    INVALID_ANNOTATION: Code("InvalidAnnotation", "a value that cannot be read has no effect"),
    SELECTS_NOTHING: Code("NoMatchingWorkloadsFound", "it holds for nothing that is known here"),
    NO_VERIFICATION: Code(
        "NoServerCertificateVerificationDestinationLevel", "without authorities any certificate is believed"
    ),
    NO_VERIFICATION_OF_PORT: Code(
        "NoServerCertificateVerificationPortLevel", "without authorities any certificate is believed"
    ),
    UNREACHABLE_RULE: Code("VirtualServiceUnreachableRule", "a rule above takes everything that it matches"),
    INEFFECTIVE_MATCH: Code(
        "VirtualServiceIneffectiveMatch", "a match above takes everything that this one does"
    ),
    HOST_NOT_IN_GATEWAY: Code(
        "VirtualServiceHostNotFoundInGateway", "requests for it are answered with 404 by the gateway"
    ),
    SCHEMA_WARNING: Code("SchemaWarning", "it is valid, and hardly what was meant"),
    ADDRESSES_REQUIRED: Code(
        "ServiceEntryAddressesRequired",
        "Istio binds a TCP port without addresses everywhere, where it collides with others of its number; "
        "in this mesh callers name the host, so it matters only for files that go to Istio too",
    ),
    DEPRECATED_ANNOTATION: Code("DeprecatedAnnotation", "a later version of Istio may not read it any more"),
    DUPLICATE_CERTIFICATE: Code(
        "GatewayDuplicateCertificate",
        "a client that re-uses an HTTP/2 connection for the other host gets 404",
    ),
    SUBSET_NOT_AT_INGRESS: Code(
        "IngressRouteRulesNotAffected", "the rules of the mesh hold for callers inside, not for the gateway"
    ),
    CONFLICTING_GATEWAYS: Code(
        "ConflictingGateways", "two Gateways claim the same host on the same port of the same ingress"
    ),
    CLAIMS_WITHOUT_AUTHENTICATION: Code(
        "JwtClaimBasedRoutingWithoutRequestAuthN",
        "without it no claim is verified, so the route never matches",
    ),
    EXTERNAL_NAME_PORT: Code(
        "ExternalNameServiceTypeInvalidPortName", "a port of TCP would take traffic of other hosts too"
    ),
    TELEMETRY_WITHOUT_PROVIDER: Code(
        "InvalidTelemetryProvider", "without a provider it says nothing to anybody"
    ),
    CONFLICTING_TELEMETRIES: Code(
        "ConflictingTelemetryWorkloadSelectors", "only one Telemetry can hold for a workload"
    ),
    TELEMETRIES_WITHOUT_SELECTOR: Code(
        "MultipleTelemetriesWithoutWorkloadSelectors", "only one Telemetry can be the default of a namespace"
    ),
    INVALID_CREDENTIAL: Code("InvalidGatewayCredential", "no TLS connection can be made with it"),
    PORT_NOT_EXPOSED: Code("GatewayPortNotDefinedOnService", "nobody can reach a port that is not exposed"),
    INTERNAL_GATEWAY: Code(
        "ReferencedInternalGateway", "such Gateways are made and changed by the implementation"
    ),
    INEFFECTIVE_SELECTOR: Code(
        "IneffectiveSelector", "policies attach to Gateway API gateways by targetRefs"
    ),
    EMPTY_SUBSET: Code("DestinationRuleSubsetNotSelectPods", "requests for the subset are answered with 503"),
    RULE_WITHOUT_SERVICE: Code("UnknownDestinationRuleHost", "the rule holds for nothing"),
    CONFLICTING_PROTOCOLS: Code(
        "ConflictingServiceEntryProtocol", "which protocol counts depends on which one is older"
    ),
    TWICE_IN_SET: Code("TwiceInSet", "which one is meant cannot be known"),
    STILL_USED: Code("StillUsed", "what uses it would break"),
    NOTHING_TO_DELETE: Code("NothingToDelete", "the name may be misspelled"),
    UNBOUND_WORKLOAD: Code("UnboundWorkload", "identities are given only where an administrator allows it"),
    ROUTES_MERGED: Code("RoutesMerged", "which rule decides depends on the ages of the documents"),
    RULES_MERGED: Code("RulesMerged", "which policy decides depends on the ages of the documents"),
    UNEVEN_WEIGHTS: Code("UnevenWeights", "a weight may have been forgotten"),
    FAULT_NEVER_INJECTED: Code("FaultNeverInjected", "without a percentage it happens to no request"),
    ROUTES_WITHOUT_SERVICE: Code("RoutesWithoutService", "nobody can call the host"),
    FOREIGN_PRINCIPAL: Code("ForeignPrincipal", "no caller of this mesh has such an identity"),
    MESH_CONFIG: Code("MeshConfig", "the mesh has one MeshConfig, and one trust domain for life"),
    HOST_TAKEN: Code("HostTaken", "traffic for a host must not be taken over by another document"),
    ENDPOINT_UNFIT: Code("EndpointUnfit", "calls would go around the policies of the mesh"),
    NO_PROXY: Code("NoProxy", "mutual TLS needs a proxy at both ends"),
    TLS_NOT_HONOURED: Code("TlsNotHonoured", "endpoints of the host cannot have this TLS mode"),
    UNSELECTED_ENTRY: Code("UnselectedEntry", "nobody can call it, as no host leads to it"),
    DELEGATE_CONFLICT: Code("DelegateConflict", "the rule would hold for nothing"),
    DELEGATE_UNUSED: Code("DelegateUnused", "its routes hold for nothing"),
    PORT_CONFLICT: Code("PortConflict", "one port speaks one protocol"),
    HEADER_BEFORE_HTTP: Code("HeaderBeforeHttp", "the PROXY protocol is for connections, not for requests"),
    VERSIONS_DIFFER: Code(
        "VersionsDiffer", "what an application does not speak cannot reach it, and it has one port"
    ),
    RETRIES_NOTHING: Code("RetriesNothing", "such a condition is never met"),
    NOT_GRANTED: Code("NotGranted", "a namespace is referred to only where it allows that"),
    ROUTE_DETACHED: Code("RouteDetached", "it holds for nothing, or not for all that it says"),
    ROUTES_OVERRIDDEN: Code("RoutesOverridden", "of two kinds of rules for one host the closer one decides"),
    NO_BACKEND: Code("NoBackend", "requests that it matches are answered 500"),
    NOT_HONOURED: Code(
        "NotHonoured", "it is valid, but this build does not enforce it, so admission refuses it"
    ),
    REFUSED_KIND: Code("RefusedKind", "nothing in this mesh can do what it says, so admission refuses it"),
    SKIPPED_KIND: Code("SkippedKind", "it is no configuration of a mesh"),
    BAD_SUPPRESSION: Code("BadSuppression", "a suppression holds only with a reason, and until it expires"),
    NOT_THE_ROOT: Code(
        "NotTheRootNamespace", "in Istio istio-system holds what is for the whole mesh; here mesh-system does"
    ),
}
