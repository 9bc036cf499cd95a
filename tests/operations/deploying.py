"""The steps of ops/Containerfile in a folder, the units of systemd, and HAProxy with TLS in front of what the container serves."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx2

from domain.store import embedded
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT, SECRET

USER = 10001
PROGRAMS = {"systemd-analyze": "systemd", "haproxy": "haproxy", "setpriv": "util-linux", "openssl": "openssl"}
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where a container has its Python: one that every user may run."""
CLIENT = "127.0.0.1"


def find_missing_programs() -> list[str]:
    """What this machine lacks."""
    return [f"{program} (apt-get install {package})" for program, package in PROGRAMS.items() if shutil.which(program) is None]


def check_deploying(folder: Path) -> None:
    """Checks the units, and then the container behind the proxy."""
    check_units()
    check_container(folder)


def check_units() -> None:
    """Has systemd read the units, with a program that is there in place of that of /opt."""
    folder = Path("/tmp") / f"markonce-units-{os.getpid()}"  # noqa: S108 (a folder of this process)
    folder.mkdir(mode=0o700)
    try:
        for unit in (ROOT / "ops" / "systemd").iterdir():
            (folder / unit.name).write_text(unit.read_text().replace("/opt/markonce/.venv/bin/markonce", sys.executable))
        units = sorted(map(str, folder.iterdir()))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if str(folder) in line or "markonce" in line]
        assert (done.returncode, said) == (0, []), done.stderr
        print(f"    systemd reads {len(units)} units", flush=True)
    finally:
        shutil.rmtree(folder)


def build_container(folder: Path) -> tuple[Path, list[str]]:
    """Runs the steps of the Containerfile in a folder; returns that of the program, and the command that the container runs."""
    text = re.sub(r"\\\n", " ", (ROOT / "ops" / "Containerfile").read_text())
    places = {"/opt/markonce": folder / "opt", "/build": folder / "build", "/var/lib/markonce-ledger": folder / "ledger"}
    workdir, stages, command, entry = folder, 0, list[str](), list[str]()

    def place(word: str) -> str:
        for path, real in places.items():
            word = re.sub(rf"{path}(?=/|\s|$)", str(real), word)
        return word

    for line in filter(None, (line.strip() for line in text.splitlines())):
        kind, _, rest = line.partition(" ")
        match kind:
            case "#" | "EXPOSE" | "STOPSIGNAL" | "ENV":
                continue
            case "FROM":
                stages += 1
            case "WORKDIR":
                workdir = Path(place(rest))
                workdir.mkdir(parents=True, exist_ok=True)
            case "COPY" if rest.startswith("--from="):
                assert Path(place(rest.split()[1])).is_dir()
            case "COPY":
                *sources, _ = rest.split()
                for source in sources:
                    copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
                    copy(ROOT / source, workdir / source)
            case "RUN":
                step = place(rest) if os.geteuid() == 0 else re.sub(r"--(owner|group)=\S+", "", place(rest))
                environment = os.environ | {"PATH": SYSTEM_PATH}
                done = subprocess.run(
                    ["sh", "-ec", step], cwd=workdir, env=environment, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            case "USER":
                assert rest == f"{USER}:{USER}"
            case "ENTRYPOINT":
                entry = [place(word) for word in json.loads(rest)]
            case "CMD":
                command = json.loads(rest)
            case _:
                raise AssertionError(f"an unknown step: {line}")
    assert stages == 2
    return folder / "opt", [*entry, *command]


def check_container(folder: Path) -> None:
    """Serves what the Containerfile builds as its user, who may write nothing there, behind HAProxy by TLS. Raises AssertionError."""
    for path in folder.parents:
        if path != Path(path.anchor):
            path.chmod(path.stat().st_mode | 0o011)
    folder.chmod(0o755)
    program, command = build_container(folder)
    before = _list_files(program)
    cluster = embedded.start(folder / "database", durable=False)
    port, tls = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "MARKONCE_LOG_FORMAT": "json", "MARKONCE_SECRET": SECRET,
        "MARKONCE_BASE_URL": f"https://localhost:{tls}", "MARKONCE_TRUSTED_PROXIES": "127.0.0.1",
        "MARKONCE_LEDGER": str(folder / "ledger" / "one.ledger"), "MARKONCE_DRAIN_SECONDS": "0",
        "DATABASE_URL": cluster.url(embedded.DATABASE, "markonce_app"),
        "DATABASE_OWNER_URL": cluster.url(embedded.DATABASE, "markonce_owner"),
        "DATABASE_OPERATOR_URL": cluster.url(embedded.DATABASE, "markonce_operator"),
    }  # fmt: skip
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"] if os.geteuid() == 0 else []
    log = folder / "serve.log"
    try:
        done = subprocess.run(
            [*user, command[0], "init"], env=environment, cwd=program, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        serve = [*user, *command[:-1], str(port)]
        with (
            log.open("wb") as output,
            subprocess.Popen(serve, env=environment, cwd=program, stdout=output, stderr=output) as serving,
        ):
            try:
                _wait_until_ready(f"http://127.0.0.1:{port}", log)
                check_proxy(folder, tls, port)
            finally:
                serving.terminate()
        lines = [json.loads(line) for line in log.read_text().splitlines() if '"event": "request"' in line]
        direct = [line["address"] for line in lines if line["route"] == "/problems"]
        assert direct == [CLIENT], "behind the proxy the client's own address, whatever it sends"
        assert _list_files(program) == before, "nothing was written beside the ledger"
        assert (folder / "ledger" / "one.ledger").stat().st_size > 0
    finally:
        cluster.stop()
    print("    the container's steps run; its user serves by TLS through HAProxy, and writes nothing but the ledger", flush=True)


def check_proxy(folder: Path, tls: int, port: int) -> None:
    """HAProxy with ops/haproxy.cfg, whose ports and certificate are those of here."""
    certificate = folder / "markonce.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", *subject, *key], check=True, capture_output=True
    )
    certificate.write_text((folder / "certificate.pem").read_text() + (folder / "key.pem").read_text())
    text = (ROOT / "ops" / "haproxy.cfg").read_text()
    for shown, real in (
        (":443 ", f"127.0.0.1:{tls} "),
        ("/etc/haproxy/markonce.pem", str(certificate)),
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
    ):
        assert shown in text
        text = text.replace(shown, real)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    checked = subprocess.run(["haproxy", "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with subprocess.Popen(["haproxy", "-db", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as proxy:
        try:
            trusting = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
            with httpx2.Client(base_url=f"https://localhost:{tls}", verify=trusting) as http:
                for _ in range(100):
                    try:
                        if http.get("/health/live").status_code == 200:
                            break
                    except httpx2.TransportError:
                        pass
                    time.sleep(0.1)
                forged = {"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
                answer = http.get("/", headers=forged)
                assert answer.json()["token"] == f"https://localhost:{tls}/oauth/token", answer.text
                assert answer.headers["strict-transport-security"]
                assert http.get("/problems", headers=forged | {"Accept": "application/json"}).status_code == 200
        finally:
            proxy.terminate()


def _wait_until_ready(url: str, log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if httpx2.get(f"{url}/health/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def _list_files(folder: Path) -> Mapping[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}
