"""A Swin Transformer of a few thousand weights, known to timm as `test_swin`, which has none so
small of its own.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer import SwinTransformer

__all__ = ["test_swin"]  # timm appends to it

CFG = {
    "input_size": (3, 64, 64),
    "fixed_input_size": True,
    "pool_size": (2, 2),
    "num_classes": 0,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "first_conv": "patch_embed.proj",
    "classifier": "head.fc",
}
default_cfgs = generate_default_cfgs({"test_swin": CFG})


@register_model
def test_swin(pretrained: bool = False, **kwargs: Any) -> SwinTransformer:  # noqa: PT028 (no test, but timm's name)
    options: dict[str, Any] = {
        "img_size": 64,
        "window_size": 4,
        "embed_dim": 16,
        "depths": (1, 1),
        "num_heads": (2, 4),
    }
    network: SwinTransformer = build_model_with_cfg(
        SwinTransformer, "test_swin", pretrained, **(options | kwargs)
    )
    return network


test_swin.__test__ = False  # type: ignore[attr-defined]  # pytest takes its name for a test's
