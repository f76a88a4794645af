"""`embed_files` of a folder photos/ into the table beside it, and how to stop it."""

from pathlib import Path
from typing import Any

import torch

from pauc_hub.embedding.embed_files import Summary, embed_files
from pauc_hub.sources import open_source


def stop_after(encoder: Any, batches: int, error: BaseException | type[BaseException]) -> None:
    """From then on, the encoder raises."""
    encode = encoder.encode

    def encode_or_stop(batch: torch.Tensor, space: str) -> torch.Tensor:
        if len(encoder.batches) >= batches:
            raise error
        answer: torch.Tensor = encode(batch, space)
        return answer

    encoder.encode = encode_or_stop


def embed(photos: Path, encoder: Any, **options: Any) -> Summary:
    return embed_files(
        encoder,
        open_source(photos),
        photos.with_name("photos.parquet"),
        **{"quiet": True} | options,
    )


def left(photos: Path) -> list[str]:
    return sorted(path.name for path in photos.parent.iterdir())
