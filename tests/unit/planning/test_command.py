"""`writebehind plan`."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from tests.unit.planning.conftest import KNOWN
from writebehind.cli import cli
from writebehind.planning.load import Load


@pytest.fixture
def plan(tmp_path):
    """Runs the command, with constants that are easy to calculate with."""
    path = tmp_path / "constants.json"
    path.write_text(json.dumps(KNOWN))

    def plan(*options):
        return CliRunner().invoke(cli, ["plan", "--constants", str(path), *options], env={"COLUMNS": "200"})

    return plan


def test_each_figure_is_shown_with_its_derivation(plan):
    """A line for each, and then the warnings."""
    told = plan("--writes", "500", "--outage", "30m", "--lookups", "2")
    assert 0 == told.exit_code
    assert re.search(r"^setting: partitions +64 +the default", told.stdout, re.MULTILINE)
    assert "documents that are written in 30 min" in told.stdout
    assert "warning: the speed of your MongoDB is not known" in told.stdout


def test_json_has_the_load_the_figures_and_their_derivations(plan):
    """In one line."""
    told = plan("--json", "--writes", "2e3", "--ttl", "10m", "--size", "500-800")
    found = json.loads(told.stdout)
    assert 1 == told.stdout.count("\n")
    assert (2_000, 600, "500-800") == tuple(found["load"][name] for name in ("writes", "ttl", "size"))
    assert found["plan"].keys() == found["because"].keys()
    assert found["plan"]["partitions"] == 64
    assert KNOWN["measured"] == found["measured"]


def test_a_plan_needs_no_option():
    """The defaults are a plan by the package's constants."""
    assert 0 == CliRunner().invoke(cli, ["plan"]).exit_code


def test_all_of_a_load_are_options():
    """With the defaults that they have in a load."""
    shown = " ".join(CliRunner().invoke(cli, ["plan", "--help"], terminal_width=100).output.split())
    for name, field in Load.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert " ".join(field.description.split())[1:] in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--writes", "-1"), "--writes: "),
        (("--writes", "nan"), "--writes: "),
        (("--reads", "inf"), "--reads: "),
        (("--writes", "many"), "'--writes'"),
        (("--documents", "0"), "--documents: "),
        (("--skew", "9"), "--skew: "),
        (("--new", "101"), "--new: "),
        (("--outage", "0"), "'--outage'"),
        (("--ttl", "soon"), "'--ttl'"),
        (("--allocator", "tcmalloc"), "--allocator: "),
        (("--size", "big"), "size: 'big' is none such as 1000"),
        (("--size", "3"), "size: '3' is not from 5 to 16777216 bytes"),
        (("--size", "200-100"), "size: '200-100' is not"),
        (("--size", "100:0"), "size: '100:0' is not"),
        (("--size", "²"), "size: '²' is none"),
        (("--servers", "4", "--partitions", "2"), "a server without a partition"),
        (("--constants", "nowhere.json"), "'--constants'"),
    ],
)
def test_bad_input_is_told_by_its_option(plan, options, told):
    """In one line, and with the exit status of a wrong usage."""
    done = plan(*options)
    assert 2 == done.exit_code
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
