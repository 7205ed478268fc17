"""The files of the deployment agree with each other and with the settings."""

import re
from pathlib import Path

import pytest
import yaml

from service.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(COMPOSE)["services"]
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_stack_asks_for_no_key_of_one_kind_but_cannot_serve_without_any() -> None:
    api = SERVICES["api"]["environment"]
    assert api["DIFFDP_API_KEYS"] == "${DIFFDP_API_KEYS:-}"
    # The API refuses to start without a key where others reach it, which it knows by this address
    assert not Settings(host=api["DIFFDP_HOST"]).is_local


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "env_file" in service])
def test_no_service_gets_secrets_that_only_others_need(name: str) -> None:
    withheld = {variable for variable, value in SERVICES[name]["environment"].items() if value == ""}
    others = {"POSTGRES_PASSWORD", "GRAFANA_PASSWORD"} | ({"DIFFDP_API_KEYS"} if name != "api" else set())
    assert withheld == others


def test_every_variable_of_the_stack_is_explained() -> None:
    assert set(re.findall(r"\$\{(\w+)[:-]", COMPOSE)) <= set(EXAMPLE)


def test_the_example_can_be_used_as_it_is_but_for_its_secrets(monkeypatch) -> None:
    ours = {name: value for name, value in EXAMPLE.items() if name.startswith(PREFIX)}
    assert ours.keys() <= {PREFIX + name.upper() for name in Settings.model_fields}
    monkeypatch.setattr("os.environ", {"HOME": "/home/somebody", **ours})
    assert Settings.load().storage_url == ""


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    if name not in {"postgres", "redis"}:
        # Those two change to a user of their own, for which they need some
        assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_ports_are_for_this_machine_unless_told(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+", service["image"])
    for port in service.get("ports", ()):
        assert re.match(r"\$\{PUBLISH\w*:-(127\.0\.0\.1:\d+|443)\}:", port)


def test_base_images_are_pinned() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-", dockerfile, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    assert set(re.findall(r"^FROM (\S+) AS", dockerfile, re.MULTILINE)) <= stages | {"${PYTHON_IMAGE}"}
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} <= stages


def test_files_that_are_mounted_are_there() -> None:
    mounted = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    }
    assert mounted
    assert all((ROOT / path).exists() for path in mounted)
