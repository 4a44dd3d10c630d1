"""A program of its own that answers by an exported folder's loader, and says what it imported:

    python -E -P answering.py FOLDER BACKBONE BATCHES ANSWERS

BATCHES is a JSON file, lists of texts; ANSWERS becomes one: the logits of each batch, of a language
model what it writes after the texts of the first, the names of all imported modules, and the
versions. It is run as a file, never imported: nothing of this project
may be there when it answers.
"""

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path

LOADERS = {"classifier.py": "Classifier", "writer.py": "Writer"}
"""File -> its class."""


def answer(folder: str, backbone: str, batches: Path, answers: Path) -> None:
    """See the module."""
    (place,) = (path for path in LOADERS if (Path(folder) / path).is_file())
    spec = importlib.util.spec_from_file_location("loader", Path(folder) / place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded = getattr(module, LOADERS[place])(folder, backbone)
    texts = json.loads(batches.read_text(encoding="utf-8"))
    found = {
        "logits": [loaded.logits(batch).tolist() for batch in texts],
        "completions": loaded.complete(texts[0]) if hasattr(loaded, "complete") else [],
        "modules": sorted(sys.modules),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "transformers", "peft")
            if name in sys.modules
        },
    }
    answers.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    answer(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
