import os
import string

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


def _tokenizer(template: str | None):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        word: number
        for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if template is not None:
        specials = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]") if name in template]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=specials
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture(scope="session")
def bert_like():
    return _tokenizer("[CLS] $A [SEP]")


@pytest.fixture(
    scope="session",
    params=["[CLS] $A [SEP]", "[CLS] $A", None],
    ids=["bert", "llama", "no_special_tokens"],
)
def any_tokenizer(request):
    return _tokenizer(request.param)
