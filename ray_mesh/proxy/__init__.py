"""The data plane: carries every request of a node's workloads. It knows neither Ray nor NATS.

Words: *downstream* is who calls us, *upstream* whom we call. A *plane* (:mod:`.plane`) holds listeners.
Each listener has an *entry* that decides what may pass and where to: :mod:`.outbound` (calls of a
workload, on loopback), :mod:`.inbound` (calls to a workload, over mutual TLS), :mod:`.ingress` (calls
from outside the mesh). An entry ends each request with a reply of its own or with
:func:`.pipeline.forward`, which takes an endpoint of a *cluster*, a connection of its *pool*, and
retries where that is safe.

What decides is pure and synchronous (``hosts``, ``path``, ``match``, ``balance``, ``fault``, ``head``,
``body``, ``cluster``, ``pool``, ``trace``). What has effects is ``listener``, ``tls``, ``connector``,
``http1_server`` (downstream) and ``http1_client`` (upstream). ``pipeline`` is the request between them
and knows no version of HTTP.

Nothing on the way of a request may create a task, a future or a timer, or write a log line.
"""
