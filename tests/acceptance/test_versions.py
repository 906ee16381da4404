"""The previous commit's processes beside this one's, as in an upgrade: nothing is lost, and no error logged."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.acceptance.conftest import ROOT, System, in_threads, start
from tests.acceptance.variants import own_server
from tests.tiers import long
from writebehind.local.procfile import default_procfile

pytestmark = [pytest.mark.acceptance, long]

WEB, WORKERS = {"web"}, {"worker", "maintenance", "beat"}


@pytest.fixture(scope="module")
def previous(tmp_path_factory) -> Path:
    """The packages of the commit before this one, which note in `began` that they are loaded."""
    command = ["git", "archive", "HEAD~1", "writebehind", "tasks", "web"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("the commit before this one is not at hand")
    path = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(path, filter="data")
    with (path / "writebehind/__init__.py").open("a") as init:
        init.write(
            "\nimport pathlib, sys\nwith pathlib.Path(__file__).parents[1].joinpath('began').open('a') as _f:\n"
        )
        init.write("    _f.write(' '.join(sys.argv) + '\\n')\n")
    return path


@pytest.mark.parametrize(
    "older", [pytest.param(WEB, marks=own_server, id="older web"), pytest.param(WORKERS, id="older workers")]
)
def test_the_previous_commit_beside_this_one(previous, older, tmp_path):
    """Puts, increments and deletions under load end in MongoDB as they were acknowledged."""
    lines = [line for line in default_procfile().read_text().splitlines() if not line.startswith("#")]
    procfile = tmp_path / "Procfile"
    procfile.write_text(
        "\n".join(
            line.replace(": exec ", f": PYTHONPATH={previous} exec ") if line.partition(":")[0] in older else line
            for line in lines
        )
    )
    without = frozenset({"flower", "exporter"})
    settled = {"WRITEBEHIND_PARTITIONS": "16"}  # whose default may differ between the two
    with start(tmp_path, procfile=procfile, without=without, **settled) as stack, System(stack) as system:
        system.wait_for_workers()
        began = (previous / "began").read_text()
        assert all(f"run {one}" in began for one in older - {"maintenance"})
        written = {}

        def caller(number: int) -> None:
            for turn in range(20):
                written.update(system.put_all(f"mixed{number}-{turn}-", 20))
                system.http.post("/v1/users/counter:increment", json={"n": 1}).raise_for_status()
                system.http.delete(f"/v1/users/mixed{number}-{turn}-0").raise_for_status()
                del written[f"mixed{number}-{turn}-0"]

        in_threads(4, caller)
        system.wait_until_drained()
        assert written == system.stored_versions("mixed")
        assert 80 == system.database.users.find_one({"_id": "counter"})["n"]
        status = system.status()
        assert 0 == status["dead_letters"]
    logs = [*(tmp_path / "log").glob("*.log")]
    assert [] == [
        line for log in logs for line in log.read_text().splitlines() if " ERROR " in line or "Traceback" in line
    ]
