"""Open Images v6: triplet, phrase and predicate evaluation."""
