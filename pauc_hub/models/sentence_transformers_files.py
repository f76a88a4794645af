"""What sentence-transformers reads of a model folder: that an embedding is timm's pooled features.

Without these files it takes the mean over the last feature map or all tokens, which is another
embedding for every network that pools otherwise, such as a ViT with a class token.
"""

import json
from typing import Any

MODULES = "modules.json"
TRANSFORMER = "sentence_bert_config.json"


def sentence_transformers_files() -> dict[str, bytes]:
    """The same for all networks; transformers' wrapper of timm names the pooled features
    `pooler_output`.
    """
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    ]
    transformer = {
        "transformer_task": "feature-extraction",
        "modality_config": {"image": {"method": "forward", "method_output_name": "pooler_output"}},
        "module_output_name": "sentence_embedding",
    }
    return {MODULES: _to_json(modules), TRANSFORMER: _to_json(transformer)}


def _to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
