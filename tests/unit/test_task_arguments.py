"""Messages of other releases, which run side by side in an upgrade: what a task does not know is passed over."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from writebehind import load_settings
from writebehind.celery.configuration import create_app
from writebehind.celery.messages import _check
from writebehind.celery.names import FLUSH, PING, REFRESH, TASKS
from writebehind.celery.tasks import register

#: Arguments of this release, and what the core is called with.
OF_OURS = {FLUSH: [3, "1:2"], REFRESH: ["users:a", "token", "seen"]}
NEWER = {"urgent": True, "of": {"release": 9}}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("more", "named"), [([], {}), ([], NEWER), (["new"], {}), (["new", 5], NEWER)])
def test_arguments_of_a_newer_release_are_passed_over(name, more, named):
    """The task is carried out all the same, with those that it knows."""
    app, runtime = create_app(load_settings(redis_url="redis://127.0.0.1:1/0")), MagicMock()
    runtime.pipeline.maintenance.sweep.return_value = {}
    runtime.pipeline.maintenance.audit_deletions.return_value = {}
    register(app, runtime)
    task, arguments = app.tasks[name], [*OF_OURS.get(name, []), *more]

    _check(task, [arguments, named, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    assert task.apply(arguments, named).successful()

    if name == FLUSH:
        runtime.pipeline.flusher.flush.assert_called_once_with(3, ticket="1:2", attempt=0)
    elif name == REFRESH:
        runtime.pipeline.store.loads.may_fill.assert_called_once_with("users:a", "token")
    elif name != PING:
        assert getattr(runtime.pipeline.maintenance, name.rpartition(".")[2]).called


def test_a_flush_of_an_older_release_may_name_no_ticket():
    """It is carried out as one of nobody's."""
    app, runtime = create_app(load_settings(redis_url="redis://127.0.0.1:1/0")), MagicMock()
    register(app, runtime)
    assert app.tasks[FLUSH].apply([3]).successful()
    runtime.pipeline.flusher.flush.assert_called_once_with(3, ticket="", attempt=0)
