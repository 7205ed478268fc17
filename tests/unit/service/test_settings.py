from pathlib import Path

import pytest

from service.settings import Settings, SettingsError
from service.wiring import build_api

KEY = "a-key-of-enough-length"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"HOME": "/home/somebody"})


def test_the_environment_is_read_and_options_override_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"DIFFDP_PORT": "9000", "DIFFDP_DEVICE": "cuda"})
    settings = Settings.load(device="cpu", host=None)
    assert (settings.port, settings.device, settings.host) == (9000, "cpu", "127.0.0.1")


def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"DIFFDP_PROT": "9000"})
    with pytest.raises(SettingsError, match="DIFFDP_PROT"):
        Settings.load()


def test_a_wrong_value_is_named_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"DIFFDP_API_KEYS": "short-secret"})
    with pytest.raises(SettingsError, match="at least 16") as error:
        Settings.load()
    assert "short-secret" not in str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "planning.example"])
def test_other_addresses_need_a_key(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs at least one key"):
        build_api(Settings.load(host=host, data_dir=tmp_path))
    assert not Settings.load(host=host, api_keys=KEY).is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_local_addresses_need_none(host: str) -> None:
    assert Settings.load(host=host).is_local


def test_a_child_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings.load(
        data_dir=tmp_path, model_dirs=(tmp_path / "a", tmp_path / "b"), api_keys=f"{KEY}, {KEY}2", lease_s=9,
        webhook_secrets="whsec_" + "c2Vj" * 8, webhook_allowed="planning.local, 10.0.0.0/8",
        oidc_issuer="https://login.example", oidc_audience="diffdp", trusted_proxies="10.0.0.1", metrics_need_key=True,
    )  # fmt: skip
    monkeypatch.setattr("os.environ", settings.environment())
    assert Settings.load() == settings


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"webhook_secrets": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"webhook_secrets": "no base64!"}, "24 to 64 bytes"),
        ({"webhook_allowed": "10.0.0.0/33"}, "10.0.0.0/33"),
        ({"database_url": "mysql://somewhere/jobs"}, "must be one of"),
        ({"broker_url": "amqp://somewhere"}, "must be one of"),
        ({"retention_days": -1}, "greater than or equal"),
        ({"oidc_issuer": "http://login.example", "oidc_audience": "diffdp"}, "by https"),
        ({"oidc_issuer": "https://login.example"}, "OIDC_AUDIENCE"),
        ({"oidc_issuer": "https://login.example", "oidc_audience": "diffdp", "oidc_algorithms": "HS256"}, "signed by"),
        ({"oidc_issuer": "https://login.example", "oidc_audience": "diffdp", "oidc_algorithms": "none"}, "signed by"),
        ({"trusted_proxies": "proxy.local"}, "proxy.local"),
        ({"storage_url": "s3:/studies"}, "must be s3://BUCKET"),
        ({"storage_url": "s3://studies", "s3_access_key_id": "id"}, "belong together"),
        ({"storage_url": "s3://studies", "min_free_bytes": 1}, "only if its capacity is given"),
    ],
)
def test_settings_that_cannot_be_used(given: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Settings.load(**given)


def test_redis_waits_longer_than_any_task() -> None:
    settings = Settings.load(hard_limit_s=7200)
    assert settings.visibility_timeout_s > settings.hard_limit_s


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().port = 1


@pytest.mark.parametrize(
    ("url", "bucket"),
    [("", None), ("s3://studies", ("studies", "")), ("s3://studies/clinic/a", ("studies", "clinic/a"))],
)
def test_where_studies_are_kept(url: str, bucket: tuple[str, str] | None) -> None:
    assert Settings.load(storage_url=url).bucket == bucket
