"""Probabilities by OpenCV's dnn module: one image, then all of them, by the same network."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

answers = {}
for path in sys.argv[1:]:
    images = np.array(json.loads(Path(path).with_name("images.json").read_text()), np.uint8)
    net = cv2.dnn.readNetFromONNX(path)
    answers[path] = []
    for some in (images[:1], images):
        net.setInput(cv2.dnn.blobFromImages(list(some), ddepth=cv2.CV_8U))
        answers[path] += net.forward("probabilities").tolist()
print(json.dumps([cv2.__version__, answers]))
