"""The stages of dvc.yaml, one script each, run as `python -m stages.NAME` from the repository's root."""

import sys
from importlib.util import find_spec

if not (find_spec("torch") and find_spec("pydantic")):
    sys.exit(
        f"vitpipe's packages are not installed for {sys.executable}: "
        "run make repro, or make setup and then source .venv/bin/activate"
    )
