"""Relations in a photo: the detector for users, drawing, serving and relation features."""
