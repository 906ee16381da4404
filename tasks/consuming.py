"""Consumer of a worker on RabbitMQ: no queues are declared for delays in whole seconds."""

from __future__ import annotations

from celery.worker.consumer import Consumer as CelerysConsumer
from celery.worker.consumer.delayed_delivery import DelayedDelivery

_DELAYED = f"{DelayedDelivery.__module__}:{DelayedDelivery.__name__}"


class Consumer(CelerysConsumer):  # type: ignore[misc]  # Celery has no types
    """Consumer of messages that say by a header how long they wait: without 57 queues and exchanges."""

    class Blueprint(CelerysConsumer.Blueprint):  # type: ignore[misc]  # as above
        """Steps of its start."""

        default_steps = tuple(one for one in CelerysConsumer.Blueprint.default_steps if one != _DELAYED)
