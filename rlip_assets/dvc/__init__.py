"""DVC: the pipeline file, the lock, its repair, the cache and its garbage."""
