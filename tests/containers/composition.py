"""docker-compose.yml without Docker: its services as processes, in the order that they depend on each other.

Commands, arguments, environments and health checks are those of the rendered file and of the Dockerfile. What differs:

    a port that a service listens on     a free port of 127.0.0.1, wherever the file or a service names it
    a volume's, and a copied file's path  the same below a folder of the test, or in the checkout
    s3                                    Ceph's object gateway, with the credentials that the file gives RustFS
"""

import pathlib
import re
import subprocess

import yaml
from images import ROOT, Image
from processes import Process, Scratch, eventually, free_port


def rendered() -> dict:
    command = ["docker-compose", "--file", str(ROOT / "docker-compose.yml"), "--profile", "query", "config"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    # It writes a dollar sign as the file must: twice.
    return yaml.safe_load(found.replace("$$", "$"))["services"]


class Composition:
    def __init__(self, services: dict, images: dict[str, Image], scratch: Scratch, s3: str):
        self.services, self._images, self._scratch = services, images, scratch
        # `0.0.0.0:8080` and `http://stream:8080` are one port.
        self.ports: dict[tuple[str, str], str] = {("s3", "9000"): s3.rsplit(":", 1)[1]}
        self.processes: dict[str, Process] = {}

    def port(self, service: str, port: str) -> str:
        return self.ports.setdefault((service, port), str(free_port()))

    def here(self, service: str, text: str) -> str:
        """Something that the service says, as it has to be said outside of a container."""
        text = re.sub(
            r"\b(?:0\.0\.0\.0|127\.0\.0\.1)([:/])(\d+)\b", lambda found: f"127.0.0.1{found[1]}{self.port(service, found[2])}", text
        )
        names = "|".join(self.services)
        text = re.sub(rf"//({names}):(\d+)\b", lambda found: f"//127.0.0.1:{self.port(found[1], found[2])}", text)
        for inside, outside in self._paths(service).items():
            text = re.sub(rf"(?<![\w/]){re.escape(inside)}(?!\w)", outside, text)
        return text

    def image(self, service: str) -> Image:
        build = self.services[service].get("build")
        return self._images[build["target"]] if build else Image(self.services[service]["image"])

    def command(self, service: str, *instead: str) -> list[str]:
        """What a container of the service runs; with `instead` of its command, as `docker compose run` does it."""
        described, image = self.services[service], self.image(service)
        entrypoint = described.get("entrypoint", image.entrypoint)
        command = list(instead) or described.get("command", [] if "entrypoint" in described else image.command)
        return [self.here(service, part) for part in [*entrypoint, *command]]

    def env(self, service: str) -> dict[str, str]:
        given = {**self.image(service).env, **self.services[service].get("environment", {})}
        return {name: self.here(service, str(value)) for name, value in given.items()}

    def is_healthy(self, service: str) -> bool:
        kind, *test = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD", test
        argv = [self.here(service, part) for part in test]
        return self._scratch.begin(argv, {}, f"{service}-health").end() == 0

    def run(self, service: str, *command: str) -> str:
        """`docker compose run --rm SERVICE COMMAND`: what it printed."""
        self._await_dependencies(service)
        process = self._scratch.begin(self.command(service, *command), self.env(service), f"{service}-run")
        assert process.end() == 0, process.log()
        return process.stdout.read_text()

    def up(self, service: str) -> None:
        """`docker compose up --wait` for a service that stays."""
        self._begin_with_dependencies(service)
        eventually(f"{service} is healthy", lambda: self.is_healthy(service))

    def _begin_with_dependencies(self, service: str) -> None:
        if service != "s3" and service not in self.processes:
            self._await_dependencies(service)
            self.processes[service] = self._scratch.begin(self.command(service), self.env(service), service)

    def _await_dependencies(self, service: str) -> None:
        """Until each is what the file says that the service waits for."""
        for name, how in self.services[service].get("depends_on", {}).items():
            self._begin_with_dependencies(name)
            match how["condition"]:
                # The gateway is there, and has no page that RustFS has.
                case "service_healthy" if name != "s3":
                    eventually(f"{name} is healthy", lambda name=name: self.is_healthy(name))
                case "service_completed_successfully":
                    assert self.processes[name].end() == 0, self.processes[name].log()

    def _paths(self, service: str) -> dict[str, str]:
        paths = self.image(service).paths()
        for volume in self.services[service].get("volumes", []):
            name, inside = volume.split(":")[:2]
            outside = self._scratch.folder / "volumes" / name
            pathlib.Path(outside).mkdir(parents=True, exist_ok=True)
            paths[inside] = str(outside)
        return paths
