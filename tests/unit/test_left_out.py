"""What the acceptance tier leaves out where Redis is not the embedded one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.topology import EMBEDDED, ONE_SERVER, bound_to_one

ACCEPTANCE = Path(__file__).parents[1] / "acceptance"


@pytest.mark.parametrize("name", ONE_SERVER)
def test_what_is_left_out_is_there(name):
    """No entry of the list outlives what it speaks of, and each has a reason."""
    module, _, test = name.partition("::")
    assert (ACCEPTANCE / module).exists()
    assert not test or f"def {test}(" in (ACCEPTANCE / module).read_text("utf-8")
    assert ONE_SERVER[name]


@pytest.mark.parametrize(
    ("nodeid", "is_left_out"),
    [
        ("tests/acceptance/test_demo.py::test_ctrl_c_leaves_nothing_behind", True),
        ("tests/acceptance/console/test_views.py::test_a_silent_worker_is_named", True),
        ("tests/acceptance/test_pipeline.py::test_an_embedded_server_is_started_again[redis]", True),
        ("tests/acceptance/test_pipeline.py::test_stop_and_start", False),
        ("tests/unit/test_demo.py::test_any", False),
    ],
)
def test_a_test_is_found_by_its_name(nodeid, is_left_out):
    assert is_left_out == bool(bound_to_one(nodeid, "cluster"))
    assert not [one for one in EMBEDDED if bound_to_one(nodeid, one)]
