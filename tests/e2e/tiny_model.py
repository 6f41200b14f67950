"""A copy of the tiny checkpoint with room for 4096 tokens: tiny_model.py FOLDER"""
import json
import shutil
import sys
from pathlib import Path

import support

folder = Path(sys.argv[1])
shutil.copytree(support.TINY, folder)
config = json.loads((folder / "config.json").read_text())
(folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
