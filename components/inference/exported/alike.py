"""Whether an exported folder answers as the adapter does: its own loader is run in a process that
imports nothing of this project, on texts alone and padded together, and logits are compared.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.errors import WorkFailed
from components.inference.exported.beside import BACKBONE, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from components.inference.classifier import Classifier

TOLERANCE, OF_OWN_DIFFERENCE = 1e-6, 2.0
"""Largest difference of two logits in float32, or so many times the adapter's own where rounding
alone moves its logits further.
"""
VERIFICATION = "verification.json"
OURS = ("components", "pipelines")
SENTENCE = (
    "the people of a town wrote one long text about space and sports , and every day then two or "
    "three of them read a document about politics in it ; "
)
SAMPLE_TEXTS = tuple(
    " ".join((SENTENCE * 30).split()[start : start + words])
    for start, words in ((0, 3), (7, 29), (2, 64), (11, 180), (5, 700))
)
"""Shorter and longer ones, each another part of the same; the last is longer than common windows of
local attention.
"""


@dataclass(frozen=True)
class Verification:
    """How far the folder's logits are from the adapter's: the largest absolute difference over so
    many texts, each alone and all of them padded together, in float32 on the CPU.
    """

    largest_difference: float
    tolerance: float
    own_difference: float
    """How far the adapter's logits of a text alone are from its own of the same text padded with
    the others: what rounding does to such logits.
    """
    texts: int
    versions: dict[str, str]


def verify(
    classifier: "Classifier",
    folder: Path,
    *,
    tolerance: float | None = None,
    texts: Sequence[str] = SAMPLE_TEXTS,
) -> Verification:
    """Compare, and leave what came of it in the folder. `classifier`: in float32 on the CPU;
    `tolerance` None: TOLERANCE, or what rounding does.

    Raises WorkFailed where the folder does not answer alone, imports this project, differs by more
    than `tolerance`, or writes other completions.
    """
    batches = [list(texts), *([text] for text in texts)]
    alone = _answers_alone(folder, _backbone_folder(classifier, folder), batches)
    if ours := [name for name in alone["modules"] if name.partition(".")[0] in OURS]:
        raise WorkFailed(f"the exported loader imports {ours[0]} of this project", resumable=False)
    expected = [row.tolist() for batch in batches for row in _logits(classifier, batch)]
    found = [row for batch in alone["logits"] for row in batch]
    if alone["completions"] != _completions(classifier, texts):
        raise WorkFailed(
            "the exported folder writes something else after a sample prompt than the adapter "
            "does; nothing was written",
            resumable=False,
        )
    difference = _largest_difference(found, expected)
    own = _largest_difference(expected[: len(texts)], expected[len(texts) :])
    allowed = max(TOLERANCE, OF_OWN_DIFFERENCE * own) if tolerance is None else tolerance
    verified = Verification(difference, allowed, own, len(texts), alone["versions"])
    if not difference <= allowed:
        raise _too_far(verified)
    write_json(folder / VERIFICATION, asdict(verified))
    return verified


def _too_far(found: Verification) -> WorkFailed:
    difference, own = found.largest_difference, found.own_difference
    return WorkFailed(
        f"the exported folder's logits differ from the adapter's by {difference:.3g}, and at most "
        f"{found.tolerance:g} is allowed; nothing was written. The adapter's own differ by "
        f"{own:.3g} from a text alone to the same text padded with others: where rounding "
        f"is the cause, give --tolerance {difference * 2:.0e}",
        resumable=False,
    )


def _logits(classifier: "Classifier", texts: Sequence[str]) -> "Tensor":
    """The adapter's own (B, C), padded as one batch; of a language model, of the next token."""
    import torch

    from components.inference.generation import next_logits
    from components.inference.outputs import batches_of_logits, sequences_of

    encoded = sequences_of(
        classifier.task,
        texts,
        classifier.tokenizer,
        max_tokens=classifier.max_tokens,
        cutting=classifier.cutting,
    )
    if classifier.task.generates:
        return next_logits(classifier.model, [ids for (ids,) in encoded])
    batches = batches_of_logits(
        [classifier.model], classifier.tokenizer, encoded, batch_size=len(texts)
    )
    ((members, (logits_BC,)),) = batches
    return logits_BC[torch.tensor(members).argsort()]


def _completions(classifier: "Classifier", texts: Sequence[str]) -> list[str]:
    """What the adapter writes after each text; nothing where it is no language model."""
    if not classifier.task.generates:
        return []
    return [answer["completion"] for answer in classifier.answers(texts)]


def _largest_difference(found: list[list[float]], expected: list[list[float]]) -> float:
    """nan where a logit is none."""
    import numpy as np

    return float(np.abs(np.array(found) - np.array(expected)).max())


def _backbone_folder(classifier: "Classifier", folder: Path) -> Path:
    from components.backbones.loading import weights_folder

    own = folder / BACKBONE
    return own if own.is_dir() else weights_folder(classifier.backbone)


def _answers_alone(folder: Path, backbone: Path, batches: list[list[str]]) -> dict[str, Any]:
    """What answering.py writes; it is run by this Python, without its paths, on the CPU, and leaves
    nothing in the folder.
    """
    program = Path(__file__).with_name("answering.py")
    with TemporaryDirectory(prefix="prefixprop-") as scratch:
        given, answers = Path(scratch) / "batches.json", Path(scratch) / "answers.json"
        given.write_text(json.dumps(batches), encoding="utf-8")
        places = [folder.absolute(), backbone.absolute(), given, answers]
        done = subprocess.run(
            [sys.executable, "-B", "-E", "-P", program, *places],
            cwd=scratch,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise WorkFailed(
                f"the exported folder does not answer by its own loader: {last[:300]}; nothing was "
                "written",
                resumable=False,
            )
        found: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
    return found
