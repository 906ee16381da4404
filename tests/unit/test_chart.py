"""The Helm chart: what it renders is valid, safe, and runs what the Procfile runs with settings that there are."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.prometheus import DEPLOY, ROOT, faults
from web.__main__ import STOP_WITHIN_S
from writebehind import load_settings
from writebehind.alive import OLD_AFTER_S
from writebehind.celery import names
from writebehind.local.procfile import read_procfile
from writebehind.settings.config_file import CONFIG_FILE_VARIABLE
from writebehind.settings.installation import ENV_PREFIX, Settings

CHART = DEPLOY / "helm/writebehind"
HELM = shutil.which("helm") or shutil.which("helm", path=ROOT / ".helm/bin")
needs_helm = pytest.mark.skipif(not HELM, reason="Helm is not installed: `make helm` builds it where Go is")
KUBERNETES = "1.34"
#: Kinds of operators, which Kubernetes has no schemas of: models are made from the operators' own definitions.
FOREIGN: dict[str, tuple[str, str]] = {
    "ServiceMonitor": ("monitoring.coreos.com/v1", "cloudcoil.models.prometheus_operator.v1"),
    "PrometheusRule": ("monitoring.coreos.com/v1", "cloudcoil.models.prometheus_operator.v1"),
    "ScaledObject": ("keda.sh/v1alpha1", "cloudcoil.models.keda.v1alpha1"),
}
#: Settings that the chart has from the secret, `config` or other values, or that containers do without.
NOT_IN_SETTINGS = {
    *("redis_url", "mongodb_url", "broker_url", "root_key", "defaults", "collections", "embedded_redis_mib"),
    *("host", "port", "exporter_port", "flower_port", "flower_db", "metrics_dir", "state_dir", "alive_file"),
    *("tls_cert", "tls_key", "tls_client_ca"),  # the ingress ends TLS
}
#: Values within which Kubernetes's names stand, or the user's.
USERS = {"resources", "sidecarResources", "labels", "annotations"}
#: Variables that are no settings, or are so without the prefix.
OTHERS = {"REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL", CONFIG_FILE_VARIABLE}
CASES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))


def helm(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(HELM), *map(str, words)], capture_output=True, text=True, check=False)


def rendered(case: str, *words: str) -> list[dict[str, Any]]:
    """What the chart makes of a file of values."""
    options = ("-n", "prod", "--kube-version", f"{KUBERNETES}.0", "-f", CHART / f"ci/{case}.yaml", *words)
    done = helm("template", "shop", CHART, *options)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.fixture(scope="module", params=CASES)
def manifests(request) -> list[dict[str, Any]]:
    return rendered(request.param)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def pods(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """The pods of each Deployment, by its part."""
    found = of_kind(manifests, "Deployment").items()
    return {name.removeprefix("shop-writebehind-"): one["spec"]["template"]["spec"] for name, one in found}


def containers(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for pod in pods(manifests).values() for one in pod["containers"]]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container["env"]}


def paths(values: dict[str, Any], above: str = "") -> set[str]:
    """The names of all values, with dots, of which those in maps that are the user's have none below them."""
    found = set()
    for name, value in values.items():
        path = f"{above}{name}"
        found.add(path)
        if isinstance(value, dict) and path not in {"workers", "settings"} and name not in USERS:
            found |= paths(value, f"{path}.")
    return found


def schema_paths(schema: dict[str, Any], root: dict[str, Any], above: str = "") -> set[str]:
    """The same of a schema."""
    if "$ref" in schema:
        return schema_paths(root["definitions"][schema["$ref"].rpartition("/")[2]], root, above)
    found = set()
    for name, below in schema.get("properties", {}).items():
        path = f"{above}{name}"
        found.add(path)
        if path != "settings" and name not in USERS:
            found |= schema_paths(below, root, f"{path}.")
    return found


@needs_helm
@pytest.mark.parametrize("case", CASES)
def test_helm_finds_no_fault(case):
    """Its linter takes the chart, warnings being errors."""
    done = helm("lint", CHART, "--strict", "--kube-version", f"{KUBERNETES}.0", "-f", CHART / f"ci/{case}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_helm
def test_kubernetes_takes_what_is_rendered(manifests):
    """Each manifest is as the schema of its kind wants it, and has no field that there is not."""
    for one in manifests:
        if one["kind"] not in FOREIGN:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


@needs_helm
def test_operators_take_what_is_rendered():
    """Their resources are as their definitions want them, and no field is one that they do not know."""
    manifests = [one for one in rendered("everything") if one["kind"] in FOREIGN]
    assert FOREIGN.keys() == {one["kind"] for one in manifests}
    for one in manifests:
        version, module = FOREIGN[one["kind"]]
        known = getattr(import_module(module), one["kind"]).model_validate(one)
        assert one == known.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert version == one["apiVersion"]


@needs_helm
@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("web.replica=3", "'replica' not allowed"),
        ("settings.logformat=json", "'logformat'"),
        ("settings.redis_url=redis://:secret@redis", "'redis_url'"),  # it belongs into the secret
        ("workers.worker.queues={flush,refresch}", "one of 'flush'"),
        ("workers.web.replicas=1", "'web'"),  # would be a second Deployment of that name
        ("web.replicas=many", "want integer"),
        ("image.digest=0123", "pattern"),
        ("monitoring.job=other", "pattern"),  # no alert would be about it
    ],
)
def test_wrong_values_are_refused(value, named):
    """Helm names a value that there is not, or that can be none, before anything is installed."""
    done = helm("lint", CHART, "-f", CHART / "ci/usual.yaml", "--set", value)
    assert done.returncode != 0
    assert named in done.stdout + done.stderr


def test_values_are_those_that_can_be_set():
    """The schema has every value of the file and no other, and every setting and queue of the product."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

    assert paths(values) == schema_paths(schema, schema) - {"global"}
    settings = schema["properties"]["settings"]["propertyNames"]["enum"]
    assert Settings.model_fields.keys() - NOT_IN_SETTINGS == set(settings)
    assert list(names.QUEUES) == schema["definitions"]["worker"]["properties"]["queues"]["items"]["enum"]


@needs_helm
def test_every_container_has_no_rights(manifests):
    """No root, nothing that can be written but two directories, no capability, limits, and no token."""
    assert containers(manifests)
    for name, pod in pods(manifests).items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] > 0, name
        assert {"type": "RuntimeDefault"} == security["seccompProfile"], name
        assert not pod["automountServiceAccountToken"], name
        # Or each Service would put variables beside the settings, which no process starts with.
        assert pod["enableServiceLinks"] is False, name
    for one in containers(manifests):
        security = one["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert {"drop": ["ALL"]} == security["capabilities"]
        assert {"cpu", "memory"} == one["resources"]["requests"].keys()
        assert "memory" in one["resources"]["limits"]
        assert "livenessProbe" in one


@needs_helm
def test_every_variable_is_a_setting(manifests, monkeypatch, tmp_path):
    """A process takes the environment of each container as its settings; URLs come from the secret."""
    [text] = [one["data"]["writebehind.toml"] for one in manifests if "writebehind.toml" in one.get("data", {})]
    (tmp_path / "writebehind.toml").write_text(text, "utf-8")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/user.json").write_text("{}", "utf-8")
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for one in containers(manifests):
        secrets = {var["name"] for var in one["env"] if "valueFrom" in var}
        assert {"REDIS_URL", "MONGODB_URL", "BROKER_URL", "WRITEBEHIND_ROOT_KEY"} == secrets
        given = {name: value for name, value in environment(one).items() if not name.startswith("OTEL_")}
        assert given.keys() - OTHERS <= known
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)  # the image's working directory, below which schemas are mounted
            for name, value in (given | {CONFIG_FILE_VARIABLE: str(tmp_path / "writebehind.toml")}).items():
                if name not in secrets:
                    patch.setenv(name, value)
            settings = load_settings()
        assert settings.host == "0.0.0.0"  # noqa: S104
        assert "shop-writebehind-web.prod.svc" in settings.allowed_hosts


@needs_helm
def test_the_chart_runs_what_the_procfile_runs():
    """The defaults have each of its processes, with the same options, on ports that are the settings' defaults."""
    found = pods(rendered("usual", "--set", "flower.enabled=true"))
    parts = {"listen": "listener"}
    for name, command in read_procfile(ROOT / "Procfile").items():
        [first, *_] = found[parts.get(name, name)]["containers"]
        wanted = [
            word.replace("${HONCHO_PROCESS_NAME:-", "").replace("${WRITEBEHIND_FLOWER_PORT:-", "").replace("}", "")
            for word in shlex.split(command.removeprefix("exec "))
        ]
        assert [word.replace("127.0.0.1", "0.0.0.0") for word in wanted] == first["args"], name  # noqa: S104
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    settings = Settings.model_fields
    assert values["web"]["port"] == settings["port"].default
    assert values["exporter"]["port"] == settings["exporter_port"].default
    assert values["flower"]["port"] == settings["flower_port"].default


@needs_helm
def test_a_queue_without_a_worker_is_refused():
    """What nobody consumes would wait for ever; the chart knows all queues."""
    for queue in names.QUEUES:
        left = ",".join(one for one in names.QUEUES if one != queue)
        done = helm(
            *("template", "shop", CHART, "--kube-version", f"{KUBERNETES}.0", "-f", CHART / "ci/least.yaml"),
            *("--set", f"workers.worker.queues={{{left}}}"),
        )
        assert done.returncode != 0
        assert f"none consumes the queue {queue}" in done.stderr


@needs_helm
def test_an_ingress_needs_names():
    """Kubernetes refuses one without rules, and only when it is installed."""
    done = helm(
        *("template", "shop", CHART, "--kube-version", f"{KUBERNETES}.0", "-f", CHART / "ci/least.yaml"),
        *("--set", "web.ingress.enabled=true"),
    )
    assert done.returncode != 0
    assert "web.ingress.hosts: the names by which clients reach the API" in done.stderr


@needs_helm
def test_processes_have_the_time_that_they_take_to_end(manifests):
    """A worker finishes its batch, a web process its requests after its endpoint is forgotten."""
    longest_s = Settings.model_fields["mongodb_timeout_ms"].default / 1000
    for name, pod in pods(manifests).items():
        assert pod["terminationGracePeriodSeconds"] > 2 * longest_s, name
    web = pods(manifests)["web"]
    [_, before] = web["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert web["terminationGracePeriodSeconds"] > int(before) + STOP_WITHIN_S


@needs_helm
def test_probes_look_at_work():
    """Workers, beat and listeners by the age of a file, all else by HTTP: no probe starts Python."""
    for name, pod in pods(rendered("everything")).items():
        [first, *beside] = pod["containers"]
        probe = first["livenessProbe"]
        if name in {"worker", "maintenance", "beat", "listener"}:
            assert environment(first)["WRITEBEHIND_ALIVE_FILE"] in probe["exec"]["command"][-1], name
            assert f"-lt {OLD_AFTER_S}" in probe["exec"]["command"][-1], name
        else:
            assert [{"name": "Host", "value": "localhost"}] == probe["httpGet"]["httpHeaders"], name
        assert all("httpGet" in one["livenessProbe"] for one in beside), name
        # Two that touched one file would hide each other.
        assert all("WRITEBEHIND_ALIVE_FILE" not in environment(one) for one in beside), name
    ready = pods(rendered("usual"))["web"]["containers"][0]["readinessProbe"]
    assert ready["httpGet"]["path"] == "/readyz"


@needs_helm
def test_rules_and_dashboard_are_those_of_the_folder():
    """The chart carries them unchanged."""
    manifests = rendered("everything")
    [rule] = of_kind(manifests, "PrometheusRule").values()
    assert yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text("utf-8")) == rule["spec"]
    dashboard = of_kind(manifests, "ConfigMap")["shop-writebehind-dashboard"]["data"]["writebehind.json"]
    assert json.loads((DEPLOY / "grafana/writebehind.json").read_text("utf-8")) == json.loads(dashboard)


@needs_helm
def test_scaling_asks_for_what_is_on_the_page():
    """By age and time until all is safe, of one job, which is the one that is scraped; no queue's length."""
    manifests = rendered("everything")
    scaled = of_kind(manifests, "ScaledObject")
    assert ["shop-writebehind-worker"] == list(scaled)
    queries = [one["metadata"]["query"] for one in scaled["shop-writebehind-worker"]["spec"]["triggers"]]
    assert {query: faults(query) for query in queries if faults(query)} == {}
    assert not [query for query in queries if "queue" in query]
    [monitor] = of_kind(manifests, "ServiceMonitor").values()
    [job] = {one["relabelings"][0]["replacement"] for one in monitor["spec"]["endpoints"]}
    assert job.startswith("writebehind")
    assert all(f'job="{job}"' in query for query in queries)
    # A Deployment that is scaled has no number of its own, which each upgrade would set back.
    assert "replicas" not in of_kind(manifests, "Deployment")["shop-writebehind-worker"]["spec"]


@needs_helm
@pytest.mark.parametrize("is_open", [False, True])
def test_prometheus_has_a_key_for_each_page(is_open):
    """The exporter's and the API's, as long as they are not open to all."""
    manifests = rendered("everything", "--set", f"settings.metrics_open={str(is_open).lower()}")
    [monitor] = of_kind(manifests, "ServiceMonitor").values()
    ends = {one["port"]: one.get("authorization", {}).get("credentials") for one in monitor["spec"]["endpoints"]}
    key = None if is_open else {"name": "shop-writebehind-root-key", "key": "WRITEBEHIND_ROOT_KEY"}
    assert {"metrics": key, "http": key} == ends


def test_the_release_is_the_products():
    """The chart's version of the application is that of the package."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))

    assert f'version = "{chart["appVersion"]}"' in text
    assert Path(CHART / "files/rules.yml").resolve() == (DEPLOY / "prometheus/rules.yml").resolve()
