"""What a flush tells of itself."""

from __future__ import annotations

from writebehind.flushing.flush_summary import FlushSummary


def test_the_result_of_a_task_has_counts_only():
    """It says how many documents there were, and never which: that would be all of a batch, copied for a log."""
    summary = FlushSummary(3, persisted=2, deleted=1, tried=1, reached={"users/s:ada": 7, "users/s:bob": 8})

    assert {
        "partition": 3,
        "persisted": 2,
        "deleted": 1,
        "superseded": 0,
        "buried": 0,
        "batches": 0,
        "operations": 0,
        "hooks_failed": 0,
        "busy": False,
    } == summary.as_dict()
