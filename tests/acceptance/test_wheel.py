"""The wheel: one package can be imported, which runs the whole system whatever stands beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from tests.acceptance.conftest import ROOT, SERVERS
from tests.tiers import long
from tests.waiting import wait_until
from writebehind.local.embedded import free_port
from writebehind.local.stack import Stack
from writebehind.settings.running import DATA_DIR

#: What a user's own module says when it is imported by mistake, or loudly fails.
OWN = "raise SystemExit(f'{__file__} is none of the service')\n"


def pip(python: Path, *arguments: str | Path) -> None:
    """Install for an environment without pip, from what is on this machine."""
    options = ["--python", python, "--disable-pip-version-check", "--quiet", "install", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, "-m", "pip", *options, *arguments], check=True, timeout=120)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this repository, built by what is installed."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel and the packages that it needs, but not the repository."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    [site] = home.glob("lib/python3*/site-packages")
    # A line of a .pth file is a path, whose own .pth files, such as that of the repository, are not read.
    (site / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip(home / "bin" / "python", wheel)
    return home / "bin" / "python"


def test_one_package_can_be_imported(wheel, python, tmp_path):
    """The wheel has one folder beside its metadata, and nothing called `web` or `tasks` can be imported."""
    names = {name.split("/")[0] for name in ZipFile(wheel).namelist()}
    assert {"writebehind"} == {name for name in names if not name.endswith(".dist-info")}

    for module in ("web", "tasks"):
        done = subprocess.run([python, "-c", f"import {module}"], cwd=tmp_path, capture_output=True, check=False)
        assert f"No module named '{module}'" in done.stderr.decode()
    where = "import writebehind; print(writebehind.__file__)"
    found = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert found.stdout.startswith(str(python.parent.parent))


def test_the_wheel_is_typed_and_says_what_it_is(wheel):
    """It has `py.typed`, carries the service, and lets the library be installed without it."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert {"writebehind/py.typed", "writebehind/service/Procfile", "writebehind/service/web/app.py"} <= names
    page = ROOT / "writebehind" / "flask" / "console" / "page"
    assert {one.relative_to(ROOT).as_posix() for one in page.rglob("*") if one.is_file()} <= names
    assert "Version: 0.1.0\n" in metadata
    assert {"celery", "flask", "jwt", "metrics", "otel", "server", "embedded", "demo"} == set(
        re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)
    )
    always = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    assert not [line for line in always if re.search(r"flask|celery|kombu|flower|granian|honcho", line)]


def test_it_is_installed_beside_others(wheel, tmp_path):
    """Modules of the same names as the service's packages, which were there before, stay as they are."""
    own = {tmp_path / "web.py": "A = 1\n", tmp_path / "tasks" / "__init__.py": "B = 2\n"}
    (tmp_path / "tasks").mkdir()
    for path, text in own.items():
        path.write_text(text)
    pip(Path(sys.executable), "--target", tmp_path, wheel)

    assert (tmp_path / "writebehind" / "__init__.py").is_file()
    assert own == {path: path.read_text() for path in own}
    assert {tmp_path / "tasks" / "__init__.py"} == {*(tmp_path / "tasks").iterdir()}


@long
def test_the_system_runs_beside_a_users_modules(python, tmp_path, monkeypatch):
    """`writebehind up` becomes ready where the directory has modules called as what the processes import.

    The doctor finds nothing in a system that nobody has touched.
    """
    for name in ("tasks", "web", "celery", "flask", "redis", "granian", "flower", "queue", "string"):
        (tmp_path / f"{name}.py").write_text(OWN)
    for variable in [name for name in os.environ if name in SERVERS or name.startswith("WRITEBEHIND_")]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "executable", str(python))
    env = {f"WRITEBEHIND_{name}_PORT": str(free_port()) for name in ("FLOWER", "EXPORTER")}

    with (
        Stack(tmp_path / DATA_DIR, cwd=tmp_path, env=env) as stack,
        httpx.Client(base_url=stack.url, timeout=30, trust_env=False) as http,
    ):
        wait_until(lambda: http.get("/admin/status").json()["unconsumed"] == [], "all workers", 60)
        http.put("/v1/users/ada?durability=persisted", json={"name": "Ada"}).raise_for_status()
        flower = f"http://127.0.0.1:{env['WRITEBEHIND_FLOWER_PORT']}/healthcheck"
        wait_until(lambda: answers(flower), "Flower", 60)
        wait_until(lambda: http.get("/admin/status").json()["listener"], "the listener", 60)
        doctor = [python.parent / "writebehind", "doctor"]
        looked = subprocess.run(doctor, cwd=tmp_path, capture_output=True, check=False, text=True)
        assert 0 == looked.returncode, looked.stdout
        assert {"web", "worker", "maintenance", "beat", "listen", "flower"} <= stack.pids().keys()
    logs = [log.read_text() for log in (tmp_path / DATA_DIR / "log").iterdir()]
    assert not [log for log in logs if "none of the service" in log]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
