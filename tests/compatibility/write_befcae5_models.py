"""The MLflow models of tests/compatibility/befcae5: part of write_befcae5.py, kept to be read."""

import json
import re
import shutil
import tarfile
from pathlib import Path

from tests.compatibility.befcae5_workplace import (
    DATA,
    MADE_IN,
    ROOT,
    furnish,
    run,
)
from tests.compatibility.write_befcae5_cases import MODELS, TEMPERATURE
from tests.compatibility.write_befcae5_documents import (
    Draw,
    asked,
    texts,
    write_json,
)


def write_models(scratch: Path, whole: Path) -> None:
    """One registered model's folder for each adapter, and the one that the search registered."""
    from components.registry import open_tracker

    place, models = furnish(scratch / "registry"), scratch / "registry" / "models"
    models.mkdir()
    tracker = open_tracker("mlflow", f"sqlite:///{place}/mlflow.db")
    tracker.ensure_experiment("befcae5", "")
    search = tracker.start_search("befcae5", run_name="adapters", config={}, params={}, tags={})
    for name in MODELS:
        adapter = shutil.copytree(DATA / "adapters" / name, place / "adapters" / name)
        shutil.copytree(DATA / "tokenizer", adapter / "tokenizer")
        (adapter / "calibration.json").write_text(json.dumps({"temperature": TEMPERATURE}) + "\n")
        trial = tracker.start_trial(search, trial_name=name, params={}, tags={})
        made = tracker.register_adapter(
            trial,
            adapter_folder=adapter,
            model_name=f"befcae5-{name}",
            metrics={},
            params={},
            description="",
            tags={},
        )
        (found,) = place.glob(f"artifacts/**/{made.model_id}/artifacts")
        shutil.copytree(found, models / name)
    (found,) = whole.glob("artifacts/**/m-*/artifacts")
    shutil.copytree(found, models / "searched")
    for file in models.glob("*/MLmodel"):
        # MLflow takes these files from the model's own folder and never looks there.
        text = re.sub(
            r"(?m)^( +uri: )/.*/adapter$", rf"\1{MADE_IN}/adapter", file.read_text("utf-8")
        )
        for folder in (place, whole, ROOT):
            text = text.replace(str(folder), MADE_IN)
        file.write_text(text, encoding="utf-8")
    with tarfile.open(DATA / "mlflow_models.tar.xz", "w:xz", preset=9) as archive:
        for path in sorted(models.rglob("*")):
            if path.is_file():
                archive.add(path, str(path.relative_to(place)), filter=anonymous)
    write_answers(place)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.mode = 0, 0o644
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def write_answers(place: Path) -> None:
    from tests.compatibility.test_befcae5 import ANSWER

    documents = [{"id": row["id"], "text": row["text"]} for row in texts("model", 5)]
    documents.append({"id": "long", "text": " ".join(Draw("long").words(60))})
    questions = [
        {key: row[key] for key in ("id", "query", "candidates", "supports")}
        for row in asked("model", 4)
    ]
    content = {"asked": {"classification": documents, "multiple_choice": questions}}
    (place / "model_answers.json").write_text(json.dumps(content))
    done = run(place, "-c", ANSWER, "its own", this_code=False)
    assert done.returncode == 0, done.stderr[-4000:]
    answers = json.loads(done.stdout.splitlines()[-1])["answers"]
    for name, found in answers.items():
        assert not isinstance(found, str), (name, found)
        print(name, [answer["label"] for answer in found])
    write_json("model_answers.json", content | {"answers": answers})
