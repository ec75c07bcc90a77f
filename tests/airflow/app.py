"""A simulated Stream app and a lake of it, for one test."""

import json
import os
import re
import shlex
import subprocess
import urllib.request
from datetime import datetime, timedelta, timezone

CHATLAKE = os.environ["CHATLAKE_TEST_CHATLAKE"]
PROGRAM = shlex.quote(os.path.abspath(CHATLAKE))
SIMULATOR = os.environ["CHATLAKE_TEST_SIMULATOR"]
KEY, SECRET = "test-key", "a-secret-of-at-least-thirty-two-bytes"

# Loopback is never reached through a proxy.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Stream:
    """A simulator that runs, as its operators see it."""

    def __init__(self, url):
        self.url = url

    def control(self, verb, **fields):
        return self._ask(verb, data=json.dumps(fields).encode())

    def calls(self, endpoint=None):
        return [call for call in self._ask("calls") if endpoint in (None, call["endpoint"])]

    def messages(self, since, until):
        """What a complete lake holds of this time."""
        found = self._ask("truth")["messages"]
        return [message for message in found if since <= datetime.fromisoformat(message["created_at"]) < until]

    def _ask(self, verb, **how):
        with HTTP.open(urllib.request.Request(f"{self.url}/control/{verb}", **how)) as response:
            return json.loads(response.read())


class App(Stream):
    """Ends with the `with` block. The world is the same for all: three days of messages, until yesterday."""

    def __init__(self, folder, **switches):
        self.lake = folder / "lake"
        self._switches = switches
        self.binaries = folder / "bin"
        self.binaries.mkdir(parents=True)
        (self.binaries / "chatlake").symlink_to(os.path.abspath(CHATLAKE))

    def __enter__(self):
        arguments = ["--listen", "127.0.0.1:0", "--key", KEY, "--secret", SECRET, "--channels", "6"]
        arguments += [f"--switch={name}={value}" for name, value in self._switches.items()]
        self._process = subprocess.Popen([SIMULATOR, *arguments], stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if found := re.search(r"http://[0-9.]+:[0-9]+", line):
                self.url = found.group()
                return self
        raise AssertionError("the simulator did not print its address")

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def env(self, **more):
        """What a worker has: chatlake on its PATH, credentials, and the lake as a Variable of Airflow."""
        return {
            "PATH": f"{self.binaries}:{os.environ['PATH']}",
            "STREAM_API_KEY": KEY,
            "STREAM_API_SECRET": SECRET,
            "STREAM_BASE_URL": self.url,
            "AIRFLOW_VAR_CHATLAKE_LAKE": str(self.lake),
            **more,
        }

    def begin_at(self, time):
        """From now on the clock of chatlake in tasks is at this time when a run begins."""
        self._wrap(f"export CHATLAKE_CLOCK_OFFSET_SECONDS=$(({int(time.timestamp())} - $(date +%s)))")

    def die_once_before_the_summary(self):
        """The next run in a task does all of its work and is killed before anybody hears of it."""
        self._wrap(f'if mkdir "$0.died" 2>&-; then {PROGRAM} "$@" >/dev/null; kill -KILL $$; fi')

    def _wrap(self, first):
        program = self.binaries / "chatlake"
        program.unlink()
        program.write_text(f'#!/bin/sh\n{first}\nexec {PROGRAM} "$@"\n')
        program.chmod(0o755)

    def chatlake(self, *arguments):
        """Runs it beside Airflow; its JSON."""
        command = [CHATLAKE, *arguments, "--lake", str(self.lake), "--json"]
        ran = subprocess.run(command, env={**os.environ, **self.env()}, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def yesterday(hour=0):
    now = datetime.now(timezone.utc)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1) + timedelta(hours=hour)
