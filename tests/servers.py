"""Servers of others that tests start: PostgreSQL, Redis and S3, each on a free port."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import psycopg

POSTGRES_FOLDERS = "/usr/lib/postgresql/*/bin"
"""Where Debian puts the server's programs, which are not on the path."""

START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> list[int]:
    """Process ids of all children and theirs."""
    below = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    direct = [int(line) for line in below.stdout.split()]
    return [*direct, *(pid for child in direct for pid in descendants(child))]


def kill(pid: int) -> bool:
    """End a process at once; says whether there was one."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def postgres_programs() -> Path | None:
    """Folder with PostgreSQL's server programs, None where it is not installed."""
    found = sorted(Path("/").glob(POSTGRES_FOLDERS.lstrip("/") + "/initdb"), key=lambda path: path.parent.parent.name)
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


class Postgres:
    """A PostgreSQL server; as root it runs as another user, since it refuses to be root's."""

    def __init__(self) -> None:
        programs = postgres_programs()
        assert programs is not None, "PostgreSQL is not installed"
        self._programs = programs
        self.port = free_port()
        # Not below pytest's folder, which others than its owner cannot enter
        self.folder = Path(tempfile.mkdtemp(prefix="diffdp-postgres-"))
        self._as: dict[str, object] = {}
        if os.getuid() == 0:
            user = _server_user()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        command = ["initdb", "--username=diffdp", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run([*command, "--pgdata", str(self.folder / "data")])

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://diffdp@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # Only the loss of power would need it; what is killed here are processes
            "fsync": "off",
            "max_connections": 200,
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *settings]
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            # It gives up while something of a killed one is still there
            if self._process is None or self._process.poll() is not None:
                with (self.folder / "log").open("ab") as log:
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as)
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End the server and all its processes at once, as a loss of the machine would."""
        if self._process is not None:
            for pid in [self._process.pid, *descendants(self._process.pid)]:
                kill(pid)
            self._process.wait()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # Without waiting for those who are still connected
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command: list[str]) -> None:
        command[0] = str(self._programs / command[0])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._as)


def _server_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("PostgreSQL needs a user that is not root")


class S3:
    """An S3 server: moto's, which keeps everything in its memory."""

    KEY = "an-access-key"

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while not answers(self.port):
            assert time.monotonic() < deadline, "the S3 server does not start"
            time.sleep(0.1)

    def client(self) -> Any:
        """A client of the tests' own, to look behind the service's back."""
        access = {"aws_access_key_id": self.KEY, "aws_secret_access_key": self.KEY, "region_name": "eu-central-1"}
        return boto3.client("s3", endpoint_url=self.url, **access)

    def make_bucket(self, *, versions: bool = False, lock: bool = False) -> str:
        """Make an empty bucket and return its name."""
        name, client = f"bucket-{uuid4().hex[:12]}", self.client()
        client.create_bucket(
            Bucket=name,
            ObjectLockEnabledForBucket=lock,
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        )
        if versions:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def contents(self, bucket: str) -> dict[str, bytes]:
        """All that a bucket holds, with old versions and the parts of uploads that were not finished."""
        client = self.client()
        about = client.list_object_versions(Bucket=bucket)
        found = {
            f"{version['Key']} {version['VersionId']}": client.get_object(
                Bucket=bucket,
                Key=version["Key"],
                **({} if version["VersionId"] == "null" else {"VersionId": version["VersionId"]}),
            )["Body"].read()
            for version in about.get("Versions", ())
        }
        found |= {f"{marker['Key']} deleted": b"" for marker in about.get("DeleteMarkers", ())}
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        return found | {f"{upload['Key']} unfinished": b"" for upload in uploads}

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Redis:
    """A Redis server that keeps its data in a folder, as the one in compose does."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        self._process = subprocess.Popen(
            [*command, "--loglevel", "warning"], cwd=self.folder, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_S
        while not answers(self.port):
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.1)

    def kill(self, *, with_data: bool = False) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if with_data:
            shutil.rmtree(self.folder)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
