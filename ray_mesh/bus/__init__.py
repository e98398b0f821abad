"""Everything that travels on NATS: subjects, messages, permissions, client, server, stores."""
