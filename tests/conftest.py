"""Set-up that must come before scikit-learn is imported."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import torch

# the suite shares its cores, and one thread makes results the same bits everywhere
torch.set_num_threads(1)
