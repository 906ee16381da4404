"""Versions leap in all that a new primary has, where it is a node of a cluster that has not all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from writebehind.redis.connections import Command
from writebehind.redis.keys import Layout
from writebehind.redis.scripts import script
from writebehind.redis.succession import Term
from writebehind.redis.terms import Terms
from writebehind.redis.topology.guard import UNRECORDED, guarded

INFO = b"role:master\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\n" % (b"b" * 40, b"a" * 40)
PARTITIONS = 4


class Node:
    """A node that was a replica; `answers` are those to the leap of some partitions, which is 1 of others."""

    def __init__(self, answers: dict[int, object]) -> None:
        self.answers = answers
        self.asked: list[int] = []

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Answer them."""
        return [self._answer(*one) for one in commands]

    def greeted(self, terms: Terms) -> Term | None:
        """The term as a connection sees to it, if everything may be sent over that."""
        term, is_kept, instead = terms.greet(self.ask)
        if term.met is not None:
            term.met()
        return term._replace(met=None) if is_kept and instead is None else None

    def _answer(self, name: str, *arguments: Any) -> object:
        if name != "EVALSHA":
            return INFO if name == "INFO" else None
        partition = int(arguments[2].partition("{")[2].partition("}")[0])
        self.asked.append(partition)
        return self.answers.get(partition, 1)


@pytest.fixture
def met() -> list[str]:
    """Terms that were approached and met, in turn."""
    return []


@pytest.fixture
def terms(met) -> Terms:
    return Terms(
        Layout(PARTITIONS),
        "shop",
        approached=lambda term: met.append(f"approached {term[0]}"),
        met=lambda term, here: met.append(f"met {term[0]}: {sorted(here)}"),
    )


@pytest.mark.parametrize(
    ("answer", "is_on_its_way"),
    [
        (MovedError("1 127.0.0.1:7001"), False),
        (ClusterDownError("Hash slot not served"), False),
        (AskError("1 127.0.0.1:7001"), True),
        (TryAgainError("Multiple keys request during rehashing of slot"), True),
        (TryAgainError("1 is not here"), False),
        (TryAgainError("1 is frozen"), True),
    ],
)
def test_a_partition_that_is_not_there_keeps_no_other_waiting(terms, met, answer, is_on_its_way):
    """The connection is kept; a slot that is on its way is looked at again, until it has arrived or stays."""
    node = Node({1: answer})
    assert Term("b" * 40, "a" * 40) == node.greeted(terms)
    assert ["approached b", "met b: [0, 2, 3]"] == met
    assert [0, 1, 2, 3] == node.asked

    node.greeted(terms)
    assert [1] * is_on_its_way == node.asked[4:]
    assert 2 == len(met)
    node.answers.clear()
    for _ in range(2):
        node.greeted(terms)
    assert [1] * is_on_its_way * 2 == node.asked[4:]
    assert ["met b: [1]"] * is_on_its_way == met[2:]


def test_what_another_process_lets_leap_is_met_too(terms, met):
    """It was on its way at first: that it has leapt since is a reason to ask what was lost there."""
    node = Node({1: TryAgainError("1 is frozen")})
    node.greeted(terms)
    node.answers = {1: 0}
    node.greeted(terms)
    assert "met b: [1]" == met[-1]


@pytest.mark.parametrize(
    "answer", [ClusterDownError("The cluster is down"), ResponseError("NOREPLICAS Not enough")]
)
def test_a_primary_that_takes_no_writes_is_not_met(terms, met, answer):
    """The connection is used once, and the next one tries it again."""
    node = Node({1: answer})
    assert node.greeted(terms) is None
    assert node.greeted(terms) is None
    assert {"approached b"} == set(met)
    node.answers.clear()
    assert Term("b" * 40, "a" * 40) == node.greeted(terms)
    assert "met b: [0, 1, 2, 3]" == met[-1]


def test_nothing_is_written_where_versions_have_not_leapt(terms):
    """The refusal of the leap is the answer, whether or not the server would take the write by then."""
    refused = ResponseError("NOREPLICAS Not enough good replicas to write.")
    instead = terms.greet(Node({1: refused}).ask).instead
    commit, look = (("EVALSHA", script(one).sha1, 1, "wb:{1}:pending") for one in ("commit", "list_unsettled"))
    assert instead is not None
    assert refused is instead(commit) is instead(guarded(commit)) is instead(("SET", "wb:{1}:clock", 1))
    sent = (look, guarded(look), ("GET", "wb:{1}:clock"), ("SET", "wb:{2}:clock", 1), ("SET", "wb:server", 1))
    assert [None] * 5 == [instead(one) for one in sent]


def test_a_replica_of_a_cluster_is_asked_where_the_primary_is(met):
    """It may be the primary by the time a write comes, and versions have not leapt then."""
    terms = Terms(Layout(PARTITIONS), "shop", is_cluster=True)
    _, is_kept, instead = terms.greet(lambda _: [b"role:slave\r\n"])
    assert not is_kept
    assert instead is not None
    assert ("EXISTS", "wb:{1}:clock") == instead(("SET", "wb:{1}:clock", 1))
    assert [None, None] == [instead(one) for one in (("GET", "wb:{1}:clock"), ("ASKING",))]


def test_a_server_of_which_nobody_knows_what_it_has_is_asked_again(terms, met):
    """It has a name and no record: a connection is not kept before versions have leapt in what it gets."""
    refused = TryAgainError(UNRECORDED)
    node = Node(dict.fromkeys(range(PARTITIONS), refused))
    assert node.greeted(terms) is None
    assert {"approached b"} == set(met)
    node.answers = dict.fromkeys((2, 3), TryAgainError("2 is not here"))
    assert Term("b" * 40, "a" * 40) == node.greeted(terms)
    assert "met b: [0, 1]" == met[-1]
