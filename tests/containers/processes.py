"""Programs that run in the place of containers, and what they say over HTTP."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

# How long something that must happen is waited for.
PATIENCE_SECONDS = 120
# How long a program may take to end when it is asked to.
ASKED_SECONDS = 15
# Loopback is never reached through a proxy.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def answer(url: str, data: dict | None = None) -> tuple[int, str]:
    """Status and body; 0 if nobody answers."""
    body = None if data is None else json.dumps(data).encode()
    try:
        with HTTP.open(urllib.request.Request(url, data=body), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def eventually(what: str, holds):
    """What `holds` gives as soon as it is true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.2)
    return found


class Process:
    """A program with the arguments and environment of a container, and nothing else of this shell but PATH."""

    def __init__(self, argv: list[str], env: dict[str, str], folder: pathlib.Path, name: str):
        self.name, self.stdout, self.stderr = name, folder / f"{name}.out", folder / f"{name}.err"
        # The interpreter of an image is that of the checks, which has the same list of packages.
        path = f"{folder / 'bin'}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        with self.stdout.open("w") as out, self.stderr.open("w") as err:
            # An init is not the first process here, and is told that it need not be.
            first = {"PATH": path, "TINI_SUBREAPER": ""}
            self._process = subprocess.Popen(
                argv, env=first | env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )

    def end(self) -> int:
        """The exit code, as a container reports it."""
        code = self._process.wait(PATIENCE_SECONDS)
        return code if code >= 0 else 128 - code

    def is_running(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> None:
        """Asks first: an init hands it on to its child, which has a group of its own and would outlive it."""
        if self.is_running():
            self._process.terminate()
        try:
            self._process.wait(ASKED_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log(self) -> str:
        return f"{self.name}:\n{self.stdout.read_text()}{self.stderr.read_text()}"


class Scratch:
    """A folder with the programs that the images have. Ends what was begun in it."""

    def __init__(self, folder: pathlib.Path, programs: dict[str, str]):
        self.folder, self._begun = folder, []
        (folder / "bin").mkdir(parents=True)
        for name, path in programs.items():
            (folder / "bin" / name).symlink_to(os.path.abspath(path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self._begun):
            process.kill()

    def begin(self, argv: list[str], env: dict[str, str], name: str) -> Process:
        process = Process(argv, env, self.folder, f"{len(self._begun)}-{name}")
        self._begun.append(process)
        return process

    def simulator(self, *arguments: str) -> str:
        """Begins one; its address."""
        url = f"127.0.0.1:{free_port()}"
        process = self.begin(["chatlake-simulator", "--listen", url, *arguments], {}, "simulator")
        eventually("the simulator answers", lambda: answer(f"http://{url}/control/clock")[0] == 200)
        assert process.is_running(), process.log()
        return f"http://{url}"


@contextmanager
def gateway(folder: pathlib.Path, key: str, secret: str):
    """Ceph's object gateway with these credentials; its endpoint. One that a dead run left in the folder is ended."""
    script = pathlib.Path(__file__).parent.parent / "tools" / "radosgw.sh"
    env = {**os.environ, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    try:
        begun = subprocess.run([script, "start", folder], env=env, stdout=subprocess.PIPE, text=True, check=True)
        yield begun.stdout.strip()
    finally:
        subprocess.run([script, "stop", folder], check=True)
