"""Settings: `params.yaml` as frozen, checked models.

`conf/` says what each setting is for, this package its type, range and rules across fields. It imports nothing heavy,
so a wrong value is reported at once.
"""

from vitpipe.config.reading import check_settings, load_settings
from vitpipe.config.sections import Data, Model, Settings, Task, Train
from vitpipe.config.tasks import (
    TASKS,
    ClassifyModel,
    ClassifySettings,
    ClassifyTask,
    ClassifyTrain,
    SupersampleModel,
    SupersampleSettings,
)

__all__ = [
    "TASKS",
    "ClassifyModel",
    "ClassifySettings",
    "ClassifyTask",
    "ClassifyTrain",
    "Data",
    "Model",
    "Settings",
    "SupersampleModel",
    "SupersampleSettings",
    "Task",
    "Train",
    "check_settings",
    "load_settings",
]
