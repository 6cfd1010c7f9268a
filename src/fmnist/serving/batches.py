"""Images of several requests answered by one call of the model."""

import asyncio
from typing import Any

import numpy as np

from fmnist.inference.classifier import Classifier
from fmnist.serving.bodies import Bytes
from fmnist.serving.schema import Floats

BATCH = 64  # images of one call of the model, or those of one request


class Batches:
    """Answers for the images of several requests by one call of the model."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: asyncio.Queue[tuple[Bytes, asyncio.Future[Any]]] = asyncio.Queue()

    async def run(self, images: Bytes) -> tuple[Floats, Floats]:
        """Logits and probabilities, as of Classifier.run."""
        future: asyncio.Future[tuple[Floats, Floats]] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((images, future))
        return await future

    async def work(self) -> None:
        """Answer for ever: images that arrive during one call of the model go into the next."""
        while True:
            batch = [await self._waiting.get()]
            count = len(batch[0][0])
            while count < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                count += len(batch[-1][0])
            try:
                images = np.concatenate([each for each, _ in batch])
                outputs = await asyncio.to_thread(self._classifier.run, images)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            start = 0
            for each, future in batch:
                if not future.done():  # its client may be gone
                    part = slice(start, start + len(each))
                    future.set_result((outputs[0][part], outputs[1][part]))
                start += len(each)
