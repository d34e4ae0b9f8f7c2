// Draws the newest picture and, over it, boxes; says nothing of how old they are. Knows nothing of requests.

// Okabe and Ito's colours, which colour-blind people can tell apart.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];
const names = new Map();

/** The head of a message, as JSON, and its picture as an ImageBitmap, or null where there is none. */
export async function decode(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const jpeg = new Uint8Array(buffer, 4 + length);
  const picture = jpeg.length ? await createImageBitmap(new Blob([jpeg], {type: "image/jpeg"})) : null;
  return {head, picture};
}

/** Draw at the resolution of the screen. which: "tracks", "detections" or "none". */
export function draw(canvas, {head, picture}, which) {
  const [width, height] = head.size;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const scale = (canvas.clientWidth || 640) / width;
  const dots = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale * dots);
  canvas.height = Math.round(height * scale * dots);
  const pen = canvas.getContext("2d");
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.fillStyle = "#05080a";
  pen.fillRect(0, 0, width * scale, height * scale);
  if (picture) {
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture, 0, 0, width * scale, height * scale);
  }
  if (which === "tracks" && head.tracks.length) {
    for (const [left, top, right, bottom, score, name, number, bridged] of head.tracks) {
      const sides = [left, top, right, bottom].map((side) => side * scale);
      const texts = bridged > 0
        ? [`#${number} ${name}, unseen ${bridged.toFixed(1)} s`, `#${number} unseen ${bridged.toFixed(1)} s`]
        : [`#${number} ${name} ${score.toFixed(2)}`, `#${number} ${score.toFixed(2)}`];
      box(pen, sides, colour(name), texts, bridged > 0);
    }
  } else if (which !== "none") {
    for (const [left, top, right, bottom, score, name] of head.boxes) {
      const sides = [left, top, right, bottom].map((side) => side * scale);
      box(pen, sides, colour(name), [`${name} ${score.toFixed(2)}`, score.toFixed(2)], false);
    }
  }
  return head.tracks.length && which === "tracks" ? head.tracks.length : which === "none" ? 0 : head.boxes.length;
}

function colour(name) {
  if (!names.has(name)) names.set(name, COLOURS[names.size % COLOURS.length]);
  return names.get(name);
}

/** texts: the longer one is written where it does not reach far beyond the box. */
function box(pen, [left, top, right, bottom], paint, texts, isDashed) {
  for (const [line, stroke] of [[5, "rgba(0, 0, 0, .65)"], [2.5, paint]]) {
    pen.lineWidth = line;
    pen.strokeStyle = stroke;
    pen.setLineDash(isDashed ? [9, 6] : []);
    pen.strokeRect(left, top, right - left, bottom - top);
  }
  pen.setLineDash([]);
  pen.font = "600 13px system-ui, sans-serif";
  const text = texts.find((one) => pen.measureText(one).width < Math.max(80, 1.6 * (right - left))) || texts[1];
  const width = pen.measureText(text).width + 8;
  const edge = pen.canvas.width / (window.devicePixelRatio || 1);
  const x = Math.max(0, Math.min(left - 1, edge - width));
  const y = top >= 20 ? top - 19 : top + 1;
  pen.fillStyle = paint;
  pen.fillRect(x, y, width, 18);
  pen.fillStyle = paint === "#0072b2" ? "#fff" : "#101417";
  pen.fillText(text, x + 4, y + 13.5);
}
