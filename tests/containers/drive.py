"""Drives what the Dockerfile, docker-compose.yml and integrations/kubernetes say, without Docker and without a cluster: run.sh
prepares and calls it with a folder that stays. Prints one line per check and exits with 1 if any fails. Further arguments choose
checks by name.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import composition
import manifests
from images import ROOT, context, images, sources_of
from processes import Scratch, answer, eventually, gateway

PROGRAMS = {"chatlake": os.environ["CHATLAKE_TEST_CHATLAKE"], "chatlake-simulator": os.environ["CHATLAKE_TEST_SIMULATOR"]}
SECRET = "a-secret-of-at-least-thirty-two-bytes"
RETRIED = {75, 130, 143}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Bench:
    def __init__(self, folder: pathlib.Path, services: dict, s3: str):
        self.folder, self.services, self.s3, self.images = folder, services, s3, images()
        self.keys = credentials(services)

    def scratch(self, name: str) -> Scratch:
        return Scratch(self.folder / name, PROGRAMS)


@check
def the_dockerfile_has_no_faults_that_a_linter_knows(bench):
    subprocess.run([pathlib.Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile"], check=True)


@check
def the_composition_is_what_the_specification_of_today_allows(bench):
    """The renderer is of the first version of Compose, which knows less and lets more pass."""
    program = pathlib.Path(sys.executable).with_name("check-jsonschema")
    subprocess.run([program, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"], check=True)


@check
def the_build_context_is_all_that_is_compiled_and_little_else(bench):
    sent = context()
    for name, path in PROGRAMS.items():
        missing = sources_of(pathlib.Path(path).absolute()) - sent
        assert not missing, f"{name} is compiled from files that .dockerignore leaves out: {sorted(missing)}"
    assert sum((ROOT / path).stat().st_size for path in sent) < 4 << 20, sorted(sent)
    copied = bench.folder / "context"
    for path in sent:
        (copied / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, copied / path)
    # Cargo refuses a manifest that names what is not there, and a lock that is of another.
    (host,) = re.findall(r"^host: (\S+)$", output("rustc", "-vV"), re.M)
    output("cargo", "fetch", "--locked", "--quiet", "--target", host, folder=copied)
    told = json.loads(output("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1", folder=copied))
    targets = [(target, package["name"]) for package in told["packages"] for target in package["targets"]]
    binaries = {(target["name"], package) for target, package in targets if "bin" in target["kind"]}
    (build,) = bench.images["build"].runs
    asked = re.findall(r"cargo build --locked --release --bin (\S+) --package (\S+)", build)
    assert asked and len(asked) == build.count("cargo ") and set(asked) <= binaries, (asked, binaries)


@check
def every_stage_copies_what_is_there(bench):
    (build,) = bench.images["build"].runs
    (made,) = re.findall(r"cp ((?:target/release/\S+ )+)(/\S+/)\s+&& strip ", build)
    made_paths = {made[1] + pathlib.PurePath(path).name for path in made[0].split()}
    for name, image in bench.images.items():
        for origin, sources, _ in image.copies:
            if origin:
                assert origin == "build" and set(sources) <= made_paths, (name, sources)
            elif sources != ["."]:
                assert set(sources) <= context(), (name, sources)
        if name != "build" and name != "base":
            assert image.user == "10001:10001" and image.entrypoint, name
    for name, service in bench.services.items():
        if "build" in service:
            assert pathlib.Path(service["build"]["context"]) == ROOT and service["build"]["target"] in bench.images, name
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


@check
def containers_get_more_memory_than_the_limit_of_the_process(bench):
    service = bench.services["chatlake"]
    process = mebibytes(service["environment"]["CHATLAKE_MEMORY_LIMIT"])
    assert mebibytes(service["mem_limit"]) == process + 32, service
    config = manifests.config_map()["chatlake.toml"]
    (limit,) = re.findall(r'^memory_limit = "(\w+)"$', config, re.M)
    for template in templates().values():
        resources = template["spec"]["containers"][0]["resources"]
        assert mebibytes(resources["limits"]["memory"]) == mebibytes(limit) + 32, resources


@check
def the_composition_goes_from_nothing_to_a_table(bench):
    with bench.scratch("compose") as scratch:
        compose = composition.Composition(bench.services, bench.images, scratch, bench.s3)
        for service in ("stream", "chatlake"):
            assert not compose.is_healthy(service), service
        compose.up("chatlake")
        # Making it again is no failure: `up` does that.
        compose.run("bucket")
        printed = compose.run("query")
        stream = f"http://127.0.0.1:{compose.port('stream', '8080')}"
        truth = json.loads(answer(f"{stream}/control/truth")[1])["messages"]
        assert truth
        expected = Counter((m["created_at"][:10], m["channel_type"]) for m in truth if not m["deleted_at"])
        rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│ 2026-" in line]
        assert {(day, kind): int(messages) for day, kind, messages, _ in rows} == expected, printed
        page = (ROOT / "docs" / "containers.md").read_text()
        assert all(line in page for line in printed.strip().splitlines()), f"docs/containers.md shows another table than\n{printed}"

        status = json.loads(compose.run("chatlake", "status", "--json"))
        assert status["datasets"]["messages"]["rows"] == len(truth), status
        # A run beside the resident one, over a day that has changed.
        (sent,) = re.findall(r"^curl -d '(.*)' http://127.0.0.1:8080/control/send$", page, re.M)
        assert answer(f"{stream}/control/send", json.loads(sent))[0] == 200
        again = ["sync", "--replace", "--since", "2026-01-02", "--until", "2026-01-03", "--json"]
        assert f"chatlake {' '.join(again[:-1])}\n" in page
        assert json.loads(compose.run("chatlake", *again))["status"] == "committed"
        assert str(len(truth) + 1) in compose.run("query", "SELECT count(*) AS messages FROM messages")

        assert compose.processes["chatlake"].is_running()
        (probe,) = re.findall(r"^bash -c '.*/healthz.*'$", page, re.M)
        subprocess.run(["bash", "-c", probe.replace("/9464", f"/{compose.port('chatlake', '9464')}")], check=True)
        code = compose.processes["chatlake"].terminate()
        assert code == 143, compose.processes["chatlake"].log()
        assert not compose.is_healthy("chatlake")
        # The simulator prints its own, for whoever tries it.
        assert not any(value in compose.processes["chatlake"].log() for value in ("local-secret", bench.keys[1]))


@check
def the_store_is_healthy_if_its_page_says_so(bench):
    """Of another server than in the other checks: the page is RustFS' own."""
    status = 200

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server, bench.scratch("health") as scratch:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        compose = composition.Composition(bench.services, bench.images, scratch, f"http://127.0.0.1:{server.server_port}")
        assert compose.is_healthy("s3")
        status = 503
        assert not compose.is_healthy("s3")
        server.shutdown()


@check
def the_manifests_are_whole(bench):
    found = {name: manifests.resource(name) for name in manifests.RESOURCES}
    account = found["service-account.yaml"]["metadata"]["name"]
    for runs in ("cron-job.yaml", "deployment.yaml"):
        for kind, one in manifests.rendered(runs).items():
            namespace = one["metadata"]["name" if kind == "Namespace" else "namespace"]
            assert namespace == manifests.KUSTOMIZATION["namespace"], one
    (image,) = manifests.KUSTOMIZATION["images"]
    for name, template in templates().items():
        (container,) = template["spec"]["containers"]
        assert template["spec"]["serviceAccountName"] == account, name
        assert container["image"] == f"{image['newName']}:{image['newTag']}", name
        assert f"{template['spec']['securityContext']['runAsUser']}" == bench.images["chatlake"].user.split(":")[0], name
        # All that is written to is mounted, since the rest is read-only.
        assert bench.images["chatlake"].env["CHATLAKE_TEMP_DIR"] in {mount["mountPath"] for mount in container["volumeMounts"]}, name
    deployment = manifests.rendered("deployment.yaml")["Deployment"]["spec"]
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    scheduled, resident = templates().values()
    for key in ("securityContext", "volumes", "serviceAccountName"):
        assert scheduled["spec"][key] == resident["spec"][key], key
    for key in ("env", "resources", "securityContext", "volumeMounts"):
        assert scheduled["spec"]["containers"][0][key] == resident["spec"]["containers"][0][key], key


@check
def codes_that_a_retry_does_not_cure_fail_the_job(bench):
    readme = (ROOT / "README.md").read_text().split("## Exit codes")[1].split("\n## ")[0]
    known = {int(code) for line in readme.splitlines() if re.match(r"\| \d", line) for code in line.split("|")[1].split(",")}
    assert fail_at_once() == known - RETRIED - {0}, known


@check
def another_command_is_a_job_of_the_cron_job(bench):
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (patch,) = re.findall(r"^    -p '(.*)' \\$", page, re.M)
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "history"}, "spec": job()}
    patched = subprocess.run(
        ["kubectl", "patch", "--local", "-f", "-", "-o", "json", "--type=json", "-p", patch],
        input=json.dumps(made), stdout=subprocess.PIPE, text=True, check=True,
    ).stdout
    arguments = json.loads(patched)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments == json.loads(patch)[0]["value"] and f"--type=json \\\n    -p '{patch}'" in page, arguments
    # The command is understood: what is missing are credentials.
    ran = subprocess.run([PROGRAMS["chatlake"], *arguments], env={}, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 77 and "STREAM_API_KEY" in ran.stderr, ran.stderr


@check
def pods_of_the_manifests_run(bench):
    secret = {
        "stream-api-key": "test-key",
        "stream-api-secret": SECRET,
        "aws-access-key-id": bench.keys[0],
        "aws-secret-access-key": bench.keys[1],
    }
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    for name in secret:
        assert f"--from-file={name}" in page, f"docs/kubernetes.md does not say how {name} gets into the Secret"
    scheduled, resident = templates().values()
    with bench.scratch("pods") as scratch:
        (lake,) = re.findall(r'^lake = "s3://([^/"]+)', manifests.config_map()["chatlake.toml"], re.M)
        aws = {"AWS_ACCESS_KEY_ID": bench.keys[0], "AWS_SECRET_ACCESS_KEY": bench.keys[1], "AWS_REGION": "us-east-1"}
        make = [os.environ["CHATLAKE_TEST_PYTHON"], ROOT / "tests" / "tools" / "make_bucket.py", bench.s3, lake]
        subprocess.run(make, env={**os.environ, **aws}, check=True)
        stream = scratch.simulator("--key", "test-key", "--secret", SECRET, "--first-day", "2026-01-01")
        env = {"AWS_ENDPOINT_URL": bench.s3, "STREAM_BASE_URL": stream}

        def pod(template, **changes):
            return manifests.Pod(template, bench.images["chatlake"], scratch, secret | changes, env)

        wrong = pod(scheduled, **{"stream-api-secret": "another-secret-of-thirty-two-bytes!"}).begin()
        assert wrong.end() == 77 and 77 in fail_at_once(), wrong.log()
        answer(f"{stream}/control/switches", {"date_skew_seconds": 3600})
        temporary = pod(scheduled).begin()
        assert temporary.end() == 75 and 75 not in fail_at_once(), temporary.log()
        answer(f"{stream}/control/switches", {"date_skew_seconds": 0})
        run = pod(scheduled).begin()
        assert run.end() == 0, run.log()
        summary = json.loads(run.stdout.read_text())
        truth = json.loads(answer(f"{stream}/control/truth")[1])["messages"]
        assert summary["status"] == "committed" and summary["datasets"]["messages"]["rows"] == len(truth), summary
        # The log is for collectors: a JSON object to a line.
        assert all(json.loads(line) for line in run.stderr.read_text().splitlines()), run.log()

        # The next kind of pod goes on with the same lake.
        stays = pod(resident)
        process = stays.begin()
        for probe in ("livenessProbe", "readinessProbe"):
            eventually(probe, lambda probe=probe: answer(stays.probe(probe))[0] == 200)
        metrics = stays.url(stays.annotations["prometheus.io/port"], stays.annotations["prometheus.io/path"])
        sample = "chatlake_last_run_exit_code 0"

        def has_run():
            page = answer(metrics)[1]
            return sample in page and "chatlake_last_success_timestamp_seconds 0.0" not in page

        eventually("a run of the pod that stays", has_run)
        assert process.terminate() == 143 and 143 not in fail_at_once(), process.log()
        for each in (wrong, temporary, run, process):
            assert not any(value in each.log() for name, value in secret.items() if "secret" in name), each.log()


def output(*command: str, folder: pathlib.Path = ROOT) -> str:
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def credentials(services: dict) -> tuple[str, str]:
    given = services["s3"]["environment"]
    return given["RUSTFS_ACCESS_KEY"], given["RUSTFS_SECRET_KEY"]


def templates() -> dict[str, dict]:
    return {
        "cron-job.yaml": job()["template"],
        "deployment.yaml": manifests.rendered("deployment.yaml")["Deployment"]["spec"]["template"],
    }


def job() -> dict:
    """What the CronJob makes Jobs of."""
    return manifests.rendered("cron-job.yaml")["CronJob"]["spec"]["jobTemplate"]["spec"]


def fail_at_once() -> set[int]:
    """The exit codes after which a Job starts no other pod."""
    # A policy needs it: with another, the kubelet starts containers again by itself.
    assert job()["template"]["spec"]["restartPolicy"] == "Never"
    (rule,) = (rule["onExitCodes"] for rule in job()["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert rule["operator"] == "In" and rule["containerName"] == job()["template"]["spec"]["containers"][0]["name"], rule
    return set(rule["values"])


def mebibytes(text) -> int:
    """Of `256MiB`, `288Mi`, `288m` (compose), or bytes."""
    number, unit = re.fullmatch(r"(\d+)(\w*)", str(text)).groups()
    return int(number) // (1 << 20) if not unit else int(number) * {"M": 1, "G": 1024}[unit[0].upper()]


def main():
    tools, *wanted = sys.argv[1:]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="chatlake-containers-") as folder, ExitStack() as stack:
        folder, services = pathlib.Path(folder).resolve(), composition.rendered()
        s3 = stack.enter_context(gateway(pathlib.Path(tools) / "radosgw-containers", *credentials(services)))
        bench = Bench(folder, services, s3)
        for function in CHECKS:
            if wanted and function.__name__ not in wanted:
                continue
            began = time.monotonic()
            try:
                function(bench)
            except Exception:
                failed += 1
                print(f"FAILED {function.__name__}\n{traceback.format_exc()}", flush=True)
            else:
                passed += 1
                print(f"ok     {function.__name__} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
