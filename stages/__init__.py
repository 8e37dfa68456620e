"""The stages of dvc.yaml, one script each, run as `python -m stages.NAME` from the repository's root."""

import os
import sys
from importlib.util import find_spec

if not (find_spec("torch") and find_spec("pydantic")):
    sys.exit(
        f"vitpipe's packages are not installed for {sys.executable}: "
        "run make repro, or make setup and then source .venv/bin/activate"
    )

# Threads that wait for work sleep instead of spinning: where other programs run beside, training is
# several times faster. Read when torch is loaded; changes no result.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
