"""Settings of servers: Redis, MongoDB and the broker."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, Field, model_validator

from writebehind.settings.names import fault_of_database
from writebehind.settings.urls import (
    AMQP_SCHEMES,
    celery_brokers,
    celery_redis,
    check_broker,
    check_mongodb,
    check_redis,
)


class Servers(BaseModel):
    """The servers that an installation uses."""

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        repr=False,
        description="the Redis or Valkey server that holds pending and cached documents; or a cluster, "
        "`redis+cluster://host,host`, or what Sentinels watch, `redis+sentinel://host,host/service/0`, or "
        "servers that share the partitions, `a=redis://host/0;b=redis://host/0`",
    )
    mongodb_url: str = Field(
        "mongodb://127.0.0.1:27017/",
        validation_alias=AliasChoices("MONGODB_URL", "mongodb_url"),
        repr=False,
        description="the MongoDB deployment that documents are persisted to",
    )
    mongodb_database: str = Field(
        "writebehind",
        validation_alias=AliasChoices("MONGODB_DATABASE", "mongodb_database"),
        description="the database in it, to which Redis belongs once there is data",
    )
    broker_url: str = Field(
        "",
        validation_alias=AliasChoices("BROKER_URL", "broker_url"),
        repr=False,
        description="Celery's broker; the Redis server above unless set, of several with names the first",
    )
    broker_queue_type: Literal["quorum", "classic"] = Field(
        "quorum",
        description="type of the queues on RabbitMQ; `classic` for an application whose own tasks need it, or "
        "queues that are there already",
    )
    celery: dict[str, Any] = Field(
        {},
        description="settings of Celery's workers and connections, by their names in Celery's documentation, "
        'such as `{"worker_prefetch_multiplier": 2}`; none that flush tasks depend on',
    )

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        check_redis("REDIS_URL", self.redis_url)
        check_mongodb("MONGODB_URL", self.mongodb_url)
        if self.broker_url:
            check_broker("BROKER_URL", self.broker_url)
        if fault := fault_of_database(self.mongodb_database):
            raise ValueError(f"MONGODB_DATABASE {fault}")
        return self

    @property
    def broker(self) -> str:
        """The URL of Celery's broker, as Celery takes it."""
        return celery_brokers(self.broker_url) if self.broker_url else celery_redis(self.redis_url)

    @property
    def is_broker_rabbitmq(self) -> bool:
        """Whether the broker speaks AMQP."""
        return self.broker_url.startswith(AMQP_SCHEMES)
