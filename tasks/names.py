"""Task and queue names: explicit, so that moving a file never strands a message."""

FLUSH = "writebehind.flush"
SWEEP = "writebehind.sweep"
REFRESH = "writebehind.refresh"
RECONCILE = "writebehind.reconcile"
DECAY = "writebehind.decay"
WARM = "writebehind.warm"

#: Flushing has a queue of its own, so that maintenance never delays a flush.
FLUSH_QUEUE = "flush"
#: So has what readers are waiting for, in a way: nobody does, but what they are served is stale.
REFRESH_QUEUE = "refresh"
MAINTENANCE_QUEUE = "maintenance"
#: Tasks of the maintenance queue that may take long. Each is done once at a time, and a second one ends at once.
#: So it is with the audit of a sweep: a worker with two threads more than these has one for the next sweep.
LONG_TASKS = (RECONCILE, WARM)
