"""What the project says to DVC: the pipeline file, the lock, its repair, and garbage in the cache."""
