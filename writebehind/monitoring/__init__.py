"""Figures for Prometheus: what the processes of this host have counted, and how the installation stands.

It may import the pipeline and all below, and is imported by processes that serve the page.
"""
