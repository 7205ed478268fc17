"""All settings, and the only place that reads the environment."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "DIFFDP_"
MIB = 2**20
SHORTEST_KEY = 16
"""Fewest characters of an API key: 96 bits of base64, out of reach of guessing over a network."""
WEBHOOK_PREFIX = "whsec_"
SHORTEST_WEBHOOK_KEY, LONGEST_WEBHOOK_KEY = 24, 64
"""Bytes of a key that signs calls back, as Standard Webhooks asks for."""
REDELIVERY_MARGIN_S = 600
"""Time by which Redis waits longer for a task than the task may take."""
SIGNATURES = {f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)} | {"EdDSA"}
"""Ways to sign a token with a key that only the issuer has."""
STORAGES = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>[\w./-]*))?", re.ASCII)
BROKERS = ("redis://", "rediss://")
DATABASES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")


class SettingsError(ValueError):
    """The environment or the command line holds a setting that cannot be used."""


class Settings(BaseSettings):
    """Settings of every process; each is read from the variable ``DIFFDP_`` + its name in capitals.

    What belongs to a network (channels, normalisation, grid) is in the checkpoint's manifest, never here.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data_dir: Path = Field(Path.home() / ".local" / "share" / "diffdp", description="Database, broker and studies.")
    database_url: str = Field("", description="postgresql://…; empty: SQLite in the data directory.")
    storage_url: str = Field("", description="s3://BUCKET/PREFIX; empty: a folder in the data directory.")
    s3_endpoint: str = Field("", description="Address of the S3 server; empty: AWS.")
    s3_region: str = ""
    s3_access_key_id: str = Field("", description="Empty, with the next: as AWS's programs find them.")
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_capacity_bytes: int = Field(0, ge=0, description="How much the bucket may hold; 0: not known.")
    broker_url: str = Field("", description="Celery broker, redis://…; empty: files in the data directory.")
    model_dirs: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders with checkpoints besides the shipped ones, separated by the path separator."
    )
    goals_dir: Path | None = Field(
        None, description="Folder with clinical goals, *.toml, that take the place of the shipped ones of their site."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Keys of the tenant `default` that allow everything, separated by commas."
    )
    oidc_issuer: str = Field("", description="Issuer of bearer tokens, https://…; empty: no tokens are accepted.")
    oidc_audience: str = Field("", description="What a token must name as its audience.")
    oidc_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        ("RS256", "PS256", "ES256"), description="That a token may be signed with, separated by commas."
    )
    oidc_leeway_s: float = Field(30.0, ge=0, le=600, description="By which the issuer's clock may differ.")
    oidc_tenant_claim: str = Field("tenant", description="Claim with the tenant; dots lead into objects.")
    oidc_scope_claim: str = Field("scope", description="Claim with the scopes: a list, or words.")
    oidc_scope_prefix: str = Field("diffdp:", description="What stands before our names of scopes.")
    metrics_need_key: bool = Field(False, description="Whether /metrics asks for a key with the scope metrics.")
    calls_per_minute: int = Field(60_000, ge=0, description="Requests of one key or token's subject; 0: any number.")
    submissions_per_minute: int = Field(600, ge=0, description="Studies posted by one tenant; 0: any number.")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses and networks whose X-Forwarded-For and -Proto count, separated by commas."
    )
    hsts_s: int = Field(0, ge=0, description="Time for which browsers shall use https only; 0: they are not told.")
    server: str = Field("http://127.0.0.1:8000", description="Where `diffdp submit` posts to.")
    api_key: SecretStr = Field(SecretStr(""), description="The key or token that `diffdp submit` shows.")

    max_body_bytes: int = Field(1024 * MIB, ge=1)
    body_timeout_s: float = Field(120.0, gt=0, description="Time in which the next MiB of a body must have come.")
    max_expanded_bytes: int = Field(2048 * MIB, ge=1, description="Of one archive.")
    max_ratio: float = Field(200.0, ge=1, description="Expanded to packed bytes of one archive; air packs well.")
    max_files: int = Field(5000, ge=1, description="Files of one study.")
    examine_timeout_s: int = Field(120, ge=1)
    examine_memory_bytes: int = Field(4096 * MIB, ge=1)
    queue_limit: int = Field(1000, ge=1, description="Unfinished jobs at which new ones are turned away.")
    tenant_queue_limit: int = Field(0, ge=0, description="The same of one tenant; 0: only the limit of all counts.")

    lease_s: float = Field(30.0, gt=0, description="A worker that is silent for so long has lost its job.")
    heartbeat_s: float = Field(1.0, gt=0)
    max_attempts: int = Field(3, ge=1, description="Of one stage, before the job is quarantined.")
    hard_limit_s: int = Field(3600, ge=1, description="Longest time of one stage.")
    reap_s: float = Field(5.0, gt=0, description="Time between two searches for jobs that nobody works on.")
    ring_again_s: float = Field(60.0, gt=0, description="Time after which a waiting job is announced again.")

    retention_days: float = Field(30.0, ge=0, description="Age at which ended jobs are deleted; 0: never.")
    min_free_bytes: int = Field(0, ge=0, description="The eldest ended jobs are deleted to leave so much space.")
    public_url: str = Field("", description="Address of the API as its callers know it, for links in calls back.")
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Sign calls back, all of them each; separated by commas; none: no calls back."
    )
    webhook_allowed: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Hosts and networks that may be called although they are not public, separated by commas."
    )
    webhook_timeout_s: float = Field(10.0, gt=0, description="Time that a receiver gets to answer.")
    webhook_attempts: int = Field(12, ge=1)
    webhook_pause_s: float = Field(5.0, gt=0, description="Before the second attempt; doubles, up to an hour.")

    log_level: str = "INFO"

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; values that are not None override it.

        Raises
        ------
        SettingsError
            If a value cannot be used or a variable ``DIFFDP_…`` is not a setting.
        """
        known = {PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
        if unknown:
            raise SettingsError(f"unknown settings: {', '.join(unknown)}")
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            # The values stay out of the message: one of them may be a key
            reasons = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
            raise SettingsError(reasons) from None

    @field_validator("goals_dir", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return value or None

    @field_validator("model_dirs", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return tuple(filter(None, value.split(os.pathsep))) if isinstance(value, str) else value

    @field_validator(
        "api_keys", "oidc_algorithms", "trusted_proxies", "webhook_secrets", "webhook_allowed", mode="before"
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(filter(None, (key.strip() for key in value.split(",")))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(len(key.get_secret_value()) < SHORTEST_KEY for key in self.api_keys):
            raise ValueError(f"an API key needs at least {SHORTEST_KEY} characters")
        self._check_issuer()
        if not all(map(_is_webhook_secret, self.webhook_secrets)):
            raise ValueError(
                f"a webhook secret is {WEBHOOK_PREFIX} and base64 of "
                f"{SHORTEST_WEBHOOK_KEY} to {LONGEST_WEBHOOK_KEY} bytes"
            )
        for entry in (*(e for e in self.webhook_allowed if "/" in e), *self.trusted_proxies):
            ip_network(entry)
        if self.database_url and not self.database_url.startswith(DATABASES):
            raise ValueError(f"the job database must be one of {', '.join(DATABASES)}")
        if self.broker_url and not self.broker_url.startswith(BROKERS):
            raise ValueError(f"the broker must be one of {', '.join(BROKERS)}")
        if self.heartbeat_s * 3 > self.lease_s:
            raise ValueError("a lease must outlast three heartbeats")
        return self

    def _check_issuer(self) -> None:
        if not self.oidc_issuer:
            return
        parts = urlsplit(self.oidc_issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
            raise ValueError("the issuer of bearer tokens must be reached by https")
        if not self.oidc_audience:
            raise ValueError(f"without {PREFIX}OIDC_AUDIENCE tokens made for other services would be accepted")
        if not self.oidc_algorithms or not set(self.oidc_algorithms) <= SIGNATURES:
            raise ValueError(f"bearer tokens may be signed by {', '.join(sorted(SIGNATURES))}")

    @model_validator(mode="after")
    def _check_storage(self) -> Self:
        if self.storage_url and self.bucket is None:
            raise ValueError("the storage must be s3://BUCKET or s3://BUCKET/PREFIX")
        if bool(self.s3_access_key_id) != bool(self.s3_secret_access_key.get_secret_value()):
            raise ValueError("the id of an S3 access key and its secret belong together")
        if self.bucket is not None and self.min_free_bytes and not self.s3_capacity_bytes:
            raise ValueError("space can be kept free in a bucket only if its capacity is given")
        return self

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the API."""
        return _is_loopback(self.host.strip("[]"))

    @property
    def bucket(self) -> tuple[str, str] | None:
        """Name of the bucket and prefix in it, None if storage is a folder."""
        match = STORAGES.fullmatch(self.storage_url)
        return None if match is None else (match["bucket"], match["prefix"] or "")

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the job database."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'diffdp.sqlite'}"

    @property
    def visibility_timeout_s(self) -> int:
        """Time after which Redis hands a message to another worker; longer than any task may take.

        API and workers get it from here, so that it is the same for all.
        """
        return self.hard_limit_s + REDELIVERY_MARGIN_S

    def environment(self) -> Mapping[str, str]:
        """Return the environment for a child process that shall run with the same settings."""
        ours: dict[str, str] = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if name == "model_dirs":
                text = os.pathsep.join(str(path.absolute()) for path in value)
            elif isinstance(value, tuple):
                text = ",".join(v.get_secret_value() if isinstance(v, SecretStr) else v for v in value)
            else:
                text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            ours[PREFIX + name.upper()] = text
        return {**os.environ, **ours}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_webhook_secret(secret: SecretStr) -> bool:
    try:
        key = webhook_key(secret)
    except binascii.Error:
        return False
    return SHORTEST_WEBHOOK_KEY <= len(key) <= LONGEST_WEBHOOK_KEY


def webhook_key(secret: SecretStr) -> bytes:
    """Return the bytes that a webhook secret stands for."""
    return base64.b64decode(secret.get_secret_value().removeprefix(WEBHOOK_PREFIX), validate=True)
