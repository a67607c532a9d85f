"""Parts that all evaluators share: matching, precision, overlaps, predictions by class."""
