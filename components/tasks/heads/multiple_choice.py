"""Multiple choice as the paper has it for WikiHop: a score at each candidate's `[ent]`, summed over
a question's chunks; the softmax runs over the candidates.

    <s> [question] q [/question] [ent] candidate [/ent] [ent] candidate [/ent] ...  </s> support
    </s> </s> support </s> ...

The facts a newcomer gets wrong: the four special tokens are no rows of the backbone's vocabulary
but a trained table of four beside it, so that every frozen row stays as it is; and the global rows
(everything up to the last `[/ent]`) follow from the ids, so that nobody has to pass them.
Shapes: N sequences (chunks), B questions, P prefix, T text tokens, S = P + T, D hidden, R
candidates of a sequence (the most in the batch), C candidates of a question (likewise).
"""

from typing import Any

import torch
from torch import Tensor, nn

from components.backbones.family import Rows
from components.tasks.multiple_choice import MultipleChoiceHeadConfig
from components.tasks.outputs import NO_CANDIDATE
from components.tasks.question_chunks import SPECIAL_TOKENS

ENTITY, ENTITY_END = SPECIAL_TOKENS.index("[ent]"), SPECIAL_TOKENS.index("[/ent]")


class MultipleChoiceHead(nn.Module):
    """The four special tokens' embeddings (4, D) in the order of SPECIAL_TOKENS, and the score, D
    -> 1 without a bias. Float32, whatever the backbone's precision.
    """

    def __init__(self, *, hidden_size: int, vocab_size: int, init_std: float) -> None:
        super().__init__()
        self.first_special_id = vocab_size
        self.special_tokens = nn.Embedding(len(SPECIAL_TOKENS), hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)
        for module in (self.special_tokens, self.score):
            nn.init.normal_(module.weight, std=init_std)

    def text(
        self, backbone: Any, input_ids_BT: Tensor, attention_mask_BT: Tensor
    ) -> dict[str, Tensor]:
        words = backbone.get_input_embeddings()
        special_NT = self._special(input_ids_BT)
        embeddings_NTD = words(input_ids_BT.masked_fill(special_NT >= 0, 0))
        places = (special_NT >= 0).nonzero(as_tuple=True)
        trained = self.special_tokens(special_NT[places]).to(embeddings_NTD.dtype)
        ends_NT = special_NT == ENTITY_END
        length = input_ids_BT.shape[1]
        last_N1 = length - 1 - ends_NT.flip(1).long().argmax(dim=1, keepdim=True)
        before_NT = torch.arange(length, device=input_ids_BT.device) <= last_N1
        return {
            "embeddings_BTD": embeddings_NTD.index_put(places, trained),
            "global_BT": attention_mask_BT * (before_NT & ends_NT.any(dim=1, keepdim=True)),
        }

    def read_rows(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor, *, rows: Rows
    ) -> Tensor | None:
        place_NR, is_candidate_NR = self._candidates(input_ids_BT)
        # Filled up with the first token, which is nobody's candidate: a row that stood here twice
        # would get its gradient twice.
        return rows.prefix + place_NR.where(
            is_candidate_NR, attention_mask_BT.argmax(dim=1, keepdim=True)
        )

    def logits(
        self,
        hidden_BSD: Tensor,
        input_ids_BT: Tensor,
        attention_mask_BT: Tensor,
        *,
        rows: Rows,
        example_index: Tensor | None,
    ) -> Tensor:
        place_NR, is_candidate_NR = self._candidates(input_ids_BT)
        chosen_NRD = hidden_BSD.gather(
            1, (rows.prefix + place_NR)[..., None].expand(-1, -1, hidden_BSD.shape[-1])
        )
        scores_NR = self.score(chosen_NRD.float()).squeeze(-1).masked_fill(~is_candidate_NR, 0.0)
        if example_index is None:
            return scores_NR.masked_fill(~is_candidate_NR, NO_CANDIDATE)
        questions = torch.arange(int(example_index.max()) + 1, device=example_index.device)
        # A product, not index_add: on a GPU that adds in whatever order, and answers would differ
        # from run to run.
        member_BN = (example_index == questions[:, None]).to(scores_NR.dtype)
        chunks_BC = member_BN @ is_candidate_NR.to(scores_NR.dtype)
        _check_chunks(chunks_BC, member_BN)
        return (member_BN @ scores_NR).masked_fill(chunks_BC == 0, NO_CANDIDATE)

    def _special(self, input_ids_BT: Tensor) -> Tensor:
        """Index into SPECIAL_TOKENS of each token, negative for the others. Ids are vocab_size +
        index, or negative: index - 4, as in the prepared data, which know no backbone.
        """
        count = len(SPECIAL_TOKENS)
        return (input_ids_BT + count).where(input_ids_BT < 0, input_ids_BT - self.first_special_id)

    def _candidates(self, input_ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Places (N, R) of `[ent]` in the text, in order, and which of them are real."""
        is_candidate_NT = self._special(input_ids_BT) == ENTITY
        most = int(is_candidate_NT.sum(dim=1).max())
        if not bool(is_candidate_NT.any(dim=1).all()):
            raise ValueError(
                "every sequence of a multiple-choice batch needs at least one [ent] (id "
                f"{self.first_special_id + ENTITY} or {ENTITY - len(SPECIAL_TOKENS)}) "
                "before its supports; build sequences with components.tasks.question_chunks"
            )
        place_NR = is_candidate_NT.to(torch.int8).argsort(dim=1, descending=True, stable=True)[
            :, :most
        ]
        return place_NR, is_candidate_NT.gather(1, place_NR)


def _check_chunks(chunks_BC: Tensor, member_BN: Tensor) -> None:
    """Each candidate of a question stands in all of its chunks."""
    count_B1 = member_BN.sum(dim=1, keepdim=True)
    if not bool(((chunks_BC == 0) | (chunks_BC == count_B1)).all()) or not bool(
        (count_B1 > 0).all()
    ):
        raise ValueError(
            "example_index must number the questions 0, 1, ..., and every chunk of a question must "
            "repeat all of its candidates"
        )


def build(config: MultipleChoiceHeadConfig, backbone: Any, dropout: float) -> MultipleChoiceHead:
    """A fresh head; as in the release it has no dropout."""
    return MultipleChoiceHead(
        hidden_size=backbone.config.hidden_size,
        vocab_size=backbone.get_input_embeddings().num_embeddings,
        init_std=float(getattr(backbone.config, "initializer_range", 0.02)),
    )
