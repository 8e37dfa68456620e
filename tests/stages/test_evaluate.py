"""The stage evaluate scores the saved model, and beside it the epochs that it is the mean of."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from stages import evaluate
from vitpipe.files import write_json
from vitpipe.tasks import open_part
from vitpipe.tasks.base import scoring_task
from vitpipe.tasks.evaluation import score_baselines, score_parts
from vitpipe.training.checkpoint import save_weights


@pytest.mark.parametrize("averaged", [(), (7, 12)])
def test_epochs_that_were_averaged(packed, settings, monkeypatch, averaged):
    monkeypatch.chdir(packed.parents[1])
    chosen, reports, models = settings(), packed.parents[1] / "reports", packed.parents[1] / "models"
    task, parts = scoring_task(chosen), [open_part(chosen, packed / part) for part in ("train", "val", "test")]
    write_json(reports / "baseline.json", score_baselines(task, *parts))
    columns = ["epoch", *(f"{part}_{name}" for part in ("train", "val") for name in ("loss", "psnr", "bicubic_psnr"))]
    pd.DataFrame({name: [1, 2] for name in columns}).to_csv(reports / "curve.csv", index=False)
    nets = {}
    for epoch in (1, *averaged):
        nets[epoch] = task.build().eval()
        with torch.no_grad():
            for tensor in nets[epoch].parameters():
                tensor += torch.randn_like(tensor) / 20
        name = f"parts/epoch-{epoch:02d}" if epoch > 1 else "model"
        metadata = {"epoch": epoch, "settings": chosen.model_dump(mode="json"), "classes": []}
        save_weights(models / f"{name}.safetensors", nets[epoch].state_dict(), metadata)
    evaluate.main(chosen)
    metrics = json.loads((reports / "metrics.json").read_text())
    own = score_parts(task, [(1, nets.pop(1))], 1, parts[2])[0]
    assert {name: metrics[name] for name in own} == own
    assert metrics.get("parts", []) == score_parts(task, nets.items(), len(nets), parts[2])
    assert ("parts" in metrics["protocol"][0]) == ("parts" in metrics) == bool(averaged)
    assert list(metrics)[-1] == "protocol"
    curve = np.load(reports / "figures/curve.npz")  # marks these epochs
    assert ("averaged" in curve) == bool(averaged)
    assert curve.get("averaged", np.array([])).tolist() == [*averaged]
