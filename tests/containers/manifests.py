"""integrations/kubernetes without a cluster: its pods as processes.

Arguments, environment, mounted files and probes are those of the manifests as kustomize renders them, what comes before them that of the
Dockerfile. What differs:

    a path where something is mounted   a folder of the test, with the files that are mounted there
    the port that the pod listens on    a free port of 127.0.0.1
    AWS_ENDPOINT_URL, STREAM_BASE_URL   are set: Ceph's object gateway and the simulator instead of AWS and Stream
"""

import functools
import pathlib
import re
import shutil
import subprocess
import tempfile

import kubernetes_validate
import yaml
from images import ROOT, Image
from processes import Process, Scratch, free_port

FOLDER = ROOT / "integrations" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES = ["namespace.yaml", "service-account.yaml", "cron-job.yaml", "deployment.yaml"]
# The oldest that has all of it, and one of now.
VERSIONS = ["1.31", "1.37"]


def resource(name: str) -> dict:
    found = yaml.safe_load((FOLDER / name).read_text())
    for version in VERSIONS:
        kubernetes_validate.validate(found, version, strict=True)
    return found


@functools.cache
def rendered(runs: str) -> dict[str, dict]:
    """What `kubectl apply -k` sends, by kind, when this of the two is the one that runs."""
    text = (FOLDER / "kustomization.yaml").read_text()
    assert "  - cron-job.yaml\n" in text and "  # - deployment.yaml\n" in text, text
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "kubernetes"
        shutil.copytree(FOLDER, folder)
        (folder / "kustomization.yaml").write_text(text.replace("- cron-job.yaml", f"- {runs}"))
        made = subprocess.run(["kubectl", "kustomize", folder], stdout=subprocess.PIPE, check=True).stdout
    found = {one["kind"]: one for one in yaml.safe_load_all(made)}
    for one in found.values():
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
    return found


def config_map(name: str | None = None) -> dict[str, str]:
    """The files of the generated map, which has this name."""
    made = rendered("cron-job.yaml")["ConfigMap"]
    assert name in (None, made["metadata"]["name"]), name
    return made["data"]


class Pod:
    """The one container of a pod template."""

    def __init__(self, template: dict, image: Image, scratch: Scratch, secret: dict[str, str], env: dict[str, str]):
        (self.container,), self._image, self._scratch = template["spec"]["containers"], image, scratch
        self.volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        self.annotations = template["metadata"].get("annotations", {})
        self._ports: dict[str, str] = {}
        self.mounts = self._mount(secret)
        self._env = {**image.env, **{one["name"]: one["value"] for one in self.container["env"]}, **env}

    def begin(self) -> Process:
        argv = [*self._image.entrypoint, *(self._here(argument) for argument in self.container["args"])]
        env = {name: self._here(value) for name, value in self._env.items()}
        return self._scratch.begin(argv, env, self.container["name"])

    def probe(self, name: str) -> str:
        """The URL that the kubelet asks."""
        get = self.container[name]["httpGet"]
        (port,) = (one["containerPort"] for one in self.container["ports"] if one["name"] == get["port"])
        return self.url(str(port), get["path"])

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self._port(port)}{path}"

    def _port(self, port: str) -> str:
        return self._ports.setdefault(port, str(free_port()))

    def _mount(self, secret: dict[str, str]) -> dict[str, pathlib.Path]:
        mounts = {}
        for mount in self.container["volumeMounts"]:
            volume, folder = self.volumes[mount["name"]], self._scratch.folder / "mounts" / mount["name"]
            folder.mkdir(parents=True, exist_ok=True)
            files = secret if "secret" in volume else config_map(volume["configMap"]["name"]) if "configMap" in volume else {}
            for name, text in files.items():
                (folder / name).write_text(text)
            mounts[mount["mountPath"]] = folder
        return mounts

    def _here(self, text: str) -> str:
        for inside, folder in self.mounts.items():
            text = re.sub(rf"^{re.escape(inside)}(?![\w.-])", str(folder), text)
        return re.sub(r"^0\.0\.0\.0:(\d+)$", lambda found: f"127.0.0.1:{self._port(found[1])}", text)
