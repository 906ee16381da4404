"""The least rights of users of Redis, held against what the source sends."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from writebehind import load_settings
from writebehind.operations.acl import users
from writebehind.redis import acl
from writebehind.redis.scripts import steps

PACKAGE = Path(acl.__file__).parents[1]
#: Commands of which a part is permitted alone.
CONTAINERS = {"CLIENT", "CLUSTER", "COMMAND", "CONFIG", "MEMORY", "SCRIPT", "SENTINEL"}
#: Words at the place of a command that are none: methods of HTTP, answers of Redis, and names of our own.
OTHERS = {"ANY", "BUSY", "CLUSTERDOWN", "DECAY", "DELETE", "FLUSH", "HEAD", "LOADING", "PATCH", "PATH", "POST"}
OTHERS |= {"PUT", "WRONGTYPE", "LOAD", "TARGET", "NOREPLICAS"}
#: What redis-py and kombu send by themselves.
BY_CLIENTS = {"client|setinfo", "client|setname", "select"}
NEITHER = "redis://127.0.0.1/0"


def sent() -> Iterator[str]:
    """The commands that the source sends: words in capitals at the head of a tuple, or of a call's arguments."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Tuple(elts=words) | ast.List(elts=words):
                    yield from _command(words)
                case ast.Call(args=words):
                    yield from _command(words)
                    yield from _command(words[1:])
                case ast.Constant(value=str(text)):
                    yield from (one.lower() for one in re.findall(r"redis\.p?call\('([A-Z]+)'", text))


def _command(words: list[ast.expr]) -> Iterator[str]:
    match words:
        case [ast.Constant(value=str(name)), *rest] if re.fullmatch("[A-Z]{3,}", name) and name not in OTHERS:
            part = rest[0].value if rest and isinstance(rest[0], ast.Constant) else ""
            yield f"{name}|{part}".lower() if name in CONTAINERS else name.lower()


def test_what_is_sent_is_permitted_and_nothing_else_is():
    """Each command of the source is in the rights of some kind of server, and each right has a sender."""
    permitted = acl.commands(clustered=True) | acl.OF_SENTINELS
    of_maps = {"command", "cluster|slots", "sentinel|masters"}  # redis-py's, of clusters and Sentinels
    assert set() == permitted - set(acl.by_steps()) - of_maps - BY_CLIENTS - set(sent())
    assert set(sent()) <= permitted


def test_a_step_that_chooses_a_command_says_which():
    """No step sends what its text does not name at the place of a command, but for those that are known."""
    texts = {one.name: one.source for one in steps()}
    assert acl.CHOSEN.keys() == {name for name, text in texts.items() if re.search(r"redis\.p?call\([^']", text)}
    for name, chosen in acl.CHOSEN.items():
        assert chosen <= {word.lower() for word in re.findall("'([A-Z]+)'", texts[name])} | set(sent())


@pytest.mark.parametrize(
    ("redis_url", "broker_url", "expected"),
    [
        (NEITHER, "", [("writebehind", True, True)]),
        ("redis://app:x@127.0.0.1/2", "", [("app", True, True)]),
        (NEITHER, "amqp://guest@127.0.0.1//", [("writebehind", True, False)]),
        (NEITHER, "redis://b:x@127.0.0.1:6380/1", [("writebehind", True, False), ("b", False, True)]),
        (
            "redis+sentinel://127.0.0.1/main/0?sentinel_username=watch",
            "",
            [("writebehind", True, True), ("watch", False, False)],
        ),
        (
            "a=redis://127.0.0.1:1/0;b=redis://u:x@127.0.0.1:2/0",
            "",
            [("writebehind", True, True), ("u", True, False)],
        ),
        (
            "redis+cluster://127.0.0.1",
            "redis://127.0.0.1/0",
            [("writebehind", True, False), ("writebehind", False, True)],
        ),
    ],
)
def test_there_is_a_user_for_each_server(redis_url, broker_url, expected):
    """With the keys of documents, of messages, or both, and the name that the URL has."""
    settings = load_settings(redis_url=redis_url, broker_url=broker_url)
    assert expected == [(one.name, "wb:*" in one.keys, "unacked" in one.keys) for one in users(settings)]


@pytest.mark.parametrize(
    ("broker_url", "database"), [("", 2), ("redis://127.0.0.1/7", 7), ("unix:///r.sock?db=3", 3)]
)
def test_channels_are_those_of_the_brokers_database(broker_url, database):
    """Redis tells messages to all databases alike, so kombu puts its number into the channel."""
    settings = load_settings(redis_url="redis://127.0.0.1/2", broker_url=broker_url)
    *_, last = users(settings)
    assert (f"/{database}.celery.pidbox", f"/{database}.celeryev/*") == last.channels[-2:]


def test_an_older_server_is_not_told_of_newer_commands():
    """It would refuse all of the rule."""
    (old,), (new,) = (
        users(load_settings(redis_url=NEITHER), (7, 0)),
        users(load_settings(redis_url=NEITHER), (8, 0)),
    )
    assert acl.SINCE.keys() == set(new.commands) - set(old.commands)


def test_no_right_is_for_a_category_or_all():
    """What is not named is refused."""
    for url in (NEITHER, "redis+cluster://h", "a=redis://h:1/0;b=redis://h:2/0"):
        for one in users(load_settings(redis_url=url, broker_url="amqp://h//")):
            assert ["-@all"] == [rule for rule in one.rules if "@" in rule and rule[0] in "+-"]
            assert {"flushall", "config|set", "keys", "acl|setuser", "shutdown"}.isdisjoint(one.commands)
