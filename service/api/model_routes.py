"""The models that serve here."""

from fastapi import APIRouter

from model.checkpoint.manifest import Manifest
from service.api.context import PartsOf
from service.errors import ModelNotFound

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", summary="List models")
def list_models(parts: PartsOf) -> list[Manifest]:
    """Return the manifests of all models."""
    return list(parts.manifests.values())


@router.get("/{name}", summary="Look at a model")
def get_model(name: str, parts: PartsOf) -> Manifest:
    """Return a model's manifest."""
    if name not in parts.manifests:
        raise ModelNotFound("there is no model of this name")
    return parts.manifests[name]
