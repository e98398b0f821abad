"""Bookinfo on the mesh: four small services, a load generator, and the command that shows them."""
