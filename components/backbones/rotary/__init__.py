"""Stock transformers with rotary positions: the families `decoder` and `encoder`."""
