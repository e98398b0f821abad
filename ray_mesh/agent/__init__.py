"""One proxy process without Ray: the data plane on its own thread, fed from NATS, with its identities.

``proxy.py`` wires the parts; ``thread.py`` owns the data loop; ``config.py`` brings signed compiled
resources from the broker to the data plane and knows what is applied; ``identity.py`` holds keys
and certificates; ``quota.py`` fetches rate-limit leases.
"""
