"""Facts of English that several rooms need: a lexicon, and the lemmas of nouns, verbs and relations."""
