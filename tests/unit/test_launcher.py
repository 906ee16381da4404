"""The service's processes import the service's packages, and nothing from where they are started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from writebehind.cli import cli
from writebehind.launcher import PROCESSES, service_folder

ROOT = Path(__file__).parents[2]
CODE = """
from writebehind.launcher import enter
enter()
import json, os, sys, tasks
print(json.dumps({"tasks": tasks.__file__, "path": sys.path, "safe": os.environ["PYTHONSAFEPATH"]}))
"""


def entered(directory: Path, *options: str, **env: str) -> dict:
    """What a process sees that was started in a directory with a `tasks.py`, and has entered the service."""
    (directory / "tasks.py").write_text("raise SystemExit('a user has this')\n")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *options, "-c", CODE],
        cwd=directory,
        env=variables | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_help_of_the_api(option):
    """`writebehind run web --help` starts nothing, and is no error."""
    told = CliRunner().invoke(cli, ["run", "web", option])
    assert (0, True) == (told.exit_code, "settings" in told.stdout)


@pytest.mark.parametrize("options", [(), ("-P",)], ids=["python -c", "python -P -c"])
def test_a_users_module_is_not_in_the_way(tmp_path, options):
    """The packages are the service's; the current directory is not looked into, by spawned processes neither."""
    seen = entered(tmp_path, *options)

    assert str(ROOT / "tasks" / "__init__.py") == seen["tasks"]
    assert not {"", str(tmp_path)} & set(seen["path"])
    assert "1" == seen["safe"]


def test_what_somebody_wants_on_the_path_stays(tmp_path):
    """A folder of PYTHONPATH is looked into, after the service's own."""
    seen = entered(tmp_path, PYTHONPATH=str(tmp_path))

    assert str(ROOT / "tasks" / "__init__.py") == seen["tasks"]
    assert str(tmp_path) in seen["path"]


def test_every_process_is_there():
    """Each process has a module in the service's folder, and is started by the Procfile."""
    procfile = (service_folder() / "Procfile").read_text()

    for name, (module, _) in PROCESSES.items():
        assert (service_folder() / Path(*module.split("."))).with_suffix(".py").is_file()
        assert f"exec writebehind run {name}" in procfile
