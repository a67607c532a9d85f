"""The label factory: captions, their triplets, relation candidates and pseudo labels."""
