// The ways to bring a picture: photos, the camera, drawing. Each ends in RGBA pixels.

const LARGEST = 1024; // pixels of the longest side that are looked at
const byId = (id) => document.getElementById(id);

// The pixels of anything that can be drawn on a canvas, no larger than LARGEST.
export function pixelsOf(source, width, height, canvas = document.createElement("canvas")) {
  const factor = Math.min(1, LARGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * factor));
  canvas.height = Math.max(1, Math.round(height * factor));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function complain(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

// Photos chosen, dropped or pasted anywhere. `begin()` comes before; `taken(pixels)` gets each, one after
// the other, and gives {show, words}: how to show its answer, and the promise of it in words.
// `refused(why)` comes where none can be read.
export function photos(begin, taken, refused) {
  const [preview, tiles] = [byId("preview"), byId("photos")];
  let [urls, latest] = [[], 0];
  const see = (url) => {
    preview.src = url ?? "";
    preview.hidden = !url;
    byId("drop").classList.toggle("full", Boolean(url));
    byId("choose").textContent = url ? "Another photo" : "Choose a photo";
  };
  const tile = (name, url, show) => {
    const [label, input, image, words] = ["label", "input", "img", "span"].map((tag) => document.createElement(tag));
    Object.assign(input, { type: "radio", name: "one", checked: !tiles.childElementCount });
    Object.assign(image, { src: url, alt: name });
    words.textContent = "…";
    input.addEventListener("click", () => {
      see(url);
      show();
    });
    label.append(input, image, words);
    tiles.append(label);
    return words;
  };
  const take = async (files) => {
    if (!files.length) return;
    const mine = ++latest;
    let bad = "";
    begin();
    complain("photo-trouble", "");
    urls.forEach((url) => URL.revokeObjectURL(url));
    urls = [];
    tiles.replaceChildren();
    tiles.hidden = files.length === 1;
    for (const file of files) {
      const bitmap = await createImageBitmap(file).catch(() => null);
      if (mine !== latest) return bitmap?.close();
      if (!bitmap) {
        bad += `${file.name || "This"} is not an image that this browser can read. `;
        continue;
      }
      const pixels = pixelsOf(bitmap, bitmap.width, bitmap.height);
      bitmap.close();
      const url = URL.createObjectURL(file);
      const { show, words } = taken(pixels);
      if (urls.push(url) === 1) {
        see(url);
        show();
      }
      const place = tile(file.name, url, show);
      place.textContent = await words.catch(() => "no answer");
      if (mine !== latest) return;
    }
    if (bad) bad += "Try a JPEG, PNG or WebP.";
    if (urls.length) return complain("photo-trouble", bad);
    see(null);
    refused(bad);
  };
  const file = byId("file");
  file.addEventListener("change", () => take([...file.files]));
  file.addEventListener("click", () => (file.value = "")); // the same file once more is a change too
  addEventListener("paste", (event) => {
    const pasted = [...event.clipboardData.files].filter((each) => each.type.startsWith("image/"));
    if (pasted.length) event.preventDefault();
    take(pasted);
  });
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  };
  addEventListener("dragenter", over);
  addEventListener("dragover", over);
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
}

// Gives stop(), which is to be called when the panel is left.
export function camera(taken) {
  const [video, still] = [byId("video"), byId("still")];
  const [start, take, end] = [byId("camera-start"), byId("camera-take"), byId("camera-stop")];
  let stream;
  const show = (live) => {
    video.hidden = take.hidden = end.hidden = !live;
    start.hidden = live;
    byId("camera-idle").hidden = live || !still.hidden;
  };
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
    show(false);
  };
  start.addEventListener("click", async () => {
    complain("camera-trouble", "");
    try {
      if (!navigator.mediaDevices) throw new DOMException("", "InsecureError");
      start.disabled = true;
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
      if (byId("camera").hidden) return stop(); // left while the browser was asking
      video.srcObject = stream;
      await video.play();
    } catch (error) {
      stop();
      const why = {
        NotAllowedError: "The camera was not allowed. You can allow it in the browser's address bar",
        NotFoundError: "No camera was found. Connect one",
        InsecureError: "Browsers give the camera to https:// and localhost pages only. Open the page there",
      };
      complain("camera-trouble", `${why[error.name] ?? "The camera does not start. Close other programs that use it"}, or choose a photo.`);
      return;
    } finally {
      start.disabled = false;
    }
    still.hidden = true;
    show(true);
    take.focus();
  });
  take.addEventListener("click", () => {
    const pixels = pixelsOf(video, video.videoWidth, video.videoHeight, still);
    still.hidden = false;
    stop();
    start.textContent = "Take another";
    start.focus();
    taken(pixels);
  });
  end.addEventListener("click", () => {
    stop();
    start.focus();
  });
  return stop;
}

// Each stroke that ends is an answer: `drawn(pixels)`, or drawn(null) for empty paper.
export function drawing(drawn) {
  const [paper, pen] = [byId("paper"), byId("pen")];
  const context = paper.getContext("2d", { willReadFrequently: true });
  const strokes = [];
  let stroke = null;
  let [x, y] = [paper.width / 2, paper.height / 4]; // of the keyboard's pen

  const paint = () => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, paper.width, paper.height);
    context.lineJoin = context.lineCap = "round";
    for (const { points, size, shade, fill } of stroke ? [...strokes, stroke] : strokes) {
      context.strokeStyle = context.fillStyle = `rgb(${shade}, ${shade}, ${shade})`;
      context.lineWidth = size;
      context.beginPath();
      context.moveTo(...points[0]);
      for (const point of points) context.lineTo(...point);
      context.stroke();
      if (fill) context.fill();
    }
  };
  const answer = () => {
    paint();
    drawn(strokes.length ? context.getImageData(0, 0, paper.width, paper.height) : null);
  };
  const begin = (point) => {
    const number = (id) => Number(byId(id).value);
    stroke = { points: [point], size: number("brush"), shade: number("shade"), fill: byId("fill").checked };
    paint();
  };
  const end = () => {
    if (!stroke) return;
    strokes.push(stroke);
    stroke = null;
    pen.classList.remove("down");
    answer();
  };

  const place = (event) => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * paper.width, ((event.clientY - box.top) / box.height) * paper.height];
  };
  paper.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    paper.setPointerCapture(event.pointerId);
    pen.hidden = true;
    end();
    begin(place(event));
  });
  paper.addEventListener("pointermove", (event) => {
    if (!stroke || !paper.hasPointerCapture(event.pointerId)) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const each of all.length ? all : [event]) stroke.points.push(place(each));
    paint();
  });
  for (const name of ["pointerup", "pointercancel"]) paper.addEventListener(name, end);

  const showPen = () => {
    pen.hidden = false;
    pen.style.left = `${(100 * x) / paper.width}%`;
    pen.style.top = `${(100 * y) / paper.height}%`;
  };
  paper.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    if (step) {
      x = Math.min(paper.width, Math.max(0, x + step[0]));
      y = Math.min(paper.height, Math.max(0, y + step[1]));
      if (stroke) {
        stroke.points.push([x, y]);
        paint();
      }
    } else if (event.key === " ") {
      if (stroke) end();
      else {
        begin([x, y]);
        pen.classList.add("down");
      }
    } else return;
    event.preventDefault();
    showPen();
  });
  paper.addEventListener("blur", () => {
    end();
    pen.hidden = true;
  });
  byId("undo").addEventListener("click", () => {
    strokes.pop();
    answer();
  });
  byId("clear").addEventListener("click", () => {
    strokes.length = 0;
    answer();
  });
  paint();
}
