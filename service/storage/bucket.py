"""Storage in a bucket of an S3 server.

A folder is one object for each file, ``PREFIX/KEY/NAME``, and its list, which is put last and names every file with its
size and digest. An object appears whole or not at all, and a folder without its list is not there, so nobody sees half
of one. What is read is compared with the list.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError

from service.storage.folders import StorageError, check_key
from service.storage.scratch import Scratch

LIST = "_files.json"
"""Name of a folder's list; no file of ours begins with an underscore."""

PART_BYTES = 16 * 2**20
"""Size of the parts in which larger files are sent."""

CONNECT_S, READ_S = 5, 60

ABSENT = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
NOT_KNOWN_HERE = frozenset({"NotImplemented", "ObjectLockConfigurationNotFoundError", "MethodNotAllowed"})
"""Answers of servers that lack versions or locks, and of buckets without a lock."""


@dataclass(frozen=True)
class Bucket:
    """Where a bucket is, and who may use it.

    Parameters
    ----------
    prefix
        Of all keys; empty: the bucket is ours alone.
    endpoint
        Address of the server; empty: that of AWS.
    access_key_id, secret_access_key
        Empty: as AWS's programs find them, for example from the role of the machine.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""


class BucketStorage:
    """Storage in a bucket; files pass through a folder of the local disk.

    Parameters
    ----------
    scratch
        Local place for what is being written and read.
    capacity_bytes
        How much may be stored in all, as a bucket itself does not tell; 0: not known.
    clock
        Tells the time, aware, in UTC.
    """

    def __init__(
        self,
        bucket: Bucket,
        scratch: Scratch,
        *,
        capacity_bytes: int = 0,
        part_bytes: int = PART_BYTES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bucket = bucket.name
        self._prefix = f"{bucket.prefix.strip('/')}/" if bucket.prefix else ""
        self._scratch = scratch
        self._capacity_bytes = capacity_bytes
        self._transfers = TransferConfig(multipart_threshold=part_bytes, multipart_chunksize=part_bytes)
        self._clock = clock
        self._s3 = _client(bucket)

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """Give an empty folder; when the context ends without an error, it is stored under the key."""
        place = self._place(key)
        with self._scratch.folder() as folder:
            yield folder
            try:
                self._put(folder, place)
            except BaseException:
                # Otherwise a sweep does
                with suppress(StorageError):
                    self.delete(key)
                raise

    @contextmanager
    def reading(self, key: str, *names: str) -> Iterator[Path]:
        """Give a folder with the files stored under a key, or with those of these names that there are."""
        place = self._place(key)
        try:
            with _asking("read"):
                answer = self._s3.get_object(Bucket=self._bucket, Key=place + LIST)
                listed: dict[str, Mapping[str, Any]] = json.loads(answer["Body"].read())
        except FileNotFoundError:
            raise FileNotFoundError(f"nothing is stored under {key}") from None
        if any("/" in name for name in listed):
            # It would be written elsewhere on this machine
            raise StorageError("a list in the bucket names what is no file of its folder")
        chosen = [name for name in listed if not names or name in names]
        with self._scratch.folder() as folder:
            self._get(place, chosen, folder)
            for name in chosen:
                path = folder / name
                if _summary(path) != listed[name]:
                    raise StorageError("a file came back from the bucket other than it was put there")
                # As on a disk, a file is as old as its writing
                os.utime(path, (answer["LastModified"].timestamp(),) * 2)
            yield folder

    def children(self, key: str, *, older_than_s: float = 0.0) -> list[str]:
        """Return the names below a key, sorted; only of what has not changed for so long."""
        place = self._place(key)
        with _asking("list"):
            if not older_than_s:
                prefixes = self._pages("list_objects_v2", "CommonPrefixes", Prefix=place, Delimiter="/")
                return sorted(found["Prefix"].removeprefix(place).rstrip("/") for found in prefixes)
            changed: dict[str, datetime] = {}
            for found in self._pages("list_objects_v2", "Contents", Prefix=place):
                name = found["Key"].removeprefix(place).split("/")[0]
                changed[name] = max(changed.get(name, found["LastModified"]), found["LastModified"])
        moment = self._clock() - timedelta(seconds=older_than_s)
        return sorted(name for name, last in changed.items() if last <= moment)

    def delete(self, key: str) -> None:
        """Delete all that is stored under a key or below it: every version, and uploads that were not finished."""
        place = self._place(key)
        self._abort_uploads(place)
        with _asking("delete"):
            # Lists first: a reader must not see half of a folder
            doomed = sorted(self._stored(place), key=lambda found: not found["Key"].endswith(f"/{LIST}"))
            for found in doomed:
                self._delete(found["Key"], found.get("VersionId"))

    def sweep(self, older_than_s: float) -> None:
        """Delete what writers that were killed have left half-written."""
        self._scratch.sweep()
        self._abort_uploads(self._prefix, before=self._clock() - timedelta(seconds=older_than_s))

    def check(self) -> None:
        """Raise OSError if nothing can be written or deleted."""
        probe = f"{self._prefix}probe/{uuid4().hex}"
        with _asking("write"):
            version = self._s3.put_object(Bucket=self._bucket, Key=probe, Body=b"").get("VersionId")
        with _asking("delete"):
            self._delete(probe, version)

    def check_bucket(self) -> None:
        """Check at the start what would be noticed too late otherwise.

        Raises
        ------
        StorageError
            If there is no such bucket, it may not be used as it must be, or it keeps what is deleted.
        """
        try:
            with _asking("be looked at"):
                self._s3.head_bucket(Bucket=self._bucket)
        except FileNotFoundError:
            raise StorageError(f"there is no bucket {self._bucket}") from None
        if self._ask_for("get_object_lock_configuration", "ObjectLockConfiguration", "look for a lock"):
            raise StorageError(f"bucket {self._bucket} has an object lock, so nothing in it could be deleted")
        with _asking("list versions"):
            list(self._stored(f"{self._prefix}probe/"))
        with _asking("list uploads"):
            list(self._pages("list_multipart_uploads", "Uploads", Prefix=f"{self._prefix}probe/"))
        self.check()

    def free_bytes(self) -> int:
        """Return how much more can be stored until the capacity is reached."""
        with _asking("list"):
            used_bytes: int = sum(found.get("Size", 0) for found in self._stored(self._prefix))
        return self._capacity_bytes - used_bytes

    def room_bytes(self) -> int:
        """Return how large a folder can be written now, as it lies on the local disk first."""
        return self._scratch.free_bytes()

    def _put(self, folder: Path, place: str) -> None:
        paths = sorted(folder.iterdir())
        with _asking("write"):
            with create_transfer_manager(self._s3, self._transfers) as transfers:
                _wait([transfers.upload(str(path), self._bucket, place + path.name) for path in paths])
            listed = json.dumps({path.name: _summary(path) for path in paths})
            self._s3.put_object(
                Bucket=self._bucket, Key=place + LIST, Body=listed.encode(), ContentType="application/json"
            )

    def _get(self, place: str, names: Sequence[str], folder: Path) -> None:
        with _asking("read"), create_transfer_manager(self._s3, self._transfers) as transfers:
            _wait([transfers.download(self._bucket, place + name, str(folder / name)) for name in names])

    def _stored(self, place: str) -> Iterator[Mapping[str, Any]]:
        """Yield all objects below a place, with all their versions where the bucket keeps some."""
        if not self._ask_for("get_bucket_versioning", "Status", "look for versions"):
            yield from self._pages("list_objects_v2", "Contents", Prefix=place)
            return
        for kind in ("Versions", "DeleteMarkers"):
            yield from self._pages("list_object_versions", kind, Prefix=place)

    def _delete(self, key: str, version: str | None) -> None:
        """Delete an object, or one version of it; one by one, since servers differ in what deletes many."""
        about = {"VersionId": version} if version else {}
        with suppress(FileNotFoundError), _asking("delete"):
            self._s3.delete_object(Bucket=self._bucket, Key=key, **about)

    def _abort_uploads(self, place: str, *, before: datetime | None = None) -> None:
        """Forget the parts of uploads that have not ended, only of those begun before a moment if it is given."""
        with _asking("list uploads"):
            begun = list(self._pages("list_multipart_uploads", "Uploads", Prefix=place))
        for upload in begun:
            if before is None or upload["Initiated"] <= before:
                with suppress(FileNotFoundError), _asking("abort an upload"):
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def _pages(
        self,
        operation: Literal["list_objects_v2", "list_object_versions", "list_multipart_uploads"],
        kind: str,
        **about: str,
    ) -> Iterator[Mapping[str, Any]]:
        for page in self._s3.get_paginator(operation).paginate(Bucket=self._bucket, **about):
            yield from page.get(kind, ())

    def _ask_for(self, operation: str, part: str, what: str) -> object:
        """Return a part of what a bucket says of itself, None where it has none or the server does not know of such."""
        with _asking(what):
            try:
                return getattr(self._s3, operation)(Bucket=self._bucket).get(part)
            except ClientError as error:
                if _code(error) in NOT_KNOWN_HERE:
                    return None
                raise

    def _place(self, key: str) -> str:
        """Return what the objects of a folder begin with."""
        check_key(key)
        return f"{self._prefix}{key}/"


def _client(bucket: Bucket) -> Any:
    """Return a client that any number of threads may use."""
    return boto3.client(
        "s3",
        endpoint_url=bucket.endpoint or None,
        region_name=bucket.region or None,
        aws_access_key_id=bucket.access_key_id or None,
        aws_secret_access_key=bucket.secret_access_key or None,
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "max_attempts": 3},
            # Names of buckets as parts of host names are known only where DNS is made for it
            s3={"addressing_style": "path" if bucket.endpoint else "auto"},
            # Servers other than AWS's need not know the new checksums; ours are in the lists
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what the client raises into errors as a disk has them, without the values that it quotes."""
    try:
        yield
    except ClientError as error:
        if _code(error) in ABSENT:
            raise FileNotFoundError("there is no such object") from None
        raise StorageError(f"the bucket cannot {what}: {_code(error)}") from error
    except (BotoCoreError, RetriesExceededError) as error:
        raise StorageError(f"the bucket cannot {what}: {type(error).__name__}") from error


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _wait(transfers: Sequence[Any]) -> None:
    for transfer in transfers:
        transfer.result()


def _summary(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
