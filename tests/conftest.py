"""Tests keep their code cache to themselves."""

import os
import tempfile

os.environ.setdefault("TINYAD_CACHE_DIR", tempfile.mkdtemp(prefix="tinyad-tests-"))
