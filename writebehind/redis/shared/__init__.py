"""The parts of `redis` for what processes share and what is of no document: figures, leases, the breaker."""
