"""Probabilities by LiteRT's own package, without TensorFlow: one image, then all of them."""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import __version__
from ai_edge_litert.interpreter import Interpreter

answers = {}
for path in sys.argv[1:]:
    images = np.array(json.loads(Path(path).with_name("images.json").read_text()), np.uint8)
    run = Interpreter(path).get_signature_runner()
    parts = [run(images=some)["probabilities"] for some in (images[:1], images)]
    answers[path] = np.concatenate(parts).tolist()
print(json.dumps([__version__, answers]))
