"""What an upload may cost."""

from typing import Self

from pydantic import BaseModel, ConfigDict

from service.settings import Settings


class Limits(BaseModel):
    """Limits of the intake; `max_ratio` is that of expanded to packed bytes of an archive."""

    model_config = ConfigDict(frozen=True)

    max_body_bytes: int
    max_expanded_bytes: int
    max_ratio: float
    max_files: int
    timeout_s: int
    memory_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take the limits from the settings."""
        return cls(
            max_body_bytes=settings.max_body_bytes,
            max_expanded_bytes=settings.max_expanded_bytes,
            max_ratio=settings.max_ratio,
            max_files=settings.max_files,
            timeout_s=settings.examine_timeout_s,
            memory_bytes=settings.examine_memory_bytes,
        )
