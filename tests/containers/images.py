"""What the Dockerfile makes: its stages, and the build context that they are made of."""

import json
import pathlib
import re
import shlex
from dataclasses import dataclass, field

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@dataclass
class Image:
    """A stage of the Dockerfile, with what it has from the stage that it is based on."""

    base: str
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    # (stage that it comes from, or the context; sources; target)
    copies: list[tuple[str | None, list[str], str]] = field(default_factory=list)
    user: str = "root"
    workdir: str = "/"

    def paths(self) -> dict[str, str]:
        """Files of the context that are copied to a path of their own: where they are in the image, and here."""
        return {
            f"{target}{pathlib.PurePath(source).name}": str(ROOT / source)
            for origin, sources, target in self.copies
            if origin is None and target.endswith("/")
            for source in sources
        }


def images() -> dict[str, Image]:
    """The stages by name."""
    found: dict[str, Image] = {}
    image = Image("")
    for line in DockerfileParser(fileobj=(ROOT / "Dockerfile").open("rb"), env_replace=False).structure:
        value = line["value"]
        match line["instruction"]:
            case "FROM":
                base, name = re.fullmatch(r"(\S+) AS (\S+)", value).groups()
                under = found.get(base, Image(base))
                image = found[name] = Image(
                    base, dict(under.env), list(under.entrypoint), list(under.command), user=under.user, workdir=under.workdir
                )
            case "ENV":
                image.env |= dict(part.split("=", 1) for part in shlex.split(value))
            case "ENTRYPOINT":
                image.entrypoint, image.command = json.loads(value), []
            case "CMD":
                image.command = json.loads(value)
            case "RUN":
                image.runs.append(value)
            case "USER":
                image.user = value
            case "WORKDIR":
                image.workdir = value
            case "COPY":
                *sources, target = value.split()
                origin = sources.pop(0).removeprefix("--from=") if sources[0].startswith("--from=") else None
                image.copies.append((origin, sources, target))
    return found


def context() -> set[str]:
    """The files that a build is sent."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    return {path for path in exclude_paths(str(ROOT), patterns) if (ROOT / path).is_file()}


def sources_of(program: pathlib.Path) -> set[str]:
    """The files of the repository that a program was compiled from, as cargo has noted beside it."""
    noted = program.with_suffix(".d").read_text().split(": ", 1)[1]
    paths = (path.replace("\\ ", " ") for path in re.split(r"(?<!\\)\s+", noted.strip()))
    return {str(pathlib.Path(path).relative_to(ROOT)) for path in paths}
