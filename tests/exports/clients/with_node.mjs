// Probabilities by onnxruntime for Node or for the web (WebAssembly): one image, then all of them.
// node with_node.mjs PACKAGES onnxruntime-node|onnxruntime-web MODEL…
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const [packages, name, ...paths] = process.argv.slice(2);
const ort = createRequire(join(packages, "package.json"))(name);
const answers = {};
for (const path of paths) {
  const images = JSON.parse(readFileSync(join(dirname(path), "images.json")));
  const [height, width] = [images[0].length, images[0][0].length];
  const session = await ort.InferenceSession.create(readFileSync(path));
  answers[path] = [];
  for (const some of [images.slice(0, 1), images]) {
    const shape = [some.length, height, width];
    const given = new ort.Tensor("uint8", Uint8Array.from(some.flat(2)), shape);
    const { probabilities } = await session.run({ images: given });
    const [rows, classes] = probabilities.dims;
    for (let row = 0; row < rows; row += 1) {
      answers[path].push([...probabilities.data.slice(row * classes, (row + 1) * classes)]);
    }
  }
}
console.log(JSON.stringify([name, answers]));
