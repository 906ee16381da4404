"""Task and queue names: explicit, so that moving a file never strands a message."""

FLUSH = "writebehind.flush"
SWEEP = "writebehind.sweep"

#: Flushing has a queue of its own, so that maintenance never delays a flush.
FLUSH_QUEUE = "flush"
MAINTENANCE_QUEUE = "maintenance"
