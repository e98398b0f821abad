"""Measuring: series, histograms, merging and export. Pure: no sockets, no NATS, no Ray."""
