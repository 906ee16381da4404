"""RabbitMQ of compose's profile, with what the service `secrets` makes for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from amqp import AccessRefused, Connection

from tests.rabbitmq import RabbitMQ, needs_rabbitmq
from tests.tiers import long

ROOT = Path(__file__).parents[2]
pytestmark = [needs_rabbitmq, long]


def made(place: Path) -> Path:
    """The configuration of compose, with what the script makes in a directory."""
    names = {"KEYS": "keys", "REDIS_PASSWORDS": "redis", "MONGO_PASSWORDS": "mongo"}
    for one in names.values():
        (place / one).mkdir()
    environment = {variable: str(place / one) for variable, one in names.items()}
    environment |= {"RABBITMQ_PASSWORDS": str(place), "REDIS_URL": "", "BROKER_URL": "", "MONGODB_URL": ""}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", ROOT / "deploy/compose/secrets.sh"], env=os.environ | environment, check=True)
    config = place / "rabbitmq.conf"
    text = (ROOT / "deploy/compose/rabbitmq.conf").read_text("utf-8")
    config.write_text(text.replace("/password/", f"{place}/"), "utf-8")
    return config


def declare(server: RabbitMQ, user: str, password: str, **options: object) -> None:
    """Declare a queue as a user."""
    with Connection(f"127.0.0.1:{server.port}", user, password) as connection:
        connection.channel().queue_declare("flush", durable=True, auto_delete=False, **options)


@pytest.mark.parametrize("is_of_before", [False, True])
def test_a_stranger_has_no_password(tmp_path, is_of_before):
    """Its own user may all, in a volume of before too, whose queues stay; `guest` may not log in."""
    data, place = tmp_path / "data", tmp_path / "made"
    place.mkdir()
    config = made(place)
    password = (place / "password").read_text("utf-8")
    if is_of_before:
        with RabbitMQ(data) as before:
            declare(before, "guest", "guest")
    with RabbitMQ(data, config=config, user=f"writebehind:{password}") as server:
        declare(server, "writebehind", password, passive=is_of_before)
        for user, wrong in (("guest", "guest"), ("guest", ""), ("writebehind", "writebehind")):
            with pytest.raises(AccessRefused):
                declare(server, user, wrong)
