"""Settings of all tests."""

from hypothesis import settings

settings.register_profile("project", deadline=None)  # no test asserts a time, and machines are busy
settings.load_profile("project")
