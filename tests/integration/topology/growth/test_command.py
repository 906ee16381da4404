"""The command that lets partitions become more, and what others say of it."""

from __future__ import annotations

import orjson
import pytest

from tests.integration.topology.growth.conftest import AFTER, BEFORE, DOCUMENTS, read
from tests.servers import permitted
from writebehind.errors import ConfigurationError
from writebehind.operations.acl import users
from writebehind.operations.doctor import Level, examine
from writebehind.operations.drain import drain
from writebehind.operations.growth import grow
from writebehind.operations.repartition import repartition
from writebehind.redis.shared.partition_count import Division


@pytest.mark.parametrize(("after", "why"), [(6, "a multiple"), (2, "a multiple")])
def test_other_numbers_are_refused(one, process, after, why):
    """With what to do instead; nothing is changed."""
    with pytest.raises(ConfigurationError, match=f"{why}.*writebehind repartition {after}"):
        grow(process(), after)
    assert Division(BEFORE) == one.store.division.recorded()


def test_it_is_done_already(one, process):
    """Nothing happens where Redis has so many."""
    assert (BEFORE, 0) == ((result := grow(process(), BEFORE)).after, result.divided)


def test_the_offline_change_waits_for_it(halfway, process):
    """It would take what is in new partitions for nothing."""
    with pytest.raises(ConfigurationError, match="is being changed from 4 to 16"):
        repartition(process(), 32)


def test_doctor_tells_of_it(halfway, process):
    """While the number grows, and where the settings have the former one."""
    (found,) = [each for each in examine(process()) if each.check == "partitions"]
    assert (Level.WARNING, "4 are becoming 16") == (found.level, found.found)
    grow(process(), AFTER)
    (found,) = [each for each in examine(process()) if each.check == "partitions"]
    assert (Level.WARNING, "set WRITEBEHIND_PARTITIONS=16") == (found.level, found.advice)
    (found,) = [each for each in examine(process(partitions=AFTER)) if each.check == "partitions"]
    assert Level.OK is found.level


def test_the_command(one, run, process):
    """It says what it did, for people and for programs; and what to do where it cannot."""
    with pytest.raises(ConfigurationError, match="run `writebehind drain` and `writebehind repartition 6`"):
        run("repartition", "--online", "6")
    said = run("repartition", "--online", str(AFTER), "--json")
    assert 0 == said.exit_code, said.output
    told = orjson.loads(said.stdout)
    assert (BEFORE, AFTER, BEFORE) == (told["before"], told["after"], told["divided"])
    again = run("repartition", "--online", str(AFTER))
    assert "Redis has 16 partitions already" in again.stdout
    assert {1} == read(process())


@pytest.mark.one_server("it gives a user to that one")
def test_its_user_needs_no_more_than_it_says(one, process, one_valkey):
    """`doctor --acl` permits all that the change does."""
    (user,) = users(one.settings.model_copy(update={"broker_url": ""}))
    with permitted(user, one.settings.redis_url, one_valkey) as url:
        assert AFTER == grow(process(redis_url=url), AFTER).after
        assert DOCUMENTS == drain(process(redis_url=url, partitions=AFTER), timeout_s=20).persisted
