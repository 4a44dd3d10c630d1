"""How a prefix of hidden states starts: drawn, at zero, or from the embeddings of a text.

The fact a newcomer gets wrong: only the first layer's rows start from a text. Every other layer's
are added to states that carry the text already, and start at zero.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.settings import Config


class PrefixStart(Config):
    """Settings of the start, for methods that train the prefix's rows themselves."""

    init: Literal["normal", "zeros", "text"] = "normal"
    """Where the prefix starts: `normal` draws every row, `zeros` starts all of them at zero, `text`
    takes the backbone's input embeddings of init_text for the first layer and zeros for the
    others.
    """
    init_text: Annotated[str, Field(max_length=100_000)] | None = None
    """Text whose first prefix_length tokens (special tokens left out; a shorter one is repeated)
    the prefix starts from. Only with init text.
    """

    @property
    def starting_text(self) -> str | None:
        """See MethodConfig."""
        return self.init_text if self.init == "text" else None

    @model_validator(mode="after")
    def _text_where_it_is_read(self) -> "PrefixStart":
        if self.init == "text" and not (self.init_text or "").strip():
            raise ValueError(
                "init text starts from the words in init_text, which has none; write them, or set "
                "init to normal"
            )
        if self.init != "text" and self.init_text is not None:
            raise ValueError(
                f"init_text is read with init text only, and init is {self.init}; set init to "
                "text, or remove init_text"
            )
        return self
