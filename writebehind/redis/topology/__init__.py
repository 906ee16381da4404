"""Servers of Redis that commands go to: one, the nodes of a Redis Cluster, or several of their own."""
