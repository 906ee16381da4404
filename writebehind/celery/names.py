"""Names of tasks and queues: explicit, so that moving a file never strands a message."""

from writebehind.settings.names import FLUSH_QUEUE, MAINTENANCE_QUEUE, QUEUES, REFRESH_QUEUE

__all__ = [
    "DECAY",
    "FLUSH",
    "FLUSH_QUEUE",
    "LONG_TASKS",
    "MAINTENANCE_QUEUE",
    "PING",
    "PING_QUEUES",
    "QUEUES",
    "RECONCILE",
    "REFRESH",
    "REFRESH_QUEUE",
    "SWEEP",
    "TASKS",
    "WARM",
]

FLUSH = "writebehind.flush"
SWEEP = "writebehind.sweep"
REFRESH = "writebehind.refresh"
RECONCILE = "writebehind.reconcile"
DECAY = "writebehind.decay"
WARM = "writebehind.warm"
#: Of a worker to itself: see `writebehind.celery.pings`.
PING = "writebehind.ping"
TASKS = (FLUSH, SWEEP, REFRESH, RECONCILE, DECAY, WARM, PING)
#: The beginning of the names of queues that one worker alone consumes.
PING_QUEUES = "writebehind.ping"

#: Tasks of the maintenance queue that may take long. Each is done once at a time, and a second one ends at once.
#: So it is with the audit of a sweep: a worker with two threads more than these has one for the next sweep.
LONG_TASKS = (RECONCILE, WARM)
