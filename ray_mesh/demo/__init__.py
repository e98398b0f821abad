"""Bookinfo on the mesh: five small services, a load generator, and the command that shows them."""
