"""Words: the lexicon, lemmas, and phrases as both the caption parser and the matching of classes see them."""
