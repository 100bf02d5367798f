"""Search, the part that needs no store: analysis of text, scores, fusion. Pure functions over plain values."""
