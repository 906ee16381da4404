"""Into a Celery application: tasks, queues, schedule, worker hooks. Imports `pipeline` and `operations`.

from celery import Celery
from writebehind.celery import install

app = Celery("shop", broker="redis://127.0.0.1:6379/0")
install(app)
"""

from writebehind.celery.installation import install
from writebehind.celery.publisher import FlushPublisher
from writebehind.celery.runtime import Runtime

__all__ = ["FlushPublisher", "Runtime", "install"]
