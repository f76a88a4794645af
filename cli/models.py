"""`pauc models`: what -m takes."""

import json
from dataclasses import asdict

from pauc_hub.cli import options


def models(as_json: options.Json = False) -> None:
    """List the models that -m takes by name."""
    from pauc_hub.models.catalog import available_models

    entries = available_models()
    if as_json:
        print(json.dumps({"models": [asdict(entry) for entry in entries]}))
        return
    widest = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{entry.name:{widest}}  {entry.description}")
